"""
What a governed call costs, its intent durable before the tool runs and its outcome before the result is returned.

Timed in turn, in one run, each on a database of its own, SQLite with WAL and synchronous=FULL and Postgres as it comes:

- raw: one insert of an event-sized row and its commit, by the driver alone, one caller.
- floor: the same rows as a governed call's in two transactions, by the driver alone, their values prepared beforehand.
  Several callers hand their transactions to one thread that commits all that wait together. The floor in bulk also
  knows what its neighbours write, and writes all rows of a table at once.
- governed: `@governed` around a function that does nothing; policy, two events chained by hash, no span recorded.
- seed: agent-control-plane's gateway on SQLite, its tasks being threads; where it cannot be had that is said.

One thread, 8 and 64 threads, 64 and 512 asyncio tasks, and 8 processes with 8 threads each on one database.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from _crowds import Processes, in_tasks, in_threads
from _floor import Queue, floor_of, raw_commit
from _harness import Cell, Options, Result, Sample, directory, interleaved, show, timed
from _peers import Unavailable
from _seed import Seed
from _tools import POLICY, refund, refund_async

from interlock import Governor, Session

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import postgres_server

DATABASES = ("sqlite", "postgres")
CROWDS = ("thread1", "threads8", "threads64", "tasks64", "tasks512", "processes8")
SEEDED = {"sqlite.thread1": 1, "sqlite.threads8": 8, "sqlite.tasks64": 64}
"""What the gateway takes part in, and with how many threads."""

BULK = "tasks64"
"""Where the floor in bulk takes part."""

Ratios: TypeAlias = dict[str, tuple[float | None, str]]
"""By name a ratio, None where it was not measured, and what it says."""

PROCESS = Path(__file__).with_name("_process.py")


def floor_cell(url: str, crowd: str, stack: ExitStack, *, bulk: bool = False) -> Cell:
    """Return the cell of the floor on the database at *url*."""
    floor = floor_of(url, bulk=bulk)
    if crowd == "thread1":
        stack.callback(floor.close)
        return partial(timed, floor.call)
    queue = Queue(floor)
    stack.callback(queue.close)
    count = int(crowd.removeprefix("threads").removeprefix("tasks"))
    if crowd.startswith("tasks"):
        return in_tasks(queue.acall, count)
    return in_threads(queue.call, count)


def governed_cell(session: Session, crowd: str) -> Cell:
    """Return the cell of governed calls in *session*."""
    if crowd == "thread1":
        return _attached(session, partial(timed, partial(refund, "o-1", 20)))
    if crowd.startswith("tasks"):
        count = int(crowd.removeprefix("tasks"))
        return _attached(session, in_tasks(partial(refund_async, "o-1", 20), count))

    def once() -> None:
        with session.attach():
            refund("o-1", 20)

    return in_threads(once, int(crowd.removeprefix("threads")))


def _attached(session: Session, cell: Cell) -> Cell:
    def attached(seconds: float) -> Sample:
        with session.attach():
            return cell(seconds)

    return attached


@contextmanager
def databases(wanted: list[str]) -> Iterator[Callable[[str], str]]:
    """Yield what makes an empty database of a kind and returns its URL."""
    with directory() as place, ExitStack() as stack:
        servers: list[str] = []
        if "postgres" in wanted:
            servers.append(stack.enter_context(postgres_server.server()))

        def fresh(kind: str) -> str:
            if kind == "sqlite":
                return f"sqlite:///{place / uuid4().hex}.db"
            url = stack.enter_context(postgres_server.database(servers[0]))
            _migrate(url)
            return url

        yield fresh


def _migrate(url: str) -> None:
    from interlock.store import schema  # noqa: PLC0415 - only where there is Postgres
    from interlock.store.engine import Store  # noqa: PLC0415

    store = Store(url, clock=None, ensure=False)
    store.write(schema.upgrade)
    store.close()


class Run:
    """The cells of one run, by name, and what has to be closed after it."""

    def __init__(self, fresh: Callable[[str], str], stack: ExitStack, *, quick: bool) -> None:
        self.cells: dict[str, Cell] = {}
        self.crowds: dict[str, Processes] = {}
        self._fresh = fresh
        self._quick = quick
        self._stack = stack
        self._governors: list[Governor] = []

    def raw(self, kind: str) -> None:
        """Add the raw commit of a kind of database."""
        self.cells[f"{kind} raw commit"] = partial(timed, raw_commit(self._fresh(kind)))

    def add(self, part: str) -> None:
        """Add the floor and the governed call of a part such as `sqlite.tasks64`."""
        kind, crowd = part.split(".")
        if crowd == "processes8":
            for what in ("governed",) if self._quick else ("floor", "governed"):
                url = self._fresh(kind)
                with Governor(url, policy=POLICY):
                    pass  # makes the tables, once
                processes = Processes(8, PROCESS, what, url)
                self._stack.callback(processes.close)
                self.crowds[f"{what} {part}"] = processes
                self.cells[f"{what} {part}"] = processes.cell
            return
        self.cells[f"floor {part}"] = floor_cell(self._fresh(kind), crowd, self._stack)
        if crowd == BULK:
            self.cells[f"bulk {part}"] = floor_cell(
                self._fresh(kind), crowd, self._stack, bulk=True
            )
        governor = self._stack.enter_context(Governor(self._fresh(kind), policy=POLICY))
        self._governors.append(governor)
        session = self._stack.enter_context(governor.session("bench", agent="bench"))
        self.cells[f"governed {part}"] = governed_cell(session, crowd)

    def verified(self) -> None:
        """See to it that what was measured was written: every chain whole, no call left open."""
        for governor in self._governors:
            assert [report.problem for report in governor.verify()] == [None]


def seeded(run: Run, wanted: Sequence[str], place: Path, stack: ExitStack) -> None:
    """Add the cells of the gateway for the parts that are *wanted*, or say why it is missing."""
    callers = {part: SEEDED[part] for part in wanted if part in SEEDED}
    if not callers:
        return
    try:
        seed = Seed(place)
        stack.callback(seed.close)
        for part, count in callers.items():
            run.cells[f"seed {part}"] = seed.calling(count)
    except Unavailable as reason:
        sys.stderr.write(f"missing: agent-control-plane's gateway: {reason}\n")


def compared(wanted: Sequence[str], results: Mapping[str, Result], run: Run) -> Ratios:
    """Return the ratios of each part, and what each of them says; None is what was not measured."""
    said: Ratios = {}
    for part in wanted:
        raw = results[f"{part.split('.')[0]} raw commit"]
        ours, floor = results[f"governed {part}"], results.get(f"floor {part}")
        if part.endswith("thread1") and floor is not None:
            said[f"{part}.of_floor"] = (
                floor.typical_s / ours.typical_s,
                "time of the floor over a call's",
            )
            said[f"{part}.over_raw_commit"] = (
                ours.typical_s / raw.typical_s,
                "time of a call over a commit's",
            )
        else:
            said[f"{part}.of_floor"] = _rates(ours, floor), "calls a second over the floor's"
            said[f"{part}.over_raw_commit"] = _rates(ours, raw), "calls a second over lone commits'"
        if part.endswith(BULK):
            bulk = results.get(f"bulk {part}")
            said[f"{part}.of_bulk_floor"] = (
                _rates(ours, bulk),
                "calls a second over the bulk floor's",
            )
        if part in SEEDED:
            seed = results.get(f"seed {part}")
            said[f"{part}.over_seed"] = _rates(ours, seed), "calls a second over the gateway's"
        if (crowd := run.crowds.get(f"governed {part}")) is not None:
            share, wait_s = statistics.median(crowd.shares), max(crowd.waits_s)
            said[f"{part}.slowest_share"] = share, "calls of the slowest process over the average"
            said[f"{part}.worst_wait_ms"] = wait_s * 1e3, "what the unluckiest call took"
    return said


def _rates(ours: Result, other: Result | None) -> float | None:
    return None if other is None else ours.rate / other.rate


def main() -> None:
    """Measure and show."""
    options = Options(__doc__, parts=[f"{kind}.{crowd}" for kind in DATABASES for crowd in CROWDS])
    wanted = options.only
    if options.quick and not options.once:
        options.rounds, options.seconds = 3, 0.15
    kinds = [kind for kind in DATABASES if any(part.startswith(kind) for part in wanted)]
    with databases(kinds) as fresh, directory() as place, ExitStack() as stack:
        run = Run(fresh, stack, quick=options.quick)
        for kind in kinds:
            run.raw(kind)
        for part in wanted:
            run.add(part)
        slow = {"sqlite.tasks64"} if options.quick else set()  # a turn takes it several seconds
        seeded(run, [part for part in wanted if part not in slow], place, stack)
        results = interleaved(options, run.cells)
        run.verified()
    said = compared(wanted, results, run)
    show(
        options,
        title="A governed call",
        method=str(__doc__).strip(),
        results=results,
        ratios={name: ratio for name, (ratio, _) in said.items()},
        meanings={name: meaning for name, (_, meaning) in said.items()},
    )


if __name__ == "__main__":
    main()
