"""Where the suite for adapters works: a store, tools whose effects are seen by every process, and other processes."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import msgspec

from interlock._governor import Governor
from interlock._session import Session
from interlock._ticket import Ticket
from interlock.events import CallDecided, CallFinished, Recorded, TicketOpened
from interlock.hookspecs import hookimpl
from interlock.store import tickets
from interlock.testing._checks import check
from interlock.testing.harness import AdapterHarness, Ran, Script, Turn
from interlock.testing.recorder import Recorder

_PROCESS_S = 120.0
"""What another process takes longer for is taken to hang."""

Body = Callable[["Site", int], Awaitable[str]]


class Order(msgspec.Struct, frozen=True):
    """
    What another process is told to do: run `pay`.

    Attributes:
        file: Where the harness is.
        harness: Its name.
        url: The store.
        effects: Where effects are noted.
        session: The session that goes on; None for one of its own.
        turns: What the model wants.
        policy: Of a session of its own.
        resumed: The state of the run that goes on.
        is_traced: Whether spans are wanted.
        times: So often it is run.
    """

    file: str
    harness: str
    url: str
    effects: str
    session: str | None
    turns: tuple[Turn, ...]
    policy: dict[str, Any] | None = None
    resumed: str | None = None
    is_traced: bool = False
    times: int = 1


class Told(msgspec.Struct, frozen=True):
    """What came of one run in another process, and all effects up to its end."""

    told: tuple[str, ...]
    error: str | None
    is_paused: bool
    effects: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """What another process says that it has done."""

    runs: tuple[Told, ...]
    spans: tuple[dict[str, Any], ...] = ()


class _Ended:
    """A plugin that says when the first call of each tool is settled."""

    def __init__(self) -> None:
        self.events: defaultdict[str, threading.Event] = defaultdict(threading.Event)

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        if isinstance(recorded.event, CallFinished):
            self.events[recorded.event.tool].set()


class Site:
    """
    What one test has.

    Attributes:
        harness: The adapter's.
        url: The store.
        recorder: All that this process has recorded.
        governor: The one that is open.
    """

    governor: Governor
    session: Session

    def __init__(self, harness: AdapterHarness) -> None:
        self.harness = harness
        # What the framework leaves open must not hide what the test has found.
        self._directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        path = Path(self._directory.name)
        self.url = f"sqlite:///{path / 'interlock.db'}"
        self.recorder = Recorder()
        self._ended = _Ended()
        self._effects = path / "effects"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    @contextmanager
    def open(self, rules: Iterable[Mapping[str, Any]] = (), **more: Any) -> Iterator[Self]:
        """Open a governor whose policy allows what none of *rules* speaks of, and a session."""
        plugins = [self.recorder, self._ended, *more.pop("plugins", ())]
        with (
            Governor(self.url, policy=self.policy(rules, **more), plugins=plugins) as governor,
            governor.session("suite", agent="suite") as session,
        ):
            self.governor, self.session = governor, session
            yield self

    def policy(self, rules: Iterable[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """Return the policy, with the tools by the names that the adapter has for them."""

        def named(one: Mapping[str, Any]) -> dict[str, Any]:
            names = {
                key: [self.harness.name(tool) for tool in one[key]] for key in _NAMES & set(one)
            }
            return {**one, **names}

        sections = {key: [named(one) for one in section] for key, section in more.items()}
        numbered = [{"id": f"rule-{number}", **named(one)} for number, one in enumerate(rules)]
        return {"version": 1, "name": "suite", "default": "allow", "rules": numbered, **sections}

    def run(self, tools: Iterable[Callable[..., Any]], *turns: Turn, **more: Any) -> Ran:
        """Have the harness run what the model wants."""
        return self.harness.run(Script(tuple(tools), turns, self.session, **more))

    def tool(self, name: str, body: Body) -> Any:
        """Return a function, of the kind that the harness wants, that notes its call and does as *body* says."""

        async def later(amount: int) -> str:
            self.note(f"{name} {amount}")
            return await body(self, amount)

        def plain(amount: int) -> str:
            return anyio.run(later, amount)

        tool: Any = later if self.harness.is_async else plain
        tool.__name__ = tool.__qualname__ = name
        tool.__doc__ = f"{name.capitalize()} an amount."
        return tool

    def pay(self, name: str = "pay") -> Any:
        """Return a tool that notes its call, and says so."""
        return self.tool(name, functools.partial(_paid, name))

    def note(self, effect: str) -> None:
        """Note *effect* where every process sees it."""
        with self._effects.open("a") as file:
            file.write(f"{effect}\n")

    def effects(self) -> list[str]:
        """Return what tools have done, in any process."""
        return self._effects.read_text().splitlines() if self._effects.exists() else []

    def booked(self, *tools: str) -> list[tuple[str, ...]]:
        """Return what this process has recorded of *tools*: (tool, verdict), (tool, outcome) or (…, error)."""
        plain = {self.harness.name(tool): tool for tool in tools} | {tool: tool for tool in tools}
        found: list[tuple[str, ...]] = []
        for event in self.recorder.events:
            if isinstance(event, CallDecided) and event.tool in plain:
                found.append((plain[event.tool], str(event.verdict)))
            elif isinstance(event, CallFinished) and event.tool in plain:
                error = [event.error_type] if event.error_type else []
                found.append((plain[event.tool], str(event.outcome), *error))
        return found

    def settled(self, tool: str) -> threading.Event:
        """Return what is set once a call of *tool* is settled."""
        return self._ended.events[self.harness.name(tool)]

    def ticket(self) -> Ticket:
        """Return the one ticket that was opened."""
        opened = [one for one in self.recorder.events if isinstance(one, TicketOpened)]
        check(
            len(opened) == 1,
            f"{len(opened)} tickets were opened for one call that a human has to approve",
        )
        return self.governor.read(tickets.get, opened[0].ticket_id)

    def check_sound(self) -> None:
        """Check that the books are in order, and that no call is left in doubt."""
        for report in self.governor.verify():
            check(report.problem is None, f"the books do not add up: {report.problem}")
            check(not report.in_doubt, f"calls are left in doubt: {report.in_doubt}")

    def elsewhere(self, turns: Iterable[Turn], **more: Any) -> Report:
        """Have a new process make the harness, and run `pay` with it."""
        order = Order(
            file=inspect.getfile(type(self.harness)),
            harness=type(self.harness).__qualname__,
            url=self.url,
            effects=str(self._effects),
            turns=tuple(turns),
            **more,
        )
        command = [sys.executable, "-m", "interlock.testing._process"]
        ran = subprocess.run(  # noqa: S603 - our own
            command,
            input=msgspec.json.encode(order),
            capture_output=True,
            check=False,
            timeout=_PROCESS_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        check(ran.returncode == 0, f"the other process failed:\n{ran.stderr.decode()}")
        return msgspec.json.decode(ran.stdout.splitlines()[-1], type=Report)


_NAMES = frozenset({"tools", "suggest"})
"""Where a policy has names of tools."""


async def _paid(name: str, _: Site, amount: int) -> str:
    return f"{name} of {amount} is done"


def harness_at(file: str, name: str) -> AdapterHarness:
    """Make the harness called *name* that is in *file*."""
    spec = importlib.util.spec_from_file_location("interlock_adapter_harness", file)
    check(spec is not None and spec.loader is not None, f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[spec.name] = module  # type: ignore[union-attr]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    made: AdapterHarness = getattr(module, name)()
    return made
