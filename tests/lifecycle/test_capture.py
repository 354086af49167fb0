"""Capture: what is kept of arguments and results, at each level; what is shown to a human; and what still works."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from interlock import (
    ApprovalNeeded,
    Denied,
    Governor,
    Identity,
    Misuse,
    Refused,
    Tool,
    Verdict,
    governed,
    hookimpl,
)
from interlock._call import digest_of
from interlock._canonical import canonical
from interlock._capture import Capture, Keyed
from interlock.evaluators import Redacted
from interlock.events import CallDecided, CallFinished, TicketOpened
from interlock.store import tickets
from interlock.store.statements import tables_of
from interlock.testing import Recorder
from tests.commands import cli_of, lines
from tests.judges import naming, reviewer
from tests.samples import opinion

Make = Callable[..., Governor]

BAIT = "hunter2-planted"
KEY = "0123456789abcdef-of-this-test"
LEVELS = tuple(Capture)
HIDING = (Capture.NONE, Capture.DIGEST)

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "desk",
    "default": "deny",
    "rules": [
        {
            "id": "small",
            "tools": ["send", "asked"],
            "when": {"argument": "amount", "at_most": 50},
            "verdict": "allow",
        },
        {"id": "large", "tools": ["send", "asked"], "verdict": "ask", "approvers": ["oncall"]},
    ],
}


def _mask(content: Any) -> str | None:
    text = str(content.text)
    return text.replace("4711-0815", "****") if "4711-0815" in text else None


MASKING = SimpleNamespace(interlock_redact=hookimpl(_mask))
"""A plugin that takes a number out of texts."""


@governed(secrets=["card"], resource="to")
def send(to: str, amount: int, body: Any = "", card: str = "") -> Any:
    """Give back what it was given."""
    return {"body": body, "card": card}


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def everything(connection: Connection) -> str:
    """All that is in the database, as one text."""
    return "\n".join(
        repr(tuple(row))
        for table in tables_of(connection).all()
        for row in connection.execute(select(table))
    )


def decided(recorder: Recorder) -> CallDecided:
    """The last decision."""
    return [event for event in recorder.events if isinstance(event, CallDecided)][-1]


def finished(recorder: Recorder) -> CallFinished:
    """The last end of a call."""
    return [event for event in recorder.events if isinstance(event, CallFinished)][-1]


def sound(made: Governor, session_id: str) -> None:
    """Check that the books agree with themselves, and decisions come out again."""
    assert [report.problem for report in made.verify()] == [None]
    again = made.replay(session_id)
    assert (again.differing, again.unknown) == ((), ())


@pytest.fixture(params=["governor", "tool"])
def sending(request: pytest.FixtureRequest, governor: Make) -> Callable[..., Any]:
    """Make a governor, and a tool that keeps so much: by the governor's default, or by its own declaration."""

    def make(level: Capture, result: Capture, **options: Any) -> tuple[Governor, Any]:
        if request.param == "governor":
            return governor(POLICY, capture=level, capture_result=result, **options), send
        other = Capture.NONE if level is Capture.FULL else Capture.FULL
        made = governor(POLICY, capture=other, capture_result=other, **options)
        tool = governed(
            name="send",
            secrets=["card"],
            resource="to",
            capture=str(level),
            capture_result=result,
        )(send.__wrapped__)
        return made, tool

    return make


@pytest.mark.promise(9)
@pytest.mark.parametrize("level", LEVELS)
def test_arguments(level: Capture, sending: Any, recorder: Recorder) -> None:
    """Broken if more of an argument is anywhere in the books than was said; or less; or they cannot be checked then."""
    made, tool = sending(level, Capture.NONE, plugins=[recorder, MASKING])
    with made.session("s", agent="bot") as session:
        given = {"body": f"{BAIT} 4711-0815", "card": "5105-secret"}
        assert tool("desk 4711-0815", 20, **given) == given
    event = decided(recorder)
    kept = json.loads(event.arguments)
    whole = made.read(everything)
    secret = {"$secret": True}
    plain = hashlib.sha256(canonical(given["body"])).hexdigest()
    expected: dict[Capture, Any] = {
        Capture.NONE: dict.fromkeys(("to", "amount", "body", "card"), secret),
        Capture.DIGEST: {
            "to": {"$digest": hashlib.sha256(canonical("desk 4711-0815")).hexdigest()},
            "amount": {"$digest": hashlib.sha256(canonical(20)).hexdigest()},
            "body": {"$digest": plain},
            "card": secret,
        },
        Capture.REDACTED: {
            "to": "desk ****",
            "amount": 20,
            "body": f"{BAIT} ****",
            "card": secret,
        },
        Capture.FULL: {
            "to": "desk 4711-0815",
            "amount": 20,
            "body": f"{BAIT} 4711-0815",
            "card": secret,
        },
    }
    assert kept == expected[level]
    assert event.capture is level
    assert (BAIT in whole) is level.shows
    assert ("4711-0815" in whole) is (level is Capture.FULL)
    assert event.resource == ("desk 4711-0815" if level is Capture.FULL else "desk ****")
    assert "5105-secret" not in whole
    assert [report.problem for report in made.verify()] == [None]
    again = made.replay(session.id)
    assert again.differing == ()
    assert bool(again.unknown) is (level in HIDING), "whether what the policy says of it is known"


