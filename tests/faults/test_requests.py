"""
Fail every single request that a governed call makes of the database's driver, one run for each.

The requests are counted, not listed, so that one that is added tomorrow is failed tomorrow.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

import pytest

from interlock import Governor
from interlock.errors import StoreUnavailable
from tests.faults._points import Points
from tests.faults._shapes import Shape, Witness, every_shape
from tests.races._audit import audit

Make = Callable[..., Governor]

LATE = pytest.mark.parametrize("late", [False, True], ids=["instead", "afterwards"])
LASTING = pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])


class Ending(NamedTuple):
    """How one run with a fault ended; `left` are the intents that it left open."""

    result: str | None
    error: BaseException | None
    happened: int
    left: set[str]
    logged: int


def count(one: Governor, shape: Shape) -> int:
    """Return how many requests an undisturbed call makes."""
    with Points(one).failing(None, lambda: None) as seen:
        assert shape.run(shape.make(lambda: None)) == "done"
    assert len(seen) >= 10, "there were fewer requests than two transactions make"
    return len(seen)


def run_with_fault(
    one: Governor,
    shape: Shape,
    at: int,
    fault: BaseException,
    caplog: pytest.LogCaptureFixture,
    *,
    late: bool,
    lasting: bool,
) -> Ending:
    """Make one call with a fault at request *at*, and then one without, which has to succeed."""
    witness = Witness(one)
    before = witness.intents()
    caplog.clear()

    def fail() -> None:
        raise fault

    result = error = None
    try:
        with Points(one).failing(at, fail, after=late, lasting=lasting):
            result = shape.run(shape.make(witness))
    except BaseException as raised:  # noqa: BLE001 - a KeyboardInterrupt is among what is injected
        error = raised  # kept, and with it every cursor in its traceback, as an interactive session would
    # The effect came about once at most, and the file then held its intent.
    assert witness.seen in ([], [len(before) + 1])
    logged = sum("in doubt" in record.getMessage() for record in caplog.records)
    left = witness.intents() - before
    assert shape.run(shape.make(lambda: None)) == "done"
    return Ending(result, error, len(witness.seen), left, logged)


@LATE
@LASTING
@every_shape
@pytest.mark.promise(1, 6)
def test_a_failing_driver(
    governor: Make, shape: Shape, late: bool, lasting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a tool runs without a durable intent, or its result is lost to a failing book-keeper."""
    one = governor()
    caplog.set_level(logging.ERROR, logger="interlock")
    refused = kept = 0
    with one.session("faulty", agent="f"):
        for at in range(1, count(one, shape) + 1):
            fault = sqlite3.OperationalError("database or disk is full")
            end = run_with_fault(one, shape, at, fault, caplog, late=late, lasting=lasting)
            if end.error is not None:
                assert isinstance(end.error, StoreUnavailable), f"request {at}: {end.error!r}"
                assert "disk is full" in str(end.error)
                assert "Check that its directory exists" in str(end.error)
                assert (end.happened, end.logged) == (0, 0)
                # Where the commit is done and then fails, nobody can know: so it is open, for all to see.
                assert len(end.left) <= int(late), f"request {at}"
                refused += 1
            else:
                assert (end.result, end.happened) == ("done", 1)
                assert len(end.left) <= end.logged <= 1, "an outcome was lost without a word"
                assert late or len(end.left) == end.logged
                kept += len(end.left)
    books = audit(one)
    assert refused >= 6, "the first transaction was never failed"
    assert kept >= 4, "the second transaction was never failed"
    assert len(books.in_doubt) >= kept


@LATE
@every_shape
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.promise(1, 6)
def test_one_interruption(
    governor: Make,
    shape: Shape,
    late: bool,
    kind: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Broken if Ctrl-C in the midst of a transaction leaves an intent open or a lock held, or the effect unrecorded."""
    one = governor()
    before = after = 0
    with one.session("faulty", agent="f"):
        for at in range(1, count(one, shape) + 1):
            fault = kind()
            end = run_with_fault(one, shape, at, fault, caplog, late=late, lasting=False)
            assert end.left == set(), f"request {at}: alive, and its call is in doubt"
            assert end.error is fault or end.result == "done"
            before += end.error is fault and not end.happened
            after += end.error is fault and end.happened
    assert audit(one).in_doubt == set()
    assert before >= 6, "the first transaction was never interrupted"
    assert after >= 5, "the second transaction was never interrupted"


@LATE
@every_shape
@pytest.mark.promise(1, 6)
def test_interruptions_without_end(
    governor: Make, shape: Shape, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if whoever keeps interrupting gets a tool to run without an intent, or a chain to break."""
    one = governor()
    with one.session("faulty", agent="f"):
        for at in range(1, count(one, shape) + 1):
            fault = KeyboardInterrupt()
            end = run_with_fault(one, shape, at, fault, caplog, late=late, lasting=True)
            assert end.error is fault or end.result == "done"
            assert len(end.left) <= 1
    audit(one)
