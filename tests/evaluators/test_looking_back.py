"""The evaluators that look back: a rate is exact however many call at once, and a sequence is not completed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from interlock import BudgetExceeded, Denied, Governor, Refused, Steered, governed
from interlock.errors import ApprovalNeeded, PolicyError
from interlock.testing import ManualClock

pytestmark = pytest.mark.anyio


def policy(*evaluators: dict[str, Any]) -> dict[str, Any]:
    """A policy that allows what these evaluators do not object to."""
    return {"version": 1, "name": "p", "default": "allow", "evaluators": list(evaluators)}


def rate(calls: int, *tools: str, **more: Any) -> dict[str, Any]:
    """So many calls a minute for each session."""
    config = {"calls": calls, "window": "minute", "per": "session", **more}
    return {"use": "rate", "tools": list(tools) or ["*"], "with": config}


def sequence(*calls: str, **more: Any) -> dict[str, Any]:
    """Calls that must not follow one another."""
    return {"use": "sequence", "with": {"calls": list(calls), **more}}


@governed
def read_crm() -> str:
    """Read."""
    return "read"


@governed
def query() -> str:
    """Query."""
    return "queried"


@governed
def send() -> str:
    """Send."""
    return "sent"


@governed
async def asend() -> str:
    """Send."""
    await asyncio.sleep(0)
    return "sent"


def outcome(tool: Any) -> str:
    """What becomes of a call."""
    try:
        return str(tool())
    except Refused as refused:
        return type(refused).__name__


@pytest.mark.promise(3)
def test_threads_share_a_rate(either: str) -> None:
    """Broken if threads together get more calls through than the rate allows, or fewer."""
    heard: Counter[str] = Counter()
    with (
        Governor(either, policy=policy(rate(10)), clock=ManualClock()) as governor,
        governor.session("s", agent="a") as session,
    ):

        def work() -> None:
            with session.attach():
                heard.update(outcome(send) for _ in range(6))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert governor.verify_books() == {}
    assert heard == {"sent": 10, "BudgetExceeded": 38}


@pytest.mark.promise(3)
async def test_tasks_of_two_governors_share_a_rate(either: str) -> None:
    """Broken if workers count for themselves."""
    clock = ManualClock()
    said = policy(rate(10, per="org"))
    with (
        Governor(either, policy=said, clock=clock) as one,
        Governor(either, policy=said, clock=clock) as other,
    ):

        async def work(governor: Governor) -> list[BaseException | str]:
            async with governor.session("s", agent="a", org="acme"):
                return await asyncio.gather(*(asend() for _ in range(16)), return_exceptions=True)

        both = await asyncio.gather(work(one), work(other))
    kinds = Counter(type(found).__name__ for heard in both for found in heard)
    assert kinds == {"str": 10, "BudgetExceeded": 22}


def test_a_rate_begins_anew(database: str) -> None:
    """Broken if a window does not end, or another limit for the same calls begins at nothing."""
    clock = ManualClock()
    with Governor(database, policy=policy(rate(2)), clock=clock) as governor:
        with governor.session("s", agent="a"):
            assert [outcome(send) for _ in range(3)] == ["sent", "sent", "BudgetExceeded"]
            clock.advance(timedelta(minutes=1))
            assert [outcome(send) for _ in range(3)] == ["sent", "sent", "BudgetExceeded"]
        assert governor.reload(policy(rate(3, per="user"))).budgets is not None
    with Governor(database, policy=policy(rate(1, per="agent")), clock=clock) as governor:
        with governor.session("s", agent="a"):
            assert outcome(send) == "sent"
        governor.reload(policy(rate(2, per="agent")))
        with governor.session("s", agent="a"):
            assert [outcome(send), outcome(send)] == ["sent", "BudgetExceeded"]


def test_what_a_rate_says(database: str) -> None:
    """Broken if a rate cannot ask or steer, counts other tools, or does not say until when."""
    steer = rate(1, "send", verdict="steer", guidance="Wait a minute.")
    with Governor(database, policy=policy(steer)) as governor, governor.session("s", agent="a"):
        assert [outcome(send), outcome(query), outcome(query)] == ["sent", "queried", "queried"]
        with pytest.raises(Steered, match=r"until .* UTC") as steered:
            send()
    assert steered.value.guidance == "Wait a minute."
    ask = rate(0, verdict="ask", approvers=["ops"])
    with (
        Governor(database, policy=policy(ask)) as governor,
        governor.session("s", agent="a"),
        pytest.raises(ApprovalNeeded) as asked,
    ):
        send()
    assert asked.value.decision.approvers == ("ops",)


@pytest.mark.promise(3)
def test_a_sequence_is_not_completed(either: str) -> None:
    """Broken if calls in between, a refused try, another session or a restart makes the session forget."""
    said = policy(sequence("read_*", "query", "send"))
    with Governor(either, policy=said) as governor:
        with governor.session("s", agent="a") as session:
            assert [outcome(send), outcome(query), outcome(send)] == ["sent", "queried", "sent"]
            assert [outcome(read_crm), outcome(send), outcome(query)] == ["read", "sent", "queried"]
            assert [outcome(send), outcome(send), outcome(read_crm)] == ["Denied", "Denied", "read"]
            with pytest.raises(Denied, match="complete the sequence read_\\* → query → send"):
                send()
        with governor.session("s", agent="a"):
            assert outcome(send) == "sent"
        [problem] = {report.problem for report in governor.verify()}
        assert problem is None
        assert session.state().outcomes


@pytest.mark.promise(3)
async def test_a_sequence_among_tasks(either: str) -> None:
    """Broken if calls made at once slip through together before the session remembers the one before."""
    with Governor(either, policy=policy(sequence("asend", "asend"))) as governor:
        async with governor.session("s", agent="a"):
            heard = await asyncio.gather(*(asend() for _ in range(32)), return_exceptions=True)
    assert Counter(type(found).__name__ for found in heard) == {"str": 1, "Denied": 31}


def test_what_a_sequence_says(database: str) -> None:
    """Broken if a sequence cannot steer, or judges tools that it is not for."""
    steer = sequence("read_crm", "send", verdict="steer", suggest=["query"], reason="it may leak")
    with Governor(database, policy=policy(steer)) as governor, governor.session("s", agent="a"):
        read_crm()
        with pytest.raises(Steered, match="it may leak") as steered:
            send()
    assert steered.value.suggestions == ("query",)
    other = {**sequence("read_crm", "send"), "tools": ["query"]}
    with Governor(database, policy=policy(other)) as governor, governor.session("s", agent="a"):
        assert [outcome(read_crm), outcome(send)] == ["read", "sent"]


@pytest.mark.parametrize(
    ("item", "key"),
    [
        (rate(-1), "evaluators.0.with.calls"),
        (rate(2**62), "evaluators.0.with.calls"),
        (rate(1, window="week"), "evaluators.0.with.window"),
        (rate(1, per=[]), "evaluators.0.with.per"),
        (rate(1, burst=2), "evaluators.0.with.burst"),
        (rate(1, approvers=["ops"]), "evaluators.0.with.approvers"),
        (rate(1, verdict="allow"), "evaluators.0.with.verdict"),
        (sequence("a"), "evaluators.0.with.calls"),
        (sequence("a", "b", verdict="steer"), "evaluators.0.with"),
        (sequence("a", "b", guidance="x"), "evaluators.0.with.guidance"),
        ({"use": "rate"}, "evaluators.0.calls"),
    ],
)
def test_a_wrong_configuration_is_located(item: dict[str, Any], key: str) -> None:
    """Broken if a mistake shows only when a call is judged."""
    with pytest.raises(PolicyError) as refused:
        Governor("sqlite://", policy=policy(item))
    assert refused.value.key == key


@pytest.mark.parametrize("twice", [(rate(1), rate(2)), (sequence("a", "b"), sequence("a", "b"))])
def test_the_same_is_not_judged_twice(twice: tuple[dict[str, Any], ...]) -> None:
    """Broken if each call is counted twice because two items count the same."""
    with pytest.raises(PolicyError) as refused:
        Governor("sqlite://", policy=policy(*twice))
    assert refused.value.key == "evaluators.1"


def test_a_refusal_by_rate_is_a_spent_budget(database: str) -> None:
    """Broken if the caller is not told how the rate stands."""
    with (
        Governor(database, policy=policy(rate(0))) as governor,
        governor.session("s", agent="a"),
        pytest.raises(BudgetExceeded) as refused,
    ):
        send()
    [account] = refused.value.budgets
    assert (account.limits.calls, account.left.calls) == (0, 0)