@pytest.mark.promise(9)
@pytest.mark.parametrize("level", LEVELS)
def test_results(level: Capture, sending: Any, recorder: Recorder) -> None:
    """Broken if more of a result is in the books than was said, or a declared secret in it is."""
    made, tool = sending(Capture.NONE, level, plugins=[recorder, MASKING])
    with made.session("s", agent="bot"):
        result = tool("desk", 20, body=[f"{BAIT} 4711-0815"], card="5105-secret")
    event, whole = finished(recorder), made.read(everything)
    digest = hashlib.sha256(canonical(result)).hexdigest()
    assert event.result_digest == (None if level is Capture.NONE else digest)
    secret = {"$secret": True}
    expected: dict[Capture, Any] = {
        Capture.REDACTED: {"body": [f"{BAIT} ****"], "card": secret},
        Capture.FULL: {"body": [f"{BAIT} 4711-0815"], "card": secret},
    }
    assert (None if event.result is None else json.loads(event.result)) == expected.get(level)
    assert (BAIT in whole, "5105-secret" in whole) == (level.shows, False)
    assert [report.problem for report in made.verify()] == [None]


def test_by_default_arguments_are_redacted_and_results_digested(
    governor: Make, recorder: Recorder
) -> None:
    """Broken if an upgrade keeps more, or less, than what was kept before anybody could say."""
    made = governor(POLICY, plugins=[recorder])
    with made.session("s", agent="bot") as session:
        send("desk", 20, BAIT)
    assert json.loads(decided(recorder).arguments)["body"] == BAIT
    assert (finished(recorder).result, bool(finished(recorder).result_digest)) == (None, True)
    for recorded in recorder.recorded:
        assert '"capture"' not in recorded.body
        assert '"keyed"' not in recorded.body
    sound(made, session.id)


@pytest.mark.promise(5)
@pytest.mark.parametrize("level", LEVELS)
def test_nobody_says_yes_unseen(level: Capture, governor: Make, recorder: Recorder) -> None:
    """Broken if a human is asked for a yes to what they cannot see, or is not asked although they can."""
    made = governor(POLICY, capture=level, plugins=[recorder])
    with made.session("s", agent="bot") as session:
        if level.shows:
            with pytest.raises(ApprovalNeeded) as asked:
                send("desk", 900, BAIT)
            assert BAIT in asked.value.ticket.arguments
            made.write(tickets.approve, asked.value.ticket.id, by="ann")
            assert send("desk", 900, BAIT) == {"body": BAIT, "card": ""}
        else:
            with pytest.raises(Denied, match="could not be shown what would run, since ") as no:
                send("desk", 900, BAIT)
            assert no.value.decision.authors == ("capture",)
            assert session.ticket(Tool(name="send"), {"to": "desk", "amount": 900}) is None
            assert not any(isinstance(event, TicketOpened) for event in recorder.events)
    assert [report.problem for report in made.verify()] == [None]
    assert made.replay(session.id).differing == ()


@pytest.mark.parametrize("mode", ["observe", "dry_run"])
def test_where_nobody_is_asked_nobody_has_to_see(mode: str, governor: Make) -> None:
    """Broken if a call that would only have been asked about is refused where nothing is enforced."""
    made = governor({**POLICY, "mode": mode}, capture="none")
    with made.session("s", agent="bot"):
        assert send("desk", 900) == ({"body": "", "card": ""} if mode == "observe" else None)


