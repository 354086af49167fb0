"""Notes of the host in a session's history: any value is kept, bounded, without its secrets, and seen like an event."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pydantic
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session as OrmSession

from interlock import Governor, InterlockError, Misuse, Session, _total, governed, hookimpl
from interlock._total import MAX_BYTES, MAX_DEPTH, total, written
from interlock.errors import Conflict, StoreUnavailable
from interlock.events import AppNoted
from interlock.testing import Recorder
from tests.conftest import ALLOW_ALL
from tests.forging import DRIVERS, run
from tests.tracing import Traces, attributes
from tests.values import values

BAIT = "sk-planted-4711"


@pytest.fixture
def recorder() -> Recorder:
    """A plugin that keeps what was recorded."""
    return Recorder()


@pytest.fixture
def governor(either: str, recorder: Recorder) -> Iterator[Governor]:
    """A governor over a fresh store."""
    with Governor(either, policy=ALLOW_ALL, plugins=[recorder]) as one:
        yield one


@pytest.fixture
def session(governor: Governor) -> Iterator[Session]:
    """An open session."""
    with governor.session("s", agent="bot") as one:
        yield one


def stored(url: str) -> list[str]:
    """The bodies of all notes in the store."""
    return [
        row[0]
        for row in run(url, "SELECT body FROM events WHERE kind = 'app_noted' ORDER BY position")
    ]


def test_what_is_noted_is_an_event(session: Session, recorder: Recorder, either: str) -> None:
    """Broken if a note is not in the history, in its place, or plugins do not see it."""
    recorded = session.record("loop_started", {"round": 1, "left": Decimal("2.50")})
    assert (
        AppNoted(name="loop_started", data='{"left":{"$decimal":"2.50"},"round":1}')
        == recorded.event
    )
    assert (2, recorded) == (recorded.seq, recorder.recorded[-1])
    assert [recorded.body] == stored(either)
    assert (session.state().head, len(session.state().verdicts)) == (2, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_can_be_awaited(session: Session, recorder: Recorder, anyio_backend: str) -> None:
    """Broken if a note of a task is not written, or not shown."""
    recorded = await session.arecord("loop_started", [1])
    assert (AppNoted(name="loop_started", data="[1]"), recorded) == (
        recorded.event,
        recorder.recorded[-1],
    )


@pytest.mark.parametrize(
    "name",
    ["", "Loop", "1st", "loop-started", "a..b", ".a", "a.", "é", "a b", "x" * 65, None, 7],
    ids=repr,
)
def test_a_name_that_is_none_is_refused(session: Session, either: str, name: Any) -> None:
    """Broken if notes come under names that nobody can search for."""
    with pytest.raises(Misuse, match="has a name such as"):
        session.record(name)
    with pytest.raises(Misuse, match="collection of names"):
        session.record("fine", secrets="card")
    assert stored(either) == []


def test_names_may_have_parts(session: Session) -> None:
    """Broken if a name that the rule allows is refused."""
    for name in ("a", "plan.step_done", "a1.b2.c3", "x" * 64):
        event = session.record(name).event
        assert isinstance(event, AppNoted)
        assert name == event.name


@pytest.mark.promise(9)
def test_secrets_are_masked_before_anything_is_stored(session: Session, either: str) -> None:
    """Broken if what is marked as secret, in any of the ways there are, is in the database."""

    @dataclasses.dataclass
    class Login:
        user: str
        password: str = dataclasses.field(repr=False)

    class Card(pydantic.BaseModel):
        holder: str
        number: str = pydantic.Field(repr=False)
        pin: pydantic.SecretStr

    class Noisy:
        def __repr__(self) -> str:
            return BAIT

        @property
        def get(self) -> str:
            raise ValueError(BAIT)

    session.record(
        "login",
        {
            "token": BAIT,
            "deep": [{"x": ({"token": BAIT, "kept": "visible"},)}],
            "login": Login("ann", BAIT),
            "card": Card(holder="ann", number=BAIT, pin=pydantic.SecretStr(BAIT)),
            "secret": pydantic.SecretBytes(BAIT.encode()),
            "noisy": Noisy(),
            "error": ValueError(BAIT),
        },
        secrets=["token"],
    )
    [body] = stored(either)
    assert "planted" not in body
    assert "visible" in body
    assert body.count("$secret") == 6


@pytest.mark.promise(9)
def test_plugins_redact_a_note_before_it_is_stored(either: str) -> None:
    """Broken if a redactor is not asked about notes, or what it takes out is stored all the same."""
    seen: list[tuple[str, str]] = []

    class Redactor:
        @hookimpl
        def interlock_redact(self, content: Any) -> str | None:
            seen.append((content.tool, content.path))
            return content.text.replace(BAIT, "[key]") if BAIT in content.text else None

    with (
        Governor(either, policy=ALLOW_ALL, plugins=[Redactor()]) as governor,
        governor.session("s", agent="bot") as session,
    ):
        session.record("step", {"a": {"b": [f"see {BAIT}"]}, BAIT: 1})
    [body] = stored(either)
    assert "planted" not in body
    assert body.count("[key]") == 2
    assert ("step", "a.b.0") in seen


def test_a_redactor_that_fails_withholds(either: str) -> None:
    """Broken if a text is stored that a redactor failed on."""

    class Redactor:
        @hookimpl
        def interlock_redact(self, content: Any) -> str | None:
            raise RuntimeError(BAIT)

    with (
        Governor(either, policy=ALLOW_ALL, plugins=[Redactor()]) as governor,
        governor.session("s", agent="bot") as session,
    ):
        session.record("step", ["text"])
    [body] = stored(either)
    assert "$redacted" in body
    assert "text" not in body


def test_a_note_is_an_event_of_the_current_span(either: str) -> None:
    """Broken if a trace does not show a note, shows what was noted, or the row does not lead back to the trace."""
    traces = Traces()
    with (
        Governor(either, policy=ALLOW_ALL, tracer_provider=traces.provider) as governor,
        governor.session("s", agent="bot") as session,
        traces.ambient("app") as span,
    ):
        recorded = session.record("loop_started", {"who": BAIT})
    [event] = span.events
    assert event.name == "interlock.note"
    assert {
        "interlock.note.name": "loop_started",
        "interlock.session.id": session.id,
        "interlock.event.id": recorded.id,
        "interlock.event.seq": recorded.seq,
        "interlock.chain.head": recorded.hash,
    } == dict(event.attributes or {})
    assert recorded.trace is not None
    assert span.get_span_context().span_id == int(recorded.trace.span_id, 16)
    assert BAIT not in str(attributes(span))


def test_an_observer_that_fails_changes_nothing(either: str) -> None:
    """Broken if a note is lost, or its caller is stopped, because a plugin failed to look at it."""

    class Failing:
        @hookimpl
        def interlock_recorded(self, recorded: Any) -> None:
            raise RuntimeError("no")

    with (
        Governor(either, policy=ALLOW_ALL, plugins=[Failing()]) as governor,
        governor.session("s", agent="bot") as session,
    ):
        session.record("step")
    assert len(stored(either)) == 1


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("by", ["connection", "orm"])
def test_it_is_written_in_the_hosts_own_transaction(
    session: Session, recorder: Recorder, either: str, by: str, *, commits: bool
) -> None:
    """Broken if a note outlives the business write that it belongs to, or is shown before it is certain."""
    engine = create_engine(
        make_url(either).set(drivername=DRIVERS[make_url(either).get_backend_name()])
    )
    with engine.connect() as connection, OrmSession(bind=connection) as orm:
        within = connection if by == "connection" else orm
        recorded = session.record("paid", {"order": "o-1"}, within=within)
        assert recorded not in recorder.recorded
        (within.commit if commits else within.rollback)()
    engine.dispose()
    assert ([recorded.body] if commits else []) == stored(either)
    assert [report.problem for report in _verified(either)] == [None]


def _verified(url: str) -> list[Any]:
    with Governor(url) as governor:
        return list(governor.verify())


def test_nothing_is_noted_in_what_has_ended(governor: Governor, either: str) -> None:
    """Broken if the history of a session goes on after its end, or a paused one cannot be written to."""
    with governor.session("s", agent="bot") as session:
        session.pause()
        session.record("while_paused")
    with governor.resume_session(session.id) as resumed:
        resumed.record("again")
    with pytest.raises(Conflict, match="completed"):
        session.record("too_late")
    with pytest.raises(Misuse, match="not open"):
        governor.session("t", agent="bot").record("too_early")
    assert len(stored(either)) == 2


def test_a_note_that_cannot_be_written_says_so(governor: Governor) -> None:
    """Broken if a note is lost in silence."""
    session = governor.session("s", agent="bot")
    session.__enter__()
    session._detach()
    governor.close()
    with pytest.raises(StoreUnavailable):
        session.record("lost")


def test_notes_do_not_affect_a_decision(session: Session) -> None:
    """Broken if a call is judged otherwise because of what its host has noted."""

    @governed
    def act() -> str:
        return "ran"

    for _ in range(3):
        session.record("act", {"verdict": "deny"})
        assert act() == "ran"
    assert {str(key): count for key, count in session.state().verdicts.items()} == {"allow": 3}


class _Hostile:
    """Raises wherever it is touched."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(BAIT)

    __hash__ = None  # type: ignore[assignment]


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)


