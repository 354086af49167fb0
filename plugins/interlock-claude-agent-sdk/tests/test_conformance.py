"""The adapter passes the suite that every adapter has to pass, with the real Claude Code and tools of this process."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, PermissionResultAllow
from mcp.types import ToolAnnotations

from interlock import Session, tool_of
from interlock.testing import AdapterHarness, AdapterSuite, Ran
from interlock.testing import Script as Wanted
from interlock_claude_agent_sdk import (
    Script,
    create_sdk_mcp_server,
    govern,
    query,
    say,
    use,
)


class Harness(AdapterHarness):
    """Claude Code, with a model that says what is written."""

    readme = Path(__file__).parents[1] / "README.md"
    lacks = {  # noqa: RUF012 - as users write it
        "pause": "Claude Code has no pause that could be trusted with an approval: a ticket waits in the store, and "
        "the model makes its call again.",
    }

    def run(self, script: Wanted) -> Ran:
        """Run *script*."""
        return self.awaited(lambda: self._run(script), script)

    def offer_unknown(self, session: Session) -> None:
        """Offer options that bring hooks of others."""
        govern(ClaudeAgentOptions(model="m", plugins=[{"type": "local", "path": "x"}]))

    def name(self, tool: str) -> str:
        """Return what policies call a tool of the server."""
        return f"suite.{tool}"

    async def _run(self, wanted: Wanted) -> Ran:
        turns = [
            [use(f"mcp__suite__{name}", **arguments) for name, arguments in turn]
            for turn in wanted.turns
        ]
        error: Exception | None = None
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
            Script(*turns, [say("done")]) as script,
        ):
            options = ClaudeAgentOptions(
                model="claude-sonnet-4-5",
                tools=[],
                mcp_servers={"suite": _server(wanted.tools)},
                cwd=home,
                env=script.env(home),
                include_partial_messages=wanted.is_streamed,
                setting_sources=[],
                can_use_tool=_yes,
                stderr=lambda _: None,
            )
            run: Callable[..., Any] = claude_agent_sdk.query
            if wanted.is_governed:
                known = [tool for tool in wanted.tools if tool_of(tool) is not None]
                options, run = govern(options, session=wanted.session, tools=known), query
            try:
                async for _ in run(prompt="go", options=options):
                    pass
            except Exception as raised:  # noqa: BLE001 - the suite judges it
                error = raised
            return Ran(told=tuple(script.told()), error=error)


async def _yes(*_: Any) -> PermissionResultAllow:
    return PermissionResultAllow()


def _server(tools: tuple[Callable[..., Any], ...]) -> Any:
    """Return a server of this process with these tools; those that only read run at once in Claude Code."""
    return create_sdk_mcp_server("suite", tools=[_tool(function) for function in tools])


def _tool(function: Callable[..., Any]) -> Any:
    async def handler(given: dict[str, Any]) -> dict[str, Any]:
        answer = function(**given)
        text = await answer if inspect.isawaitable(answer) else answer
        return {"content": [{"type": "text", "text": text}]}

    name = function.__name__
    hints = ToolAnnotations(read_only_hint=True)
    return claude_agent_sdk.tool(name, f"Does {name}.", {"amount": int}, annotations=hints)(handler)


class TestAdapter(AdapterSuite):
    """Claude Code."""

    harness = Harness
