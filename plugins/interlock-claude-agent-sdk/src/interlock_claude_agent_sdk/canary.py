"""
The canary: tool uses that must be refused, driven through the real Claude Code by a model that is a script.

The places that Interlock stands in are Claude Code's, and they change with its releases. What would then run ungoverned
is found here, before anything is asked of a real model.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server
from claude_agent_sdk import tool as sdk_tool

from interlock.canaries import DeadCanaryError, cage, sing
from interlock_claude_agent_sdk.client import query
from interlock_claude_agent_sdk.options import govern
from interlock_claude_agent_sdk.script import Script, say, use

MODEL = "claude-sonnet-4-5"

TIMEOUT_S = 60
"""So long Claude Code may take for what takes it about a second."""

_RULES = [{"id": "never", "tools": ["Bash", "canary.never"], "verdict": "deny"}]


def canary(cli_path: str | Path | None = None) -> None:
    """
    Have Claude Code use tools that must be refused: one of its own, and one of this process.

    It takes a second or two and touches nothing of the host's: books in memory, files in a directory of their own,
    a model on the loopback interface. It may be called where an event loop runs.

    Args:
        cli_path: Which Claude Code; None: the one that the SDK brings.

    Raises:
        PluginError: one of them ran, or its model was not told why it did not, or what is allowed did not run.
    """
    sing("claude-agent-sdk", partial(anyio.run, _song, cli_path))


async def _song(cli_path: str | Path | None) -> None:
    ran: list[str] = []

    @sdk_tool("never", "Is never allowed.", {})
    async def never(_: dict[str, Any]) -> dict[str, Any]:
        ran.append("canary.never")
        return {"content": [{"type": "text", "text": "ran"}]}

    @sdk_tool("ever", "Is always allowed.", {})
    async def ever(_: dict[str, Any]) -> dict[str, Any]:
        ran.append("canary.ever")
        return {"content": [{"type": "text", "text": "ran"}]}

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        mark = Path(directory, "ran")
        uses = [
            use("Bash", command=f"touch {mark}", description="sing"),
            use("mcp__canary__never"),
            use("mcp__canary__ever"),
        ]
        with Script(uses, [say("done")]) as script:
            options = ClaudeAgentOptions(
                model=MODEL,
                tools=["Bash"],
                mcp_servers={"canary": create_sdk_mcp_server("canary", tools=[never, ever])},
                cwd=directory,
                cli_path=cli_path,
                env=script.env(directory),
                stderr=lambda _: None,
            )
            with anyio.fail_after(TIMEOUT_S):
                await _run(options)
            told = script.told()
        if await anyio.Path(mark).exists():
            ran.append("Bash")
    refused = [sum(f"{name} is denied" in one for one in told) for name in ("Bash", "canary.never")]
    if ran != ["canary.ever"] or refused != [1, 1]:
        raise DeadCanaryError(
            "a governed run does not refuse what the policy denies, and only that "
            f"(ran: {', '.join(ran) or 'nothing'}; told: {told})"
        )


async def _run(options: ClaudeAgentOptions) -> None:
    with cage(_RULES) as governor, governor.session("canary", agent="canary") as session:
        async for _ in query(prompt="sing", options=govern(options, session=session)):
            pass
