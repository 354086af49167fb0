"""Redaction by plugins: a secret within the arguments is recorded nowhere, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock import ApprovalNeeded, Governor, Ticket, governed, hookimpl
from interlock._call import Tool, describe
from interlock.hookspecs import Content
from interlock.testing import Recorder
from tests.tracing import Traces

SECRET = "hunter2-planted"
ASK: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "default": "allow",
    "rules": [
        {"id": "r", "tools": ["asked"], "verdict": "ask", "approvers": ["ops"], "expires": "1h"}
    ],
}


class Redactor:
    """A plugin that takes the secret out of texts, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Content] = []
        self.tickets: list[Ticket] = []
        self.opened: list[str] = []

    @hookimpl
    def interlock_redact(self, content: Content) -> str | None:
        """Take the secret out."""
        self.shown.append(content)
        return content.text.replace(SECRET, "*") if SECRET in content.text else None

    @hookimpl
    def interlock_approval_requested(self, ticket: Ticket) -> None:
        """Keep it."""
        self.tickets.append(ticket)

    @hookimpl
    def interlock_session_opened(self, recorded: Any) -> None:
        """Keep its kind."""
        self.opened.append(recorded.kind)

    @hookimpl
    def interlock_session_closed(self, recorded: Any) -> None:
        """Keep its kind."""
        self.opened.append(recorded.kind)


class Second(Redactor):
    """Another one, which has another name."""


class Failing:
    """A redactor that answers with what it is told to, or raises it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @hookimpl
    def interlock_redact(self, content: Content) -> Any:
        """Fail."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


ran: list[Any] = []


@governed(resource="name")
def plain(name: str, data: Any) -> None:
    """Note what is given."""
    ran.append((name, data))


@governed
def asked(data: Any) -> None:
    """Ask first."""
    ran.append(data)


SECRETS = st.sampled_from([SECRET, f"a {SECRET} b", f"{SECRET}\ud800"])
LEAVES = st.one_of(
    SECRETS,
    SECRETS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers(),
    st.none(),
)
KEYS = st.one_of(SECRETS, st.sampled_from(["$tuple", "$redacted", "k"]), st.integers())
DATA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


def written(recorder: Recorder, governor: Governor, redactor: Redactor, tracing: Traces) -> str:
    """All that was recorded, as one text."""
    events = [repr(event) for event in recorder.events]
    reports = [report for report in governor.verify() if report.problem is not None]
    assert not reports
    spans = [span.to_json() for span in tracing.finished]
    return "\n".join([*events, *map(repr, redactor.tickets), *spans])


@pytest.mark.promise(9)
def test_a_planted_secret_is_recorded_nowhere(either: str) -> None:
    """Broken if a secret that a plugin takes out reaches an event, a ticket or a span, however it is nested."""
    redactor, recorder, tracing = Redactor(), Recorder(), Traces()
    with Governor(
        either, policy=ASK, plugins=[redactor, recorder], tracer_provider=tracing.provider
    ) as governor:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(DATA)
        def check(data: Any) -> None:
            ran.clear()
            with governor.session("s", agent="a"):
                plain(SECRET, data)
                with pytest.raises(ApprovalNeeded) as refusal:
                    asked(data)
            assert ran == [(SECRET, data)]
            assert SECRET not in refusal.value.ticket.arguments

        check()
        text = written(recorder, governor, redactor, tracing)
    assert SECRET not in text
    assert SECRET.encode().hex() not in text
    assert "aHVudGVyMi1wbGFudGVk" not in text  # the same in base64
    assert redactor.tickets
    assert redactor.opened[:2] == ["session_opened", "session_closed"]


def arguments(recorder: Recorder) -> Any:
    """The recorded arguments of the one call."""
    [event] = [event for event in recorder.events if type(event).__name__ == "CallDecided"]
    return json.loads(event.arguments)  # type: ignore[union-attr]


def call(governor: Governor, data: Any) -> None:
    """Make one call in a session."""
    ran.clear()
    with governor.session("s", agent="a"):
        plain("n", data)


@pytest.mark.parametrize(
    "answer",
    [ValueError(SECRET), 7, b"bytes", "\ud800", ["x"], "x" * 2_000_000],
    ids=["raises", "int", "bytes", "surrogate", "list", "huge"],
)
def test_a_failing_redactor_withholds_the_text(
    answer: Any, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a text is recorded that a plugin failed to redact, the call is stopped, or the log quotes it."""
    with Governor("sqlite://", policy=ASK, plugins=[Failing(answer), recorder]) as governor:
        call(governor, {"k": [SECRET]})
    withheld = {"$redacted": "Failing"}
    found = arguments(recorder)
    assert next(iter(found.values())) == {"$redacted by Failing": [withheld]}
    assert SECRET not in json.dumps(found) + caplog.text
    assert ran == [("n", {"k": [SECRET]})]


def test_redactors_see_what_the_one_before_left_and_where(recorder: Recorder) -> None:
    """Broken if a later plugin is shown what was taken out, is told another path, or sees a declared secret."""
    first, second = Redactor(), Second()

    @governed(name="plain", secrets=["pin"])
    def tool(order: Any, pin: str) -> None:
        """Do nothing."""

    with (
        Governor("sqlite://", policy=ASK, plugins=[first, second, recorder]) as governor,
        governor.session("s", agent="a"),
    ):
        tool({"items": [{"note": f"is {SECRET}"}]}, "0000")
    shown = {content.path: content.text for content in first.shown + second.shown}
    notes = [
        c.text
        for c in [*first.shown, *second.shown]
        if c.path == "order.items.0.note" and " " in c.text
    ]
    assert sorted(notes) == ["is *", f"is {SECRET}"]
    assert "0000" not in shown.values()
    assert arguments(recorder)["pin"] == {"$secret": True}


def test_redaction_leaves_what_is_judged_and_the_digest() -> None:
    """Broken if what is recorded decides what an approval is bound to, or what rules look at."""
    with (
        Governor("sqlite://", policy=ASK, plugins=[Redactor()]) as governor,
        governor.session("s", agent="a") as session,
    ):
        tool = Tool(name="asked")
        given = {"name": "n", "data": SECRET}
        found = session.performer(tool, given)[0].call
        bare, _ = describe(
            tool, given, call_id=found.id, session_id=session.id, identity=session.identity
        )
    assert SECRET in bare.recorded
    assert SECRET not in found.recorded
    assert (bare.digest, bare.arguments) == (found.digest, found.arguments)
