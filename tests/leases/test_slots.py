"""Leases: how many calls run at once, of what; who is refused, and what is given back, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest

from interlock import Denied, Governor, LeaseTaken, events, governed, hookimpl
from interlock.errors import HaltedError
from interlock.hookspecs import Content
from interlock.testing import ManualClock
from tests.leases._desk import (
    adeploy,
    decided,
    deploy,
    finished,
    held,
    outcome,
    policy,
    restart,
    sound,
)

pytestmark = [pytest.mark.anyio, pytest.mark.promise(3)]

Make = Callable[..., Governor]
TERM = timedelta(seconds=30)


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def test_exclusive_unless_said_otherwise(governor: Make) -> None:
    """Broken if two calls hold a lease that is for one, or a lease that was given back is not free."""
    made = governor(policy())
    with made.session("s", agent="bot"):
        assert deploy("api", lambda: outcome(deploy, "api")) == "LeaseTaken"
        assert held(made) == []
        assert deploy() == "done"
    assert sound(made)


def test_as_many_as_are_said(governor: Make) -> None:
    """Broken if one call more runs than `max_concurrent` says, or one fewer."""
    made = governor(policy({"max_concurrent": 3}))

    def nested(depth: int) -> Any:
        if depth > 5:
            return "deeper than that"
        return outcome(deploy, "api", lambda: nested(depth + 1)) + str(depth)

    with made.session("s", agent="bot"):
        assert nested(1) == "LeaseTaken4321"
    assert sound(made)


def test_none_means_none(governor: Make) -> None:
    """Broken if zero is taken for "no limit", or an operator is told to try again later."""
    made = governor(policy({"max_concurrent": 0}))
    with made.session("s", agent="bot"):
        with pytest.raises(Denied, match="lease one lets no call run"):
            deploy()
        assert restart() == "done"
    assert sound(made)


@pytest.mark.parametrize(
    ("per", "others"),
    [
        (None, ["LeaseTaken"] * 4),
        ("tool", ["LeaseTaken", "LeaseTaken", "done", "LeaseTaken"]),
        ("resource", ["LeaseTaken", "done", "LeaseTaken", "LeaseTaken"]),
        ("session", ["LeaseTaken", "LeaseTaken", "LeaseTaken", "done"]),
        (["resource", "tool"], ["LeaseTaken", "done", "done", "LeaseTaken"]),
        (["resource", "session"], ["LeaseTaken", "done", "LeaseTaken", "done"]),
    ],
)
def test_whom_it_tells_apart(governor: Make, per: Any, others: list[str]) -> None:
    """Broken if calls share a lease that is each one's own, or have one each that they are to share."""
    lease: dict[str, Any] = {"tools": ["deploy", "restart"]}
    made = governor(policy(lease if per is None else {**lease, "per": per}))

    def inside() -> list[str]:
        same = [outcome(deploy, "api"), outcome(deploy, "web"), outcome(restart, "api")]
        with made.session("other", agent="bot"):
            return [*same, outcome(deploy, "api")]

    with made.session("s", agent="bot"):
        assert deploy("api", inside) == others
    assert sound(made)


@pytest.mark.parametrize("per", ["user", "team", "org", "agent"])
def test_identities_are_told_apart(governor: Make, per: str) -> None:
    """Broken if what one tenant holds keeps another from running, or leaving a name out gives a lease of one's own."""
    made = governor(policy({"per": per}))

    def inside() -> list[str]:
        heard = []
        for name in ("a", "b"):
            who: dict[str, Any] = {"agent": "x", per: name}
            with made.session("other", **who):
                heard.append(outcome(deploy))
        return heard

    who: dict[str, Any] = {"agent": "x", per: "a"}
    with made.session("s", **who):
        assert deploy("api", inside) == ["LeaseTaken", "done"]
    if per != "agent":
        with made.session("s", agent="x"):
            assert deploy("api", lambda: outcome(deploy)) == "LeaseTaken"


def test_a_call_without_a_resource_fails_closed(governor: Make) -> None:
    """Broken if leaving out what a call acts on gets it past a lease per resource."""
    made = governor(
        policy({"per": "resource", "resources": ["a*"]}, {"name": "two", "resources": ["w*"]})
    )

    @governed(name="deploy")
    def bare() -> str:
        return "ran"

    with made.session("s", agent="bot"):
        for tool in (bare, lambda: deploy(None)):
            with pytest.raises(Denied, match="does not say what it acts on"):
                tool()
        assert deploy("api", lambda: held(made)) == [("one", 1, "api")]
        assert deploy("web", lambda: held(made)) == [("two", 1, "web")]
        assert deploy("db", lambda: held(made)) == []


