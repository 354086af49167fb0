"""The ledger beside a reference model of it, through any sequence of calls, ends, policies and moments."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger._machine import machine_on
from tests.ledger._rows import Rows

SITUATIONS = (
    "a batch",
    "allow",
    "ask",
    "steer",
    "deny",
    "approved",
    "settled",
    "settled in a later window",
    "over already",
    "another's",
    "overspent",
    "recorded beyond a limit",
    "opened again with calls in flight",
)


def compare(url: str, sequences: int) -> None:
    """Run at least that many sequences of up to 50 steps, and twice as many more until each situation came about."""
    with machine_on(url) as machine:
        for count in [sequences] + [sequences // 4] * 8:
            run_state_machine_as_test(
                machine, settings=settings(max_examples=count, stateful_step_count=50)
            )
            missed = [one for one in SITUATIONS if not machine.seen[one]]
            if not missed:
                break
        assert missed == [], machine.seen
    if url.startswith("postgresql"):
        with Rows(url) as rows:  # which has its numbers once the stores have let go of the database
            assert min(rows.changed("budget_leases")) > 0, (
                "hardly a lease was taken, used and recalled"
            )


GATE = {"sqlite": 200, "postgresql": 40}


@pytest.mark.timeout(480)
@pytest.mark.promise(3)
def test_the_ledger_is_the_reference(either: str) -> None:
    """Broken if any sum, decision or intent is ever another than the reference model's, in any sequence of steps."""
    compare(either, GATE[either.partition(":")[0]])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.promise(3)
def test_the_ledger_is_the_reference_for_long(either: str) -> None:
    """Broken as above, if more rarely."""
    compare(either, 2_000)
