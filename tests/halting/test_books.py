"""The books of halts by policy: what is written at once, how many statements it takes, and that tampering is found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import Connection, text

from interlock import Governor, events
from interlock.errors import StoreUnavailable
from interlock.store import append_only, halts
from interlock.store.events import history as stored_history
from tests.books import unsound
from tests.faults._points import Points
from tests.halting._policies import THREE, WHO, admitted_and_died, call, halting, ordered, refused

Make = Callable[..., Governor]


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def _requests(one: Governor, calling: Callable[[], object]) -> list[str]:
    """List what is asked of the database meanwhile."""
    with Points(one).failing(None, lambda: None) as seen:
        calling()
    return list(seen)


def test_a_policy_that_halts_costs_no_statement(governor: Make) -> None:
    """Broken if whoever has a policy that halts pays for it with each call that is admitted."""
    found = []
    for policy in (halting(), halting({"at_risk": "critical", "halt": "org"}, THREE)):
        one = governor(policy)
        with one.session("s", **WHO) as session:
            call("sync", session, "look")
            found.append(_requests(one, lambda: call("sync", session, "look")))
    assert found[0] == found[1]
    assert len([sent for sent in found[0] if sent.startswith("commit")]) == 2


@pytest.mark.promise(4, 7)
def test_a_halt_and_its_event_are_one_transaction(governor: Make) -> None:
    """Broken if a halt can stand of which its session knows nothing, or the other way round."""
    policy, at = halting({**THREE, "halt": "agent"}), 0
    while True:
        at += 1
        one = governor(policy)
        with one.session("s", **WHO) as session:
            refused("sync", session, 2)
            due = admitted_and_died(session, "wire").orders
            with suppress(StoreUnavailable), Points(one).failing(at, _fail, after=True) as seen:
                one.write(halts.obey, session.id, due, by="policy:p")
            if len(seen) < at:  # there was no such request any more
                break
            assert len(ordered(one, session)) == len(one.halts()), (at, seen)
            for halt in one.halts():
                one.release(halt.id, reason="the next try", by="ann")
    assert at > 8


def _fail() -> None:
    raise OSError("the disk is gone")


FORGERIES = {
    "the halt is of another": "UPDATE halts SET target = 'agent:x', name = 'x', scope = 'agent'",
    "the halt has another reason": "UPDATE halts SET reason = 'spite'",
    "the halt is somebody's": "UPDATE halts SET by = 'ann'",
    "the log is gone": "DELETE FROM halt_log",
    "the log is changed": "UPDATE halt_log SET by = 'ann'",
    "the memory is changed": "UPDATE sessions SET memory = memory || ' '",
}


@pytest.mark.promise(7)
@pytest.mark.parametrize("how", FORGERIES)
def test_tampering_is_found(how: str, governor: Make) -> None:
    """Broken if whoever may write to the database can undo, or blame on somebody, a halt of a policy's."""
    one = governor(halting(THREE))

    def forge(connection: Connection) -> int:
        append_only.unprotect(connection)
        return connection.execute(text(FORGERIES[how])).rowcount

    def problems() -> list[str]:
        return unsound(one)

    with one.session("s", **WHO) as session:
        refused("sync", session)
    assert problems() == []
    assert one.write(forge) == 1
    assert problems() != []


@pytest.mark.promise(7)
def test_an_event_of_a_halt_cannot_be_taken_out(governor: Make) -> None:
    """Broken if a session's history does not tell that its call had something halted."""
    one = governor(halting({**THREE, "halt": "org"}))
    with one.session("s", **WHO) as session:
        refused("sync", session)
        [told] = ordered(one, session)
        [halt] = one.halts()
        assert told == events.HaltOrdered(
            halt_id=halt.id,
            target="org:acme",
            rule='{"of":"refused","times":3,"halt":"org"}',
            reason="3 calls in a row were refused",
            by="policy:p",
        )
        kinds = [type(one.event).__name__ for one in one.read(stored_history, session.id)]
        assert kinds == ["SessionOpened", *["CallDecided"] * 3, "HaltOrdered"]

    def remove(connection: Connection) -> None:
        append_only.unprotect(connection)
        connection.execute(text("DELETE FROM events WHERE kind = 'halt_ordered'"))

    one.write(remove)
    assert [report.problem for report in one.verify() if report.problem] != []


@pytest.mark.promise(4)
def test_a_halt_costs_the_same_however_much_it_stops(governor: Make) -> None:
    """Broken if halting takes longer the more sessions there are: it is one row, and no session is touched."""
    one, found = governor(), []
    for number in (1, 60):
        for other in range(number):
            one.write(one.session(f"s-{other}", **WHO)._open)
        found.append(_requests(one, lambda: one.halt(org="acme", reason="drill", by="ann")))
        one.release(one.halts()[0].id, reason="over", by="ann")
    assert found[0] == found[1]
    assert len([sent for sent in found[0] if "INSERT" in sent or "UPDATE" in sent]) == 2


@pytest.mark.promise(7)
def test_a_halt_that_was_taken_out_with_its_log_is_missed(governor: Make) -> None:
    """Broken if a halt can be made never to have been by emptying its log, though a session was told of it."""
    one = governor(halting({**THREE, "halt": "org"}))
    with one.session("s", **WHO) as session:
        refused("sync", session)
        [halt] = one.halts()

    def remove(connection: Connection) -> None:
        append_only.unprotect(connection)
        connection.execute(text("DELETE FROM halt_log"))
        connection.execute(text("DELETE FROM halts"))

    one.write(remove)
    found = [report.problem for report in one.verify() if report.problem]
    assert found == [f"halt {halt.id}, of which session {session.id} was told, is missing"]