@pytest.mark.promise(9)
def test_what_is_kept_is_what_the_caller_was_given(governor: Make, recorder: Recorder) -> None:
    """Broken if what was kept from the caller is in the books instead, or what was given to it is not."""
    own = {"judge": reviewer(lambda _self, call, result: answers.pop())}
    made = governor(naming("judge"), evaluators=own, capture_result="full", plugins=[recorder])
    answers: list[Any] = [
        Redacted(result={"left": True}, reason="1 card number"),
        opinion(Verdict.DENY, "a card number"),
    ]
    with made.session("s", agent="bot"):
        with pytest.raises(Denied):
            send("desk", 1, "withheld")
        assert finished(recorder).result is None
        assert finished(recorder).withheld
        assert send("desk", 1, "redacted") == {"left": True}
        assert finished(recorder).result == '{"left":true}'
    assert [report.problem for report in made.verify()] == [None]


@pytest.mark.promise(9)
def test_a_key_keeps_what_can_be_guessed(governor: Make, recorder: Recorder, database: str) -> None:
    """Broken if who has the books and not the key can confirm a guess, or the key is in them."""
    made = governor(POLICY, capture="digest", digest_key=KEY, plugins=[recorder])
    with made.session("s", agent="bot") as session:
        send("desk", 20)
    event, end = decided(recorder), finished(recorder)
    amount = json.loads(event.arguments)["amount"]["$digest"]
    keyed = hmac.new(KEY.encode(), canonical(20), hashlib.sha256).hexdigest()
    assert amount == f"hmac-sha256:{keyed}" == made.digest_of(20)
    assert end.result_digest == made.digest_of({"body": "", "card": ""})
    assert str(end.result_digest).startswith("hmac-sha256:")
    assert event.keyed
    other = governor(POLICY, digest_key=KEY + "x")
    assert other.digest_of(20) != amount
    assert governor(POLICY).digest_of(20) == hashlib.sha256(canonical(20)).hexdigest()
    assert KEY not in made.read(everything)
    assert KEY not in f"{vars(made)} {made._machinery!r}"
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(Keyed(KEY))
    assert [report.problem for report in made.verify()] == [None]
    assert made.replay(session.id).differing == ()
    assert cli_of(database)("verify").returncode == 0


def _guessed(event: CallDecided, session_id: str) -> str:
    """What the digest of the call is for who knows all arguments and has no key."""
    known = canonical({"to": "desk", "amount": 20, "body": "", "card": ""}).decode()
    who = Identity(agent="bot")
    return digest_of(known, tool="send", schema=event.schema, session_id=session_id, identity=who)


@pytest.mark.promise(9)
@pytest.mark.parametrize("key", [None, KEY])
def test_the_digest_of_a_call_is_keyed_too(
    key: str | None, governor: Make, recorder: Recorder
) -> None:
    """Broken if what is captured of no argument can be confirmed by the digest that tickets are bound to."""
    made = governor(POLICY, capture="none", digest_key=key, plugins=[recorder])
    with made.session("s", agent="bot") as session:
        send("desk", 20)
    event = decided(recorder)
    assert (event.digest == _guessed(event, session.id)) is (key is None)


@pytest.mark.promise(5)
def test_another_key_has_other_tickets(governor: Make) -> None:
    """Broken if a yes counts for a call of which it cannot be told that it is the same."""
    made, other = governor(POLICY, digest_key=KEY), governor(POLICY, digest_key=KEY + "x")
    same = governor(POLICY, digest_key=KEY.encode())
    with made.session("s", agent="bot") as session:
        with pytest.raises(ApprovalNeeded) as asked:
            send("desk", 900)
        made.write(tickets.approve, asked.value.ticket.id, by="ann")
        session.pause()
    with other.resume_session(session.id) as again:
        with pytest.raises(ApprovalNeeded):
            send("desk", 900)
        again.pause()
    with same.resume_session(session.id):
        assert send("desk", 900) == {"body": "", "card": ""}
    sound(made, session.id)


