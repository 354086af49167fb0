"""Kill recovery itself at every request to the database's driver; and find what a kill left between claim and run."""

import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from interlock import ApprovalNeeded, Governor
from interlock._ticket import TicketState
from interlock.errors import Conflict
from interlock.store import calls, recovery, tickets
from interlock.testing import ManualClock
from tests.crash import _nursery as tools
from tests.crash._lives import Nursery, effects
from tests.recovery._left import POLICY, Process, again, hold, kinds, sound

Make = Callable[..., Governor]

DONE = Counter(
    {
        "session_opened": 1,
        "call_decided": 2,
        "call_doubted": 1,
        "call_recovered": 1,
        "session_paused": 1,
    }
)
"""What is in a session's history once it was recovered: each once."""


def kill_everywhere(nursery: Nursery, governor: Make, either: str, clock: ManualClock) -> None:
    """Have recovery killed after each of its requests, and each time run again."""
    past, other = governor(POLICY, url=either, clock=clock), governor(POLICY, url=either)
    left: Counter[str] = Counter()
    for at in range(1, 200):
        process = Process(past)  # by the machine's clock it was never heard of
        process.begin(hold)
        process.begin(again)
        life = nursery.life(
            do="die_recovering", url=either, side_file="/dev/null", at=at, after=True
        )
        found = Counter(kinds(other, process.session.id))
        left[" ".join(sorted((DONE - found).elements()))] += 1
        other.recover()
        assert Counter(kinds(other, process.session.id)) == DONE
        assert [one.problem for one in other.verify() if one.session_id == process.session.id] == [
            None
        ]
        if life.status == 0:
            break
        assert life.status == -signal.SIGKILL
    assert sound(other)
    # Each of its transactions was cut off, and each was seen to be durable before the next.
    assert set(left) == {"call_doubted call_recovered session_paused", "session_paused", ""}


@pytest.mark.promise(6)
def test_killed_at_each_request_of_recovery(
    nursery: Nursery, governor: Make, database: str, clock: ManualClock
) -> None:
    """Broken if recovery that was cut off leaves something undone for ever, does it twice, or breaks the books."""
    kill_everywhere(nursery, governor, database, clock)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.promise(6)
def test_killed_at_each_request_of_recovery_on_postgres(
    nursery: Nursery, governor: Make, postgres: str, clock: ManualClock
) -> None:
    """Broken as above, where rows are locked one by one."""
    kill_everywhere(nursery, governor, postgres, clock)


@pytest.mark.promise(5, 6)
def test_a_claimed_ticket_is_found(
    nursery: Nursery, tmp_path: Path, governor: Make, either: str
) -> None:
    """Broken if a call that was killed between the claim of its ticket and its run is not found, or can run again."""
    one = governor(tools.ASK, url=either)
    later = governor(url=either, clock=ManualClock(one.health().at + timedelta(hours=1)))
    seen: Counter[tuple[int, int]] = Counter()
    for at in range(1, 100):
        side_file = tmp_path / f"{at}.effects"
        with pytest.raises(ApprovalNeeded) as asked, one.session("victim", agent="racer"):
            tools.act("k")
        ticket_id = asked.value.ticket.id
        one.write(tickets.approve, ticket_id, by="ann")
        life = nursery.life(
            do="die_before_it_runs",
            url=either,
            side_file=str(side_file),
            ticket=ticket_id,
            at=at,
            after=True,
        )
        happened = len(effects(side_file))
        running = one.read(calls.in_doubt, session_id=asked.value.ticket.session_id)
        done = later.recover()
        assert [found.call_id for found in done.doubted] == [call_id for call_id, _, _ in running]
        seen[len(running), happened] += 1
        if one.read(tickets.get, ticket_id).state is TicketState.CLAIMED:
            with pytest.raises(Conflict, match="is claimed"):
                one.resume(ticket_id, tool=tools.act)
        assert len(effects(side_file)) == happened
        for found in done.doubted:
            later.write(recovery.resolve, found.call_id, happened=bool(happened), by="ann")
        if life.status == 0:
            break
    assert (1, 0) in seen, "it was never killed between the claim and the run"
    assert (1, 1) in seen, "it was never killed between the run and its record"
    assert sound(later)
