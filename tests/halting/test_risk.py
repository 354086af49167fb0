"""A policy that halts at a risk: at that call, which is refused, and again only once the risk has come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interlock import Governor
from interlock.errors import PolicyError
from tests.halting._policies import WHO, admitted_and_died, call, halting, ordered
from tests.language._joining import joined

Make = Callable[..., Governor]
SHAPES = ["sync", "async"]

RISKY = {"tools": [{"tools": ["other"], "risk": "critical"}, {"tools": ["ship"], "risk": "high"}]}


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("level", "tool", "halted"),
    [
        ("critical", "other", True),
        ("critical", "ship", False),
        ("high", "other", True),
        ("high", "ship", True),  # about which a human would be asked
        ("high", "look", False),
    ],
)
def test_a_call_of_that_risk_is_refused_and_halts(
    level: str, tool: str, halted: bool, shape: str, governor: Make
) -> None:
    """Broken if the call at which the policy halts runs, or is asked about, or if a lesser one halts."""
    one = governor(halting({"at_risk": level, "halt": "team"}, risk=RISKY))
    with one.session("s", **WHO) as session:
        lesser = {"other": "other", "ship": "ApprovalNeeded", "look": "look"}[tool]
        assert call(shape, session, tool) == ("Denied" if halted else lesser)
        assert call(shape, session, "look") == ("HaltedError" if halted else "look")
        found = [(str(one.target), one.reason) for one in one.halts()]
        assert found == ([("team desk", f"the risk reached {level}")] if halted else [])


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_released_goes_on_until_the_risk_comes_back(shape: str, governor: Make) -> None:
    """Broken if whoever is released is halted again at once, or never again."""
    one = governor(halting({"at_risk": "critical", "halt": "session"}, risk=RISKY))
    with one.session("s", **WHO) as session:
        for number in range(2):
            assert call(shape, session, "other") == "Denied"
            assert len(ordered(one, session)) == number + 1
            one.release(one.halts()[0].id, reason="looked at", by="ann")
            assert [call(shape, session, "other") for _ in range(2)] == ["other"] * 2
            assert call(shape, session, "look") == "look"
    assert one.verify_books() == {}
    assert [report.problem for report in one.verify() if report.problem] == []


@pytest.mark.promise(4)
def test_the_score_of_a_session_halts_it_whoever_works_on_it(governor: Make) -> None:
    """Broken if what another process has done in a session does not count, or is forgotten by a restart."""
    risk = {"points": {"low": 1}, "thresholds": {"critical": 4}}
    policy = halting({"at_risk": "critical", "halt": "agent"}, risk=risk)
    found: list[str] = []
    with governor(policy).session("s", **WHO) as session:
        for _ in range(6):
            two = governor(policy)
            with joined(two, session.id, **WHO) as there:
                found.append(call("sync", there, "look"))
            two.close()
    assert found == ["look"] * 3 + ["Denied", "HaltedError", "HaltedError"]


@pytest.mark.promise(4)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_death_before_the_halt_loses_nothing(shape: str, governor: Make) -> None:
    """Broken if a risky call goes through since the process died that was about to halt."""
    one = governor(halting({"at_risk": "critical", "halt": "agent"}, risk=RISKY))
    with one.session("s", **WHO) as session:
        admission = admitted_and_died(session, "other")
        assert (admission.decision.admits, one.halts()) == (False, [])
        assert call(shape, session, "other") == "Denied"
        assert [str(halt.target) for halt in one.halts()] == ["agent bot"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"halt": "session"}, "after_refusals, at_risk"),
        ({"halt": "session", "after_refusals": 1, "at_risk": "high"}, "one of"),
        ({"halt": "session", "after_refusals": 0}, "after_refusals"),
        ({"halt": "session", "after_refusals": True}, "after_refusals"),
        ({"halt": "world", "after_refusals": 1}, "halt"),
        ({"after_refusals": 1}, "halt"),
        ({"halt": "agent", "at_risk": "huge"}, "at_risk"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], said: str, governor: Make) -> None:
    """Broken if a policy whose author believes that it halts is taken, and halts nothing."""
    with pytest.raises(PolicyError, match=said):
        governor(halting(wrong))


def test_the_same_twice_is_refused(governor: Make) -> None:
    """Broken if two items share what is remembered, so that one of them has no effect."""
    same = {"at_risk": "high", "halt": "org"}
    with pytest.raises(PolicyError, match="said already"):
        governor(halting(same, same))