@dataclasses.dataclass
class _Deceptive:
    shown: int = 1

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        raise RuntimeError(BAIT)


def _cycle() -> Any:
    found: dict[str, Any] = {}
    found["self"] = [found]
    return found


def _deep() -> Any:
    found: Any = "bottom"
    for _ in range(5_000):
        found = [found]
    return found


def _shared() -> Any:
    """Small in memory, endless when written out."""
    found: Any = ["x"]
    for _ in range(14):
        found = [found] * 10
    return found


ODD: dict[str, Callable[[], Any]] = {
    "hostile": _Hostile,
    "within": lambda: {"a": [_Hostile()], "b": 1},
    "deceptive": _Deceptive,
    "cycle": _cycle,
    "deep": _deep,
    "wide": lambda: [0] * 3_000_000,
    "long": lambda: "x" * 3_000_000,
    "long key": lambda: {"x" * 3_000_000: 1},
    "large": lambda: ["x" * 1_000] * 100,
    "shared": _shared,
    "huge int": lambda: 10**5_000,
    "nan": lambda: float("nan"),
    "surrogate": lambda: "\ud800",
    "null": lambda: "\0",
    "lock": threading.Lock,
    "class": lambda: _Hostile,
    "function": lambda: _deep,
    "module": lambda: json,
    "generator": lambda: (number for number in range(3)),
    "deque": lambda: deque([1, 2]),
    "keys": lambda: {1: "a", (1, 2): "b", None: "c", b"x": "d", frozenset({1}): "e"},
    "model": lambda: _Record(inner=_Record(lock=threading.Lock())),
    "exception": lambda: ValueError(BAIT),
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_it_is_it_becomes_json(session: Session, either: str, name: str) -> None:
    """Broken if a value that is odd, hostile or endless raises, is kept in full, or says what it must not."""
    recorded = session.record("odd", ODD[name]())
    [body] = stored(either)
    assert recorded.body == body
    data = json.loads(json.loads(body)["data"])
    assert BAIT not in body
    assert len(json.dumps(data)) <= MAX_BYTES
    assert [report.problem for report in _verified(either)] == [None]


@given(values)
def test_total_is_total(value: Any) -> None:
    """Broken if any value raises, or what is written of it is no canonical JSON."""
    text = written(total(value))
    assert rfc8785.dumps(json.loads(text)).decode() == text


@given(
    st.recursive(st.just(BAIT), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_what_is_under_a_secret_name_is_masked_at_any_depth(value: Any) -> None:
    """Broken if a secret is found by the depth or the shape in which it is given."""
    wrapped = {"a": [({"token": value},)], "token": value}
    assert BAIT not in written(total(wrapped, secrets=["token"]))


def test_bounds_are_where_they_are_said_to_be() -> None:
    """Broken if what is within the bounds is cut, or what is beyond them is kept."""
    fits, nested = "x" * (MAX_BYTES - 2), 1
    for _ in range(MAX_DEPTH):
        nested = [nested]  # type: ignore[assignment]
    assert json.dumps(fits) == written(total(fits))
    assert "$cut" in written(total(fits + "x"))
    assert "$cut" not in written(total(nested))
    assert "$cut" in written(total([nested]))
    assert _total.total({"a": 1}) == {"a": 1}


def test_an_error_of_ours_is_no_reason_to_stop(session: Session) -> None:
    """Broken if recording is not told apart from deciding: it raises what a host can catch as ours."""
    with pytest.raises(InterlockError):
        session.record("No Name")
