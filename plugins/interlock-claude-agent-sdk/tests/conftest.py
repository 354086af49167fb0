"""What the tests of this adapter share: the real Claude Code with a model that is a script, and books."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, Message, create_sdk_mcp_server
from claude_agent_sdk import tool as sdk_tool

from interlock import Governor, Session
from interlock.store import tickets
from interlock.testing import Recorder
from interlock_claude_agent_sdk import Script, govern, query, say, use

MODEL = "claude-sonnet-4-5"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as this adapter does."""
    return "asyncio"


class Desk:
    """
    What one test has: books, a directory that Claude Code works in, and a tool of this process with an effect.

    Attributes:
        path: Of the test.
        url: The books.
        recorder: All that was recorded.
        paid: The amounts that the tool `bank.pay` has paid.
        messages: What the last run has given.
        bank_says: What `bank.pay` says besides.
    """

    approve = staticmethod(tickets.approve)
    deny = staticmethod(tickets.deny)
    pending = staticmethod(tickets.pending)

    def __init__(self, path: Path) -> None:
        """Begin with nothing."""
        self.path = path
        self.url = f"sqlite:///{path / 'interlock.db'}"
        self.work = path / "work"
        self.work.mkdir()
        self.recorder = Recorder()
        self.paid: list[Any] = []
        self.messages: list[Message] = []
        self.bank_says = ""

    def touch(self, name: str) -> dict[str, Any]:
        """Return a use of Bash that leaves a file behind."""
        return use("Bash", command=f"touch {name}; echo touched {name}", description="touch it")

    @property
    def left(self) -> list[str]:
        """The files that tools have left behind, in order."""
        return sorted(file.name for file in self.work.iterdir())

    def bank(self) -> Any:
        """Return a server of this process whose tool pays."""

        @sdk_tool("pay", "Pay an amount.", {"amount": int})
        async def pay(arguments: dict[str, Any]) -> dict[str, Any]:
            self.paid.append(arguments["amount"])
            said = f"paid {arguments['amount']} {self.bank_says}".strip()
            return {"content": [{"type": "text", "text": said}]}

        return create_sdk_mcp_server("bank", tools=[pay])

    def options(self, script: Script, **options: Any) -> ClaudeAgentOptions:
        """Return the options of an ungoverned run that talks to *script*."""
        env = {**script.env(self.path / "home"), **options.pop("env", {})}
        plain = {"model": MODEL, "tools": ["Bash"], "cwd": self.work, "stderr": lambda _: None}
        return ClaudeAgentOptions(**{**plain, **options, "env": env})

    async def run(
        self,
        script: Script,
        prompt: str = "go",
        *,
        governed: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[str]:
        """Have Claude Code work on *prompt*, and return what the model was told of tools."""
        self.messages = []
        made = govern(self.options(script, **options), **(governed or {}))
        with anyio.fail_after(60):
            async for message in query(prompt=prompt, options=made):
                self.messages.append(message)
        return script.told()

    @contextmanager
    def open(
        self, *rules: Mapping[str, Any], default: str = "deny", **options: Any
    ) -> Iterator[tuple[Governor, Session]]:
        """Open a governor with a policy of these *rules*, in which queries are allowed, and a session."""
        within = {key: options.pop(key) for key in ("dry_run", "on_ask") if key in options}
        policy = self.policy(*rules, default=default, **options.pop("policy", {}))
        options["plugins"] = [self.recorder, *options.get("plugins", ())]
        with (
            Governor(self.url, policy=policy, **options) as governor,
            governor.session("case", agent="desk", user="u-17", **within) as session,
        ):
            yield governor, session

    @staticmethod
    def policy(*rules: Mapping[str, Any], default: str = "deny", **more: Any) -> dict[str, Any]:
        """Return a policy of these *rules*, after which queries are allowed."""
        every = [*rules, {"tools": ["chat"], "verdict": "allow"}]
        named = [{"id": f"rule-{number}", **rule} for number, rule in enumerate(every)]
        return {"version": 1, "name": "test", "default": default, "rules": named, **more}

    @staticmethod
    async def until(is_so: Callable[[], bool]) -> None:
        """Wait until something is so; what never becomes so ends the test."""
        with anyio.fail_after(60):
            while not is_so():  # noqa: ASYNC110 - of other processes there is no event to wait for
                await anyio.sleep(0.02)

    def booked(self, *, queries: bool = False) -> list[tuple[str, ...]]:
        """
        Return what was recorded of calls: (tool, verdict), (tool, outcome) or (tool, outcome, error).

        Args:
            queries: Whether those of models are among them.
        """
        found: list[tuple[str, ...]] = []
        for event in self.recorder.events:
            what = getattr(event, "verdict", None) or getattr(event, "outcome", None)
            tool = getattr(event, "tool", "")
            if what is not None and (queries or tool != "chat"):
                error = getattr(event, "error_type", None)
                found.append((tool, str(what), *([error] if error else [])))
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give the test a desk of its own."""
    return Desk(tmp_path)


@pytest.fixture
def done() -> list[dict[str, Any]]:
    """Give the turn with which the scripts end."""
    return [say("done")]