@pytest.mark.parametrize(
    "matching",
    [
        {"tools": ["dep*"]},
        {"tools": None, "labels": ["prod"]},
        {"tools": None, "agents": ["bot"]},
        {"tools": None, "users": ["ann"]},
        {"tools": None, "teams": ["ops"]},
        {"tools": None, "orgs": ["acme"]},
        {"tools": None, "resources": ["ap?"]},
    ],
)
def test_of_which_calls_it_is(governor: Make, matching: dict[str, Any]) -> None:
    """Broken if a lease is not needed by a call that it names, or is by one that it does not."""
    lease = {key: value for key, value in {"tools": ["deploy"], **matching}.items() if value}
    made = governor({**policy(), "leases": [{"name": "one", **lease}]})

    @governed(name="deploy", labels=["prod"], resource="service")
    def labelled(service: str) -> int:
        return len(held(made))

    @governed(resource="service")
    def look(service: str) -> int:
        return len(held(made))

    with made.session("s", agent="bot", user="ann", team="ops", org="acme"):
        assert labelled("api") == 1
    with made.session("s", agent="other"):
        assert look("web") == 0


def test_who_has_it_is_told(governor: Make, clock: ManualClock) -> None:
    """Broken if a refused caller cannot learn who holds the lease, until when, and that trying later helps."""
    made = governor(policy(), clock=clock)

    def inside() -> LeaseTaken:
        with pytest.raises(LeaseTaken) as refused:
            deploy()
        return refused.value

    with made.session("s", agent="bot") as session:
        refused = deploy("api", inside)
    [lease] = refused.leases
    [holder] = lease.holders
    first = decided(made, session.id)[0]
    assert (holder.call_id, holder.session_id) == (first.call_id, session.id)
    assert holder.expires_at == clock.now() + TERM
    said = str(refused)
    for part in ("lease one is taken by", holder.call_id, session.id, "Try again later"):
        assert part in said
    assert f"{holder.expires_at:%Y-%m-%d %H:%M:%S} UTC" in said
    opinion = refused.decision.because[0]
    assert (str(opinion.verdict), opinion.author) == ("deny", "lease:one")


def test_the_history_says_what_was_taken(governor: Make, clock: ManualClock) -> None:
    """Broken if the events do not say which slot a call held, or say it of one that held none."""
    made = governor(policy({"per": "resource"}), clock=clock)
    with made.session("s", agent="bot") as session:
        deploy("api", lambda: outcome(deploy, "api"))
        deploy("api")
    slots = [event.leases for event in decided(made, session.id)]
    assert [[slot.token for slot in some] for some in slots] == [[1], [], [2]]
    assert [slot.expires_at for slot in slots[0]] == [clock.now() + TERM]
    assert [event.leases_lost for event in finished(made, session.id)] == [(), ()]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_tool_that_raises_gives_it_back(governor: Make, error: type[BaseException]) -> None:
    """Broken if a call that failed holds its lease until the term is over."""
    made = governor(policy())

    def fail() -> None:
        raise error

    with made.session("s", agent="bot"):
        with pytest.raises(error):
            deploy("api", fail)
        assert held(made) == []
        assert deploy() == "done"
    assert sound(made)


async def test_a_cancelled_call_gives_it_back(governor: Make) -> None:
    """Broken if a cancelled call holds its lease until the term is over."""
    made = governor(policy())
    async with made.session("s", agent="bot"):
        entered = asyncio.Event()

        async def wait() -> None:
            entered.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(adeploy("api", wait))
        await entered.wait()
        assert held(made) == [("one", 1, "api")]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held(made) == []
    assert sound(made)


def test_an_abandoned_stream_gives_it_back(governor: Make) -> None:
    """Broken if a stream whose consumer has gone holds its lease until the term is over."""
    made = governor(policy())

    @governed(name="deploy")
    def stream() -> Generator[int, None, None]:
        yield 1
        yield 2

    with made.session("s", agent="bot"):
        for close in (True, False):
            items = stream()
            assert (next(items), len(held(made))) == (1, 1)
            if close:
                items.close()
            else:
                del items
            assert held(made) == []
        assert list(stream()) == [1, 2]
        assert held(made) == []
    assert sound(made)


def test_what_does_not_run_takes_none(governor: Make) -> None:
    """Broken if a call that is denied, steered or halted holds a lease that nobody gives back."""
    rules = [
        {"id": "no", "tools": ["deploy"], "resources": ["no"], "verdict": "deny"},
        {
            "id": "way",
            "tools": ["deploy"],
            "resources": ["way"],
            "verdict": "steer",
            "guidance": "x",
        },
        {"id": "ask", "tools": ["deploy"], "resources": ["ask"], "verdict": "ask"},
    ]
    made = governor(policy(rules=rules))
    with made.session("s", agent="bot"):
        heard = [outcome(deploy, name) for name in ("no", "way", "ask")]
        assert heard == ["Denied", "Steered", "ApprovalNeeded"]
        halt = made.halt(agent="bot", reason="drill", by="ann").halt
        with pytest.raises(HaltedError):
            deploy()
        assert held(made) == []
        assert deploy_released(made, halt.id) == [("one", 1, "api")]
    assert sound(made)


