"""What the tests of this adapter share: the real SDK, with a model that says what a test wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, FunctionTool, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from interlock import Governor, Session
from interlock.store import tickets
from interlock.testing import Recorder

set_tracing_disabled(disabled=True)  # the SDK's own traces would go to its makers


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as the SDK does."""
    return "asyncio"


class Desk:
    """
    What one test has: a store, agents with a scripted model, and a tool with an effect.

    Attributes:
        url: The store.
        recorder: All that was recorded.
        paid: The amounts that the tool `pay` has paid.
    """

    approve = staticmethod(tickets.approve)
    deny = staticmethod(tickets.deny)

    def __init__(self, url: str) -> None:
        """Begin with nothing."""
        self.url = url
        self.recorder = Recorder()
        self.paid: list[Any] = []
        self._numbers = count(1)

    def pay(self, name: str = "pay", **options: Any) -> FunctionTool:
        """Return a tool that pays."""

        async def pay(amount: int) -> str:
            self.paid.append(amount)
            return f"paid {amount}"

        return function_tool(pay, name_override=name, **options)

    def agent(
        self,
        tools: Iterable[Any],
        *turns: Iterable[tuple[str, Mapping[str, Any] | str]],
        **options: Any,
    ) -> Agent[Any]:
        """Return an ungoverned agent whose model makes the calls of each turn at once, and then says `done`."""
        numbers = options.pop("numbers", self._numbers)
        steps = [
            [function_call(name, sent, call_id=f"call-{next(numbers)}") for name, sent in turn]
            for turn in turns
        ]
        model = ScriptedModel([*steps, [assistant_message("done")]])
        return Agent(name=options.pop("name", "desk"), tools=list(tools), model=model, **options)

    @contextmanager
    def open(
        self, default: str = "deny", rules: Iterable[Mapping[str, Any]] = (), **options: Any
    ) -> Iterator[tuple[Governor, Session]]:
        """Open a governor with a policy of these *rules*, where model calls are allowed, and a session."""
        named = [{"id": f"rule-{number}", **rule} for number, rule in enumerate(rules)]
        chat = {"id": "chat", "tools": ["chat"], "verdict": "allow"}
        plain = {"version": 1, "name": "test", "default": default, "rules": [*named, chat]}
        plain |= options.pop("sections", {})
        policy = options.pop("policy", plain)
        options["plugins"] = [self.recorder, *options.get("plugins", ())]
        with (
            Governor(self.url, policy=policy, **options) as governor,
            governor.session("case", agent="desk") as session,
        ):
            yield governor, session

    @staticmethod
    def told(result: Any) -> list[Any]:
        """Return what the tools of a run gave to the model, in order."""
        return [item.output for item in result.new_items if item.type == "tool_call_output_item"]

    def booked(self, *, models: bool = False) -> list[tuple[str, ...]]:
        """Return what was recorded of calls: (tool, verdict), (tool, outcome) or (tool, outcome, error)."""
        found: list[tuple[str, ...]] = []
        for event in self.recorder.events:
            what = getattr(event, "verdict", None) or getattr(event, "outcome", None)
            if what is not None and (models or getattr(event, "tool", "") != "chat"):
                error = getattr(event, "error_type", None)
                found.append((getattr(event, "tool", ""), str(what), *([error] if error else [])))
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give the test a desk of its own."""
    return Desk(f"sqlite:///{tmp_path / 'interlock.db'}")