def test_a_replay_knows_by_the_key_that_nothing_is_left_out(
    governor: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if decisions under a keyed digest cannot be made again by who has the key, or seem to by who has not."""
    made = governor(POLICY, digest_key=KEY)
    with made.session("s", agent="bot") as session:
        send("desk", 20)
    sound(made, session.id)
    without = governor(POLICY).replay(session.id)
    assert (without.differing, without.unknown) == ((), ())
    monkeypatch.setenv("INTERLOCK_DIGEST_KEY", KEY)
    [counts] = lines(cli_of(database)("replay", session.id, "--check", "--json"))
    assert (counts["differing"], counts["unknown"]) == (0, 0)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_digest_is_looked_for(
    key: str | None, governor: Make, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if who knows a value cannot find the calls that were made with it, or that gave it, or finds others."""
    made, cli = governor(POLICY, capture="digest", digest_key=key), cli_of(database)
    with made.session("s", agent="bot") as session:
        send("desk", 20)
        send("else", 30)
    by_argument = lines(cli("events", "--json", "--digest", made.digest_of(30)))
    assert [(one["kind"], one["seq"]) for one in by_argument] == [("call_decided", 4)]
    given = made.digest_of({"body": "", "card": ""})
    by_result = lines(cli("events", session.id, "--json", "--digest", given))
    assert [(one["kind"], one["seq"]) for one in by_result] == [
        ("call_finished", 3),
        ("call_finished", 5),
    ]
    assert "call decided" in cli("events", session.id, "--digest", made.digest_of("else")).stdout
    wrong = cli("events", "--digest", "30")
    assert (wrong.returncode, "a digest is 64" in wrong.stderr) == (2, True)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Misuse, match="no digest"):
        made.digest_of(endless)


@pytest.mark.parametrize("option", ["capture", "capture_result"])
def test_a_level_is_one_of_four(option: str, governor: Make) -> None:
    """Broken if a misspelt level keeps everything, or nothing, and nobody is told."""
    said = f"{option}= is one of none, digest, redacted, full"
    with pytest.raises(Misuse, match=said):
        governed(**{option: "most"})(lambda: None)
    with pytest.raises(Misuse, match=said):
        governor(POLICY, **{option: None})


@pytest.mark.parametrize("key", ["", "short", b"fifteen-bytes--", 5])
def test_a_key_is_long_enough(key: Any, governor: Make) -> None:
    """Broken if a key that can be tried out in a moment is taken for one."""
    with pytest.raises(Misuse, match="digest_key= is text or bytes of at least 16 bytes"):
        governor(POLICY, digest_key=key)


def test_large_and_strange_results_are_bounded(governor: Make, recorder: Recorder) -> None:
    """Broken if a result fills the books, or one that cannot be written fails a call that has run."""
    made = governor(POLICY, capture_result="full", plugins=[recorder])
    with made.session("s", agent="bot"):
        assert send("desk", 1, "x" * 70_000)["body"] == "x" * 70_000
        assert "larger than 65536 bytes" in str(finished(recorder).result)


def test_a_result_that_cannot_be_written_is_still_given(governor: Make, recorder: Recorder) -> None:
    """Broken if a call that has run fails since nobody can write down what it gave."""
    odd = object()
    made = governor("observe", capture_result="full", plugins=[recorder])
    with made.session("s", agent="bot"):
        assert governed(name="odd")(lambda: odd)() is odd
    assert str(finished(recorder).result).startswith('{"$object"')


@pytest.mark.anyio
async def test_coroutines_are_captured_alike(governor: Make, recorder: Recorder) -> None:
    """Broken if what a coroutine returns is kept otherwise than what a function does."""
    made = governor("observe", capture_result="redacted", plugins=[recorder])

    @governed(name="later")
    async def later() -> list[int]:
        return [1, 2]

    async with made.session("s", agent="bot"):
        assert await later() == [1, 2]
    assert finished(recorder).result == "[1,2]"


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("level", ["none", "digest"])
def test_what_is_given_again_is_kept_or_it_is_not(
    level: str, key: str | None, governor: Make, recorder: Recorder
) -> None:
    """Broken if a result of which nothing is captured is kept beside its idempotency key, or the key can be guessed."""
    made = governor({**POLICY, "default": "allow"}, digest_key=key)
    ran: list[str] = []

    @governed(name="once", idempotency_key="order", capture="none", capture_result=level)
    def once(order: str) -> str:
        ran.append(order)
        return BAIT

    with made.session("s", agent="bot", org="acme") as session:
        assert once("o-1") == BAIT
        if level == "digest":
            assert once("o-1") == BAIT
        else:
            with pytest.raises(Refused):
                once("o-1")
    assert ran == ["o-1"]
    assert (BAIT in made.read(everything)) is (level == "digest")
    [first, *_] = [one.event for one in made.feed(session=session.id) if one.kind == "call_decided"]
    assert isinstance(first, CallDecided)
    assert first.idempotency is not None
    plain = hashlib.sha256(canonical({"order": "o-1"})).hexdigest()
    assert (first.idempotency.payload == plain) is (key is None)
    assert [report.problem for report in made.verify()] == [None]
