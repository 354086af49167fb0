"""Kill a process at exactly known moments: at every request to the database's driver, and inside an approved call."""

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock import ApprovalNeeded, Governor
from interlock._ticket import TicketState
from interlock.errors import Conflict
from interlock.store import calls, tickets
from tests.crash import _nursery as tools
from tests.crash._lives import Nursery, effects
from tests.races._audit import audit

Make = Callable[..., Governor]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.promise(6)
def test_killed_at_each_request(
    nursery: Nursery, tmp_path: Path, database: str, mode: str, after: bool
) -> None:
    """Broken if there is one request at which a crash loses an acknowledged call or leaves an effect without intent."""
    left: Counter[str] = Counter()
    at = 0
    while True:
        at += 1
        side_file = tmp_path / f"{at}.effects"
        life = nursery.life(
            do="die_at", url=database, side_file=str(side_file), at=at, after=after, mode=mode
        )
        with Governor(database) as governor:
            books = audit(governor)
        state = books.reports[0].state
        happened = len(effects(side_file))
        decided, finished = sum(state.verdicts.values()), sum(state.outcomes.values())
        assert (len(state.running), finished) in {(0, 0), (1, 0), (0, 1)}
        assert happened <= decided, f"request {at}: an effect without an intent"
        assert finished <= happened
        assert len(life.acknowledged) <= finished, f"request {at}: an acknowledged call was lost"
        left[f"decided {decided}, happened {happened}, finished {finished}"] += 1
        if life.status == 0:
            break
        assert life.status == -signal.SIGKILL
    assert at > 10, "there were fewer requests than two transactions make"
    reached = {
        "decided 0, happened 0, finished 0",
        "decided 1, happened 1, finished 0",
        "decided 1, happened 1, finished 1",
    }
    if after:  # the first commit done, and nothing else
        reached.add("decided 1, happened 0, finished 0")
    assert set(left) == reached


@pytest.mark.promise(5, 6)
def test_a_crash_uses_up_the_approval(
    nursery: Nursery, tmp_path: Path, governor: Make, database: str
) -> None:
    """Broken if a call that died after its approval was used up runs again without a new one."""
    one = governor(tools.ASK)
    side_file = tmp_path / "effects"
    with one.session("victim", agent="racer") as session:
        with pytest.raises(ApprovalNeeded) as asked:
            tools.act_and_die("k")
        one.write(tickets.approve, asked.value.ticket.id, by="ann")
        life = nursery.life(
            do="die_acting", url=database, side_file=str(side_file), session=session.id, key="k"
        )
        with pytest.raises(ApprovalNeeded) as again:
            tools.act_and_die("k")

    assert (life.status, life.acknowledged) == (-signal.SIGKILL, [])
    assert len(effects(side_file)) == 1
    assert one.read(tickets.get, asked.value.ticket.id).state is TicketState.CLAIMED
    assert again.value.ticket.id != asked.value.ticket.id
    assert len(audit(one).in_doubt) == 1


def approved(one: Governor, call: Callable[[str], str], **more: object) -> str:
    """Make a call that needs a yes, give it, leave the session paused, and return the ticket's id."""
    with pytest.raises(ApprovalNeeded) as asked, one.session("victim", agent="racer"):
        call("k")
    one.write(tickets.approve, asked.value.ticket.id, by="ann", **more)
    return asked.value.ticket.id


@pytest.mark.parametrize("edited", [False, True], ids=["plain", "edited"])
@pytest.mark.promise(5, 6)
def test_a_crash_uses_up_a_resumed_ticket(
    nursery: Nursery, tmp_path: Path, governor: Make, database: str, edited: bool
) -> None:
    """Broken if a resumed call that died in its tool can be resumed again, or is not listed as in doubt."""
    one = governor(tools.ASK)
    side_file = tmp_path / "effects"
    more = {"arguments": {"key": "edited"}} if edited else {}
    ticket_id = approved(one, tools.act_and_die, **more)
    order = {"url": database, "side_file": str(side_file), "ticket": ticket_id}
    life = nursery.life(do="die_resuming", **order)
    with pytest.raises(Conflict, match="is claimed, so nothing was run"):
        one.resume(ticket_id, tool=tools.act_and_die)
    [(key, call_id)] = effects(side_file)
    assert (life.status, life.acknowledged) == (-signal.SIGKILL, [])
    assert key == ("edited" if edited else "k")
    assert audit(one).in_doubt == {call_id}
    assert [found for found, _, _ in one.read(calls.in_doubt)] == [call_id]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.promise(5, 6)
def test_killed_at_each_request_of_a_resumed_call(
    nursery: Nursery, tmp_path: Path, governor: Make, database: str, after: bool
) -> None:
    """Broken if a kill between the claim and the run lets the call run twice, or has it vanish."""
    one = governor(tools.ASK)
    left: Counter[str] = Counter()
    for at in range(1, 100):
        side_file = tmp_path / f"{at}.effects"
        ticket_id = approved(one, tools.act)
        order = {"url": database, "side_file": str(side_file), "ticket": ticket_id}
        life = nursery.life(do="die_before_it_runs", at=at, after=after, **order)
        happened, stands = len(effects(side_file)), one.read(tickets.get, ticket_id)
        is_claimed = stands.state is TicketState.CLAIMED
        doubt = len(one.read(calls.in_doubt, session_id=stands.session_id))
        assert happened <= is_claimed
        left[f"claimed {int(is_claimed)}, happened {happened}, in doubt {doubt}"] += 1
        if is_claimed:
            with pytest.raises(Conflict, match="is claimed"):
                one.resume(ticket_id, tool=tools.act)
        if life.status == 0:
            break
        assert life.status == -signal.SIGKILL
    audit(one)
    reached = {
        "claimed 0, happened 0, in doubt 0",
        "claimed 1, happened 1, in doubt 1",
        "claimed 1, happened 1, in doubt 0",
    }
    if after:
        reached.add("claimed 1, happened 0, in doubt 1")
    assert set(left) == reached
