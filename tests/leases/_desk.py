"""Tools that need leases, and policies that say which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock import Governor, Refused, events, governed
from tests.books import unsound
from tests.callers import history

Inside = Callable[[], Any]
"""What a tool does while it runs."""


@governed(resource="service")
def deploy(service: str | None = "api", inside: Inside | None = None) -> Any:
    """Deploy a service, and do something *inside*."""
    return "done" if inside is None else inside()


@governed(resource="service")
def restart(service: str = "api", inside: Inside | None = None) -> Any:
    """Restart a service, and do something *inside*."""
    return "done" if inside is None else inside()


@governed(name="deploy", resource="service")
async def adeploy(service: str = "api", inside: Any = None) -> Any:
    """Deploy a service, awaiting what is done *inside*."""
    return "done" if inside is None else await inside()


def policy(*leases: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A policy that allows everything, and has these leases of `deploy`."""
    given = [{"name": "one", "tools": ["deploy"], **lease} for lease in leases or [{}]]
    return {"version": 1, "name": "p", "default": "allow", "leases": given, **more}


def outcome(tool: Callable[..., Any], *args: Any) -> str:
    """What becomes of a call."""
    try:
        return str(tool(*args))
    except Refused as refused:
        return type(refused).__name__


def held(governor: Governor) -> list[tuple[str, int, str | None]]:
    """Who holds what: the lease, the token, and the resource."""
    return [
        (row.key.lease, holder.token, holder.resource)
        for row in governor.leases()
        for holder in row.holders
    ]


def finished(governor: Governor, session_id: str) -> list[events.CallFinished]:
    """How the calls of a session ended, in order."""
    found = history(governor, session_id)
    return [event for event in found if isinstance(event, events.CallFinished)]


def decided(governor: Governor, session_id: str) -> list[events.CallDecided]:
    """What was decided in a session, in order."""
    found = history(governor, session_id)
    return [event for event in found if isinstance(event, events.CallDecided)]


def sound(governor: Governor) -> bool:
    """Whether all rows are what the events say."""
    assert unsound(governor) == []
    return True
