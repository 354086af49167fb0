"""What a session remembers: exact at once, the same everywhere, and found out when it was changed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from interlock import Call, Governor, Opinion, governed, hookimpl
from interlock.errors import Refused, StoreUnavailable
from tests.judges import judge
from tests.language._joining import decisions, joined, memory, remember
from tests.policies import document, rule

THREADS, TASKS = 8, 64

TWO_MORE = document(
    rule("some", "refund") | {"when": {"calls": {"tools": ["refund"], "at_most": 2}}},
)
"""Lets three refunds through: before the third there were two."""


@governed(name="refund")
def refund() -> str:
    """Pay back."""
    return "refunded"


@governed(name="refund")
async def arefund() -> str:
    """Pay back."""
    return "refunded"


def attempt(tool: Any = refund) -> str:
    """What became of one call."""
    try:
        found: str = tool()
    except Refused as error:
        return error.decision.verdict.value
    return found


def meeting(parties: int) -> object:
    """A plugin that gives no view before so many calls were described, none of them decided."""
    barrier = threading.Barrier(parties)

    class Meeting:
        @hookimpl
        def interlock_opinion(self, call: Call) -> Opinion | None:
            barrier.wait(30)
            return None

    return Meeting()


@pytest.mark.promise(3)
def test_a_count_is_exact_among_threads(either: str) -> None:
    """Broken if of calls that are made at once more get in than a rule on their number allows."""
    with (
        Governor(either, policy=TWO_MORE, plugins=[meeting(THREADS)]) as governor,
        governor.session("s", agent="bot") as session,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def work(_: int) -> str:
            with session.attach():
                return attempt()

        found = sorted(pool.map(work, range(THREADS)))
        assert found == ["deny"] * (THREADS - 3) + ["refunded"] * 3
        admitted = [one.admitted for one in decisions(governor, session.id)]
        assert admitted == [True] * 3 + [False] * (THREADS - 3)


@pytest.mark.promise(3)
def test_a_count_is_exact_among_tasks(either: str) -> None:
    """Broken if of 64 tasks that were all consulted before the first was decided, more than three get in."""
    waiting: list[asyncio.Future[None]] = []

    async def evaluate(_self: Any, _call: Call) -> None:
        mine = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        if len(waiting) == TASKS:
            for one in waiting:
                one.set_result(None)
        await mine

    async def main() -> tuple[list[Any], list[bool]]:
        policy = {**TWO_MORE, "evaluators": [{"use": "all", "timeout": "30s"}]}
        async with (
            Governor(either, policy=policy, evaluators={"all": judge(evaluate)}) as governor,
            governor.session("s", agent="bot") as session,
        ):
            found = await asyncio.gather(*(arefund() for _ in range(TASKS)), return_exceptions=True)
            return found, [one.admitted for one in decisions(governor, session.id)]

    found, admitted = asyncio.run(main())
    assert len(waiting) == TASKS
    assert found.count("refunded") == 3
    assert all(isinstance(one, (str, Refused)) for one in found)
    assert admitted == [True] * 3 + [False] * (TASKS - 3)


@pytest.mark.promise(3)
def test_a_count_is_shared_by_governors(either: str) -> None:
    """Broken if each worker counts for itself: two of them would let twice as much through."""
    with (
        Governor(either, policy=TWO_MORE, plugins=[meeting(THREADS)]) as first,
        Governor(either, policy=TWO_MORE, plugins=[meeting(THREADS)]) as second,
        first.session("s", agent="bot") as session,
        ThreadPoolExecutor(2 * THREADS) as pool,
    ):

        def work(number: int) -> str:
            with joined(second if number % 2 else first, session.id):
                return attempt()

        found = sorted(pool.map(work, range(2 * THREADS)))
    assert found == ["deny"] * (2 * THREADS - 3) + ["refunded"] * 3


SEQUENCE: dict[str, Any] = {
    **document(
        rule("first", "send", verdict="deny") | {"when": {"risk": {"at_least": "critical"}}},
        rule("rest", "*"),
    ),
    "risk": {
        "points": {"low": 0, "medium": 1, "high": 5, "critical": 20},
        "thresholds": {"critical": 100},
        "sequences": [
            {"name": "leak", "calls": ["read", "query_*", "send"], "escalate_to": "critical"}
        ],
    },
}


def restarted(url: str, policy: dict[str, Any], session_id: str, *tools: str) -> list[str]:
    """What becomes of calls in another process."""
    command = [sys.executable, "-m", "tests.language._restarted", url, json.dumps(policy)]
    done = subprocess.run(
        [*command, session_id, *tools], capture_output=True, check=True, text=True, timeout=50
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_what_is_remembered_survives_the_process(either: str) -> None:
    """Broken if an agent gets rid of its past by dying: the count and the sequence would begin anew."""
    policy = {
        **SEQUENCE,
        "rules": [
            *TWO_MORE["rules"],
            rule("no more", "refund", verdict="deny"),
            *SEQUENCE["rules"],
        ],
    }
    with (
        Governor(either, policy=policy) as governor,
        governor.session("s", agent="bot") as session,
    ):
        assert [attempt(governed(name=name)(lambda: "done")) for name in ("refund", "read")]
        found = restarted(either, policy, session.id, "refund", "query_x", "refund", "refund")
        assert found == ["done", "done", "done", "deny"]
        assert restarted(either, policy, session.id, "refund", "read", "send") == [
            *["deny", "done", "deny"]
        ]
        assert [report.problem for report in governor.verify()] == [None]


@pytest.fixture
def past(either: str) -> Iterator[tuple[Governor, str]]:
    """A session with a past, and the governor under whose policy it came about."""
    policy = {**SEQUENCE, "rules": [*TWO_MORE["rules"], *SEQUENCE["rules"]]}
    with (
        Governor(either, policy=policy) as governor,
        governor.session("s", agent="bot") as session,
    ):
        for name in ("refund", "read", "query_x", "refund"):
            assert governed(name=name)(lambda: "done")() == "done"
        yield governor, session.id


def test_another_policy_finds_what_it_asks_for(either: str, past: tuple[Governor, str]) -> None:
    """Broken if a policy that is put in force mid-session looks back at nothing."""
    first, session_id = past
    rules = [
        rule("three", "count") | {"when": {"calls": {"equals": 4}}},
        rule("after", "after") | {"when": {"after": ["read", "refund"]}},
        rule("before", "before") | {"when": {"not": {"after": ["query_x", "read"]}}},
    ]
    with Governor(either, policy=document(*rules)) as second, joined(second, session_id):
        tools = ("count", "after", "before", "count")
        found = [attempt(governed(name=name)(lambda: "done")) for name in tools]
        assert found == ["done", "done", "done", "deny"]
    with joined(first, session_id):  # what the first asks for went on meanwhile
        assert attempt(governed(name="send")(lambda: "done")) == "deny"
        assert attempt() == "refunded"
    assert [report.problem for report in first.verify()] == [None]


def test_what_is_forgotten_is_found_anew(past: tuple[Governor, str]) -> None:
    """Broken if a session whose memory is gone takes a call for its first."""
    governor, session_id = past
    before = memory(governor, session_id)
    assert before is not None
    remember(governor, session_id, None)
    with joined(governor, session_id):
        assert attempt(governed(name="send")(lambda: "done")) == "deny"
    assert set(json.loads(before)) == set(json.loads(memory(governor, session_id) or ""))
    assert [report.problem for report in governor.verify()] == [None]


@pytest.mark.promise(7)
def test_verify_finds_what_was_changed_in_the_memory(past: tuple[Governor, str]) -> None:
    """Broken if whoever writes to the database can give an agent another past."""
    governor, session_id = past
    text = memory(governor, session_id)
    assert text is not None
    numbers: dict[str, int] = json.loads(text)
    assert sorted(numbers.values()) == [2, 2, 4]
    forged = [
        *(json.dumps({**numbers, key: numbers[key] + by}) for key in numbers for by in (-1, 1)),
        *["{}", "[]", "", "null", '{"x":0}', text[:-1], text + " ", text.replace("2", '"2"', 1)],
        *(text[:place] + "x" + text[place + 1 :] for place in range(len(text))),
        *(text.replace(str(number), f"{number}.0", 1) for number in numbers.values()),
    ]
    for wrong in forged:
        remember(governor, session_id, wrong)
        [report] = governor.verify()
        assert report.problem is not None, wrong
        assert f"session {session_id}" in report.problem
    remember(governor, session_id, text)
    assert [report.problem for report in governor.verify()] == [None]


@pytest.mark.promise(1)
def test_a_memory_that_cannot_be_read_lets_nothing_through(past: tuple[Governor, str]) -> None:
    """Broken if a call is let through by a policy that looks back at what nobody can read."""
    governor, session_id = past
    running = governed(name="read")(lambda wrong: remember(governor, session_id, wrong))
    for wrong in ("x", '{"x":0}', "[]", '{"{}":1}'):
        with joined(governor, session_id):
            running(wrong)  # it is booked all the same
            with pytest.raises(StoreUnavailable, match=f"session {session_id} remembers"):
                refund()
        remember(governor, session_id, None)
        [report] = governor.verify()
        assert "memory is not what the events say" in str(report.problem)
        assert report.in_doubt == ()
