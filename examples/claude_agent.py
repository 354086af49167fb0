"""Claude Code, governed: it is refused a command, pays once a person says yes, and its query is in the ledger."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, tool

from interlock import Governor
from interlock.store import tickets, usage
from interlock_claude_agent_sdk import Script, canary, govern, query, say, use

POLICY = {
    "version": 1,
    "name": "payments",
    "rules": [
        {"id": "queries", "tools": ["chat"], "verdict": "allow"},
        {"id": "pay", "tools": ["bank.pay"], "verdict": "ask", "approvers": ["payments-oncall"]},
    ],
}


@tool("pay", "Pay an amount, in dollars.", {"amount": int})
async def pay(given: dict[str, Any]) -> dict[str, Any]:
    """Pay."""
    return {"content": [{"type": "text", "text": f"{given['amount']} dollars paid"}]}


def approve(url: str) -> None:
    """Say yes to what waits, as a person in another process would."""
    with Governor(url) as governor:
        for ticket in governor.read(tickets.pending):
            governor.write(tickets.approve, ticket.id, by="ann", groups=["payments-oncall"])


async def main() -> None:
    """Let a scripted model try a command, ask for a payment, and make it."""
    canary()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        url = f"sqlite:///{Path(directory) / 'interlock.db'}"

        def approved(_: object) -> list[dict[str, Any]]:
            approve(url)
            return [use("mcp__bank__pay", amount=900)]

        script = Script(
            [use("Bash", command="cat /etc/passwd", description="Look around")],
            [use("mcp__bank__pay", amount=900)],
            approved,
            [say("Paid.")],
        )
        with (
            script,
            Governor(url, policy=POLICY) as governor,
            governor.session("invoice-7", agent="payer"),
        ):
            options = ClaudeAgentOptions(
                model="claude-sonnet-4-5",
                tools=["Bash"],
                mcp_servers={"bank": create_sdk_mcp_server("bank", tools=[pay])},
                cwd=directory,
                env=script.env(directory),
            )
            async for _ in query(prompt="Pay the invoice.", options=govern(options)):
                pass
            for told in script.told():
                print(told)
            for row in governor.read(usage.summary, by=["model"]):
                print(*row.of, row.input_tokens, row.output_tokens, row.cost_usd)


if __name__ == "__main__":
    asyncio.run(main())
