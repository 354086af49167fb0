"""What the books say of a session, in a form that tests can compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from interlock import Governor, Session, Verdict
from interlock.events import CallDecided, Outcome
from interlock.testing import Recorder


def unsound(governor: Governor) -> list[str]:
    """Return all that verification finds, without checkpoints."""
    sessions = [report.problem for report in governor.verify() if report.problem is not None]
    return sessions + [one for found in governor.verify_books().values() for one in found]


def booked(session: Session) -> tuple[dict[Verdict, int], dict[Outcome, int], dict[str, str]]:
    """Return how many calls got each verdict, how many ended each way, and which are still open."""
    state = session.state()
    return dict(state.verdicts), dict(state.outcomes), dict(state.running)


def ended(session: Session) -> dict[Outcome, int]:
    """Return how many calls ended each way; none may still be open."""
    _, outcomes, running = booked(session)
    assert running == {}
    return outcomes


async def has_ended(session: Session) -> None:
    """Wait until a call of *session* has ended: an event loop closes what was dropped when it comes to it."""
    with anyio.fail_after(30):
        while not session.state().outcomes:  # noqa: ASYNC110 - the event is in the store
            await anyio.sleep(0.001)


def of_kind(recorder: Recorder, *kinds: type) -> list[Any]:
    """Return the events of some kinds that *recorder* was shown, in order."""
    return [event for event in recorder.events if isinstance(event, kinds)]


def judged(recorder: Recorder) -> list[tuple[str, str]]:
    """Return the tools that were judged and their arguments as they were recorded, in order."""
    events: Iterable[CallDecided] = of_kind(recorder, CallDecided)
    return [(event.tool, event.arguments) for event in events]