def deploy_released(made: Governor, halt_id: str) -> Any:
    """Release a halt, and return who holds what while a call runs."""
    made.release(halt_id, reason="over", by="ann")
    return deploy("api", lambda: held(made))


@pytest.mark.parametrize("lease", [{}, {"max_concurrent": 0}])
def test_who_only_looks_takes_none(governor: Make, lease: dict[str, Any]) -> None:
    """Broken if a policy that only observes, or a dry run, holds anything, or keeps anybody from running."""
    made = governor(policy(lease, mode="observe"))
    with made.session("s", agent="bot") as session:
        seen = deploy("api", lambda: [held(made), outcome(deploy, "api")])
        assert seen == [[], "done"]
    said = {opinion.author for opinion in decided(made, session.id)[0].opinions}
    assert ("lease:one" in said) == bool(lease)
    with made.session("s", agent="bot", dry_run=True):
        assert outcome(deploy) == ("Denied" if lease else "None")
    assert held(made) == []
    assert sound(made)


def test_one_that_is_not_heard_of_loses_it(governor: Make, clock: ManualClock) -> None:
    """Broken if a holder keeps its slot beyond the term, or the taker's token is not higher, or is disturbed."""
    made = governor(policy({"max_concurrent": 2}), clock=clock)

    def late() -> Any:
        assert outcome(deploy, "b", lambda: outcome(deploy, "c")) == "LeaseTaken"
        clock.advance(TERM - timedelta(microseconds=1))
        assert outcome(deploy, "d", lambda: outcome(deploy, "e")) == "LeaseTaken"
        clock.advance(timedelta(microseconds=1))
        return deploy("f", lambda: [held(made), deploy("g", lambda: held(made)), early()])

    def early() -> Any:
        return made.leases()[0].token

    with made.session("s", agent="bot") as session:
        seen = deploy("a", late)
        assert seen == [[("one", 4, "f")], [("one", 4, "f"), ("one", 5, "g")], 5]
        assert held(made) == []
    displaced = [slot.displaced for event in decided(made, session.id) for slot in event.leases]
    assert displaced == [(), (), (), (1,), ()]
    lost = [event.leases_lost for event in finished(made, session.id)]
    assert lost == [(), (), (), (), ("one",)]
    assert sound(made)


def test_a_stale_holder_is_booked_as_it_was(governor: Make, clock: ManualClock) -> None:
    """Broken if a holder that was overtaken takes the slot of who overtook it along, or its outcome is falsified."""
    made = governor(policy(), clock=clock)
    opened: list[Any] = []

    @governed(name="deploy", resource="service")
    def stream(service: str) -> Iterator[str]:
        yield "on"
        yield "end"

    with made.session("s", agent="bot") as session:
        stale = stream("old")
        assert next(stale) == "on"
        clock.advance(TERM)
        fresh = stream("new")
        assert next(fresh) == "on"
        assert list(stale) == ["end"]
        assert held(made) == [("one", 2, "new")]
        assert outcome(deploy) == "LeaseTaken"
        opened += list(fresh)
    ends = finished(made, session.id)
    assert [(str(end.outcome), end.leases_lost) for end in ends] == [
        ("returned", ("one",)),
        ("returned", ()),
    ]
    assert sound(made)


def test_expired_and_not_taken_is_lost_all_the_same(governor: Make, clock: ManualClock) -> None:
    """Broken if what a holder does after its term passes for what it did while it held the lease."""
    made = governor(policy(), clock=clock)
    with made.session("s", agent="bot") as session:
        deploy("api", lambda: clock.advance(TERM))
        assert held(made) == []
    assert [event.leases_lost for event in finished(made, session.id)] == [("one",)]
    assert sound(made)


async def test_two_leases_in_both_orders(governor: Make) -> None:
    """Broken if two calls that need the same two leases, named in both orders, wait for each other or hold half."""
    first = {"name": "a", "tools": ["deploy", "restart"]}
    second = {"name": "b", "tools": ["restart", "deploy"]}
    one, other = governor(policy(first, second)), governor(policy(second, first))
    ran = 0

    async def many(made: Governor) -> None:
        nonlocal ran
        async with made.session("s", agent="bot"):
            for _ in range(20):
                try:
                    await adeploy("api", lambda: asyncio.sleep(0))
                    ran += 1
                except LeaseTaken:
                    await asyncio.sleep(0)

    await asyncio.gather(many(one), many(other), many(one), many(other))
    assert ran > 4
    assert {row.token for row in one.leases()} <= {ran}
    assert held(one) == []
    assert sound(one)


