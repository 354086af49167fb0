"""
The kill switch: how long `halt()` takes where 10,000 sessions are open, beside a raw commit.

Timed in turn, in one run, on SQLite and on Postgres:

- raw: one insert of an event-sized row and its commit, by the driver alone, one caller.
- one: `Governor.halt` of an organisation with one open session; the release that follows it is not timed. Left out
  with `--quick`.
- many: the same of an organisation with 10,000 open sessions (1,000 with `--quick`).
- busy: the same while eight threads make governed calls in sessions of another organisation, for all of which the
  halt has to wait.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from _floor import raw_commit
from _harness import Cell, Options, Sample, directory, interleaved, show, timed
from _tools import POLICY, refund
from sqlalchemy import Connection

from interlock import Governor, HaltedError, Session

sys.path.insert(0, str(Path(__file__).parents[1]))

from one_budget import migrated

from tests import postgres_server

MANY = 10_000
FEW = 1_000
CALLERS = 8


class Switch:
    """A store with so many open sessions of one organisation, which is halted and released again and again."""

    def __init__(self, url: str, sessions: int, stack: ExitStack) -> None:
        self._governor = stack.enter_context(Governor(url, policy=POLICY))
        self._sessions = [self._governor.session("s", agent="bench", org="acme")]
        self._sessions += [
            self._governor.session(f"s-{number}", agent="bench", org="acme")
            for number in range(sessions - 1)
        ]
        for start in range(0, sessions, 1_000):
            self._governor.write(_open, self._sessions[start : start + 1_000])
        self.times_s: list[float] = []

    def halting(self, seconds: float) -> Sample:
        """Halt and release for so many seconds; see that nothing is admitted in between."""
        clock, times = time.perf_counter, list[float]()
        begun = clock()
        while clock() - begun < seconds:
            before = clock()
            halted = self._governor.halt(org="acme", reason="drill", by="bench")
            times.append(clock() - before)
            self._governor.release(halted.halt.id, reason="over", by="bench")
        self.times_s += times
        return Sample(times, sum(times))

    def busy(self, seconds: float) -> Sample:
        """Do the same while others call."""
        with self._calls():
            return self.halting(seconds)

    def check(self) -> None:
        """See that it does stop them."""
        halted = self._governor.halt(org="acme", reason="drill", by="bench")
        for session in self._sessions[:: max(1, len(self._sessions) // 10)]:
            try:
                with session.attach():
                    refund("o-1", 20)
            except HaltedError:
                continue
            raise AssertionError("a call was admitted after the halt")
        self._governor.release(halted.halt.id, reason="over", by="bench")

    @contextmanager
    def _calls(self) -> Iterator[None]:
        over = threading.Event()
        ready = threading.Barrier(CALLERS + 1)

        def call() -> None:
            with self._governor.session("other", agent="bench", org="globex"):
                refund("o-1", 20)
                ready.wait()
                while not over.is_set():
                    refund("o-1", 20)

        threads = [threading.Thread(target=call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        ready.wait()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def _open(connection: Connection, sessions: list[Session]) -> None:
    for session in sessions:
        # Opened for good, without being entered.
        session._id = session._open(connection).session_id  # noqa: SLF001


def main() -> None:
    """Fill, measure and show."""
    options = Options(__doc__, parts=("sqlite", "postgres"))
    many = FEW if options.quick else MANY
    sizes = {"one": 1, "many": many, "busy": many}
    if options.quick:
        del sizes["one"]
    with directory() as place, ExitStack() as stack:
        made: dict[str, Callable[[], str]] = {}
        if "sqlite" in options.only:
            made["sqlite"] = partial(_file, place, [])
        if "postgres" in options.only:
            admin = stack.enter_context(postgres_server.server())
            made["postgres"] = lambda: stack.enter_context(postgres_server.database(admin))
        cells: dict[str, Cell] = {}
        switches: dict[str, Switch] = {}
        for kind, fresh in made.items():
            cells[f"{kind} raw"] = partial(timed, raw_commit(fresh()))
            for name, sessions in sizes.items():
                switch = Switch(migrated(fresh()), sessions, stack)
                switch.check()
                switches[f"{kind}.{name}"] = switch
                cells[f"{kind} {name}"] = switch.busy if name == "busy" else switch.halting
        results = interleaved(options, cells)
        for switch in switches.values():
            switch.check()
    said: dict[str, tuple[float, str]] = {}
    for part, switch in switches.items():
        kind, name = part.split(".")
        ours, raw = results[f"{kind} {name}"].typical_s, results[f"{kind} raw"].typical_s
        said[f"{part}.over_raw_commit"] = (
            ours / raw,
            "a halt's time over a raw commit's: less is better",
        )
        said[f"{part}.p99_ms"] = _p99(switch.times_s) * 1_000, "milliseconds, the 99th percentile"
    for kind in made if "one" in sizes else ():
        few, all_ = (results[f"{kind} {name}"].typical_s for name in ("one", "many"))
        said[f"{kind}.many_over_one"] = (
            all_ / few,
            f"time with {many:,} sessions over time with one",
        )
    show(
        options,
        title=f"halt, {many:,} sessions",
        method=str(__doc__).strip(),
        results=results,
        ratios={name: ratio for name, (ratio, _) in said.items()},
        meanings={name: meaning for name, (_, meaning) in said.items()},
    )


def _file(place: Path, made: list[int]) -> str:
    made.append(1)
    return f"sqlite:///{place / f'{len(made)}.db'}"


def _p99(times_s: list[float]) -> float:
    return sorted(times_s)[int(len(times_s) * 0.99)]


if __name__ == "__main__":
    main()
