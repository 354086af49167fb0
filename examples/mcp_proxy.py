"""
A proxy before an MCP server: any client, any server, and no code in either.

The bank is a server over stdio that knows nothing of Interlock; the client starts `interlock mcp` in its place. What
the policy allows is paid, what it does not name is refused, and what it asks about is paid once a person has said yes,
in another process. No key and no network are needed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from mcp import Client, StdioServerParameters, stdio_client, types

POLICY = """\
version: 1
name: bank
rules:
  - {id: reads, tools: [bank.balance], verdict: allow}
  - {id: small, tools: [bank.pay], when: {argument: amount, at_most: 50}, verdict: allow}
  - {id: large, tools: [bank.pay], verdict: ask, approvers: [payments-oncall]}
"""

BANK = '''\
from mcp.server.mcpserver import MCPServer

server = MCPServer("bank", log_level="WARNING")


@server.tool()
def balance() -> str:
    """Say what is there, in dollars."""
    return "1200 dollars"


@server.tool()
def pay(amount: int) -> str:
    """Pay, in dollars."""
    return f"{amount} dollars paid"


@server.tool()
def close_account() -> str:
    """Close the account."""
    return "closed"


server.run("stdio")
'''


def interlock(*arguments: str) -> list[str]:
    """Return the command line of `interlock` in this environment."""
    return [sys.executable, "-m", "interlock", *arguments]


def proxied(place: Path, store: str) -> StdioServerParameters:
    """Write down policy and server, and say how a client starts the one behind the other."""
    (place / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (place / "bank.py").write_text(BANK, encoding="utf-8")
    options = ["--policy", str(place / "policy.yaml"), "--name", "bank", "--store", store]
    command = interlock("mcp", *options, "--", sys.executable, str(place / "bank.py"))
    return StdioServerParameters(command=command[0], args=command[1:])


async def call(client: Client, tool: str, **arguments: object) -> types.CallToolResult:
    """Make a call as a model would, and print what it reads."""
    result = await client.call_tool(tool, dict(arguments))
    told = " ".join(part.text for part in result.content if isinstance(part, types.TextContent))
    print(f"{tool}({', '.join(f'{name}={value}' for name, value in arguments.items())}): {told}")
    return result


async def main() -> None:
    """Make calls of each kind, with a person in between."""
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        place = Path(stack.enter_context(made))
        store = f"sqlite:///{place / 'interlock.db'}"
        log = stack.enter_context((place / "proxy.log").open("w", encoding="utf-8"))
        async with Client(stdio_client(proxied(place, store), errlog=log)) as client:
            await call(client, "balance")
            await call(client, "pay", amount=20)
            await call(client, "close_account")
            waits = await call(client, "pay", amount=900)
            ticket = (waits.meta or {})["interlock/refusal"]["ticket"]
            answer = interlock(
                "approvals", "approve", ticket, "--as", "ann", "--yes", "--db", store
            )
            await asyncio.to_thread(subprocess.run, answer, check=True, stdout=subprocess.DEVNULL)
            print("ann says yes, in another process")
            await call(client, "pay", amount=900)


if __name__ == "__main__":
    asyncio.run(main())