def test_all_or_nothing(governor: Make) -> None:
    """Broken if a call that gets one lease of two is admitted, or keeps the one that it got."""
    made = governor(policy({}, {"name": "both", "tools": ["deploy", "restart"]}))
    with made.session("s", agent="bot"):
        assert restart("api", lambda: [outcome(deploy, "api"), held(made)]) == [
            "LeaseTaken",
            [("both", 1, "api")],
        ]
    assert sound(made)


def test_a_running_call_keeps_it_when_its_session_is_closed(governor: Make) -> None:
    """Broken if closing a session lets a second call in while the first still runs."""
    made = governor(policy())
    session = made.session("s", agent="bot")
    with session:

        @governed(name="deploy")
        def stream() -> Generator[int, None, None]:
            yield 1

        running = stream()
        next(running)
    with made.session("s", agent="bot"):
        assert outcome(deploy) == "LeaseTaken"
        running.close()
        assert outcome(deploy) == "done"
    assert sound(made)


def test_what_plugins_redact_is_not_kept(governor: Make, database: str) -> None:
    """Broken if a resource that plugins redact is found in the books because a lease is named by it."""

    class Redacts:
        @hookimpl
        def interlock_redact(self, content: Content) -> str | None:
            return content.text.replace("secret", "***")

    made = governor(policy({"per": "resource"}), plugins=[Redacts()])
    with made.session("s", agent="bot"):
        seen = deploy(
            "secret", lambda: [held(made), outcome(deploy, "secret"), outcome(deploy, "x")]
        )
        assert seen == [[("one", 1, "***")], "LeaseTaken", "done"]
        assert "secret" not in str(made.leases())
    assert sound(made)


def test_any_text_names_a_resource(governor: Make) -> None:
    """Broken if a resource that an index or a column cannot hold is an error of the database."""
    made = governor(policy({"per": "resource"}))
    with made.session("s", agent="bot"):
        for name in ("x" * 100_000, "", "\ud800", "ÿ😀"):
            assert deploy(name, lambda name=name: outcome(deploy, name)) == "LeaseTaken"
    assert sound(made)


def test_without_leases_nothing_is_asked(governor: Make) -> None:
    """Broken if a call that needs no lease costs a statement more than it did."""
    made = governor(policy())
    link: Any = type(made._machinery.store._writer._batches._link)
    seen: list[str] = []
    read, run = link.read, link.run

    def reading(self: Any, requests: Any) -> Any:
        seen.extend(statement.text for statement, parameters in requests for _ in parameters)
        return read(self, requests)

    def running(self: Any, statement: Any, parameters: Any) -> Any:
        seen.append(statement.text)
        return run(self, statement, parameters)

    link.read, link.run = reading, running
    try:
        with made.session("s", agent="bot"):
            restart()
            without = [text for text in seen if "leases" in text and "holders" in text]
            deploy()
    finally:
        link.read, link.run = read, run
    assert without == []
    assert any("holders" in text for text in seen)


def test_another_policy_shares_it_by_name(governor: Make) -> None:
    """Broken if workers with different versions of a policy each let as many calls run as it says."""
    one, two = governor(policy()), governor(policy({"max_concurrent": 2}, name="q"))
    with one.session("s", agent="bot"):

        def inside() -> list[str]:
            with one.session("t", agent="bot"):
                first = outcome(deploy)
            with two.session("t", agent="bot"):
                return [first, outcome(deploy, "x", lambda: outcome(deploy))]

        assert deploy("api", inside) == ["LeaseTaken", "LeaseTaken"]
    assert sound(one)


def test_a_crowd_in_one_batch(governor: Make) -> None:
    """Broken if calls that are admitted in one transaction are each decided as if they were alone."""
    made = governor(policy({"max_concurrent": 3}))

    async def main() -> Counter[str]:
        everybody_else_has_heard = asyncio.Event()

        async def call() -> str:
            try:
                await adeploy("api", everybody_else_has_heard.wait)
            except LeaseTaken:
                return "taken"
            return "held"

        async with made.session("s", agent="bot"):
            calls = [asyncio.create_task(call()) for _ in range(64)]
            for refused in islice(asyncio.as_completed(calls), 61):
                await refused
            everybody_else_has_heard.set()
            return Counter(await asyncio.gather(*calls))

    assert asyncio.run(main()) == {"held": 3, "taken": 61}
    assert sound(made)


def test_event_of_a_call_says_nothing_without_leases() -> None:
    """Broken if the events of calls that need no lease grow by what is not there."""
    finished_event = events.CallFinished(
        call_id="c", tool="t", outcome=events.Outcome.RETURNED, duration_us=1
    )
    assert "leases" not in events.body_of(finished_event)
