"""The process's default governor: set once at start-up, for hosts that cannot pass one around."""

from __future__ import annotations

from interlock._governor import Governor
from interlock._session import Session
from interlock.errors import Misuse, NotConfigured

_default: Governor | None = None


def configure(governor: Governor | None) -> None:
    """
    Make *governor* the process's default, which `interlock.session()` uses; None takes it away again.

    Raises:
        Misuse: another one is the default already; two libraries of one process must not fight over it.
    """
    global _default  # noqa: PLW0603 - the one process-wide setting, asked for explicitly by the host
    if governor is not None and _default is not None and governor is not _default:
        raise Misuse(
            "another governor is the default already; take it away first with configure(None)"
        )
    _default = governor


def session(
    name: str,
    *,
    agent: str,
    user: str | None = None,
    team: str | None = None,
    org: str | None = None,
) -> Session:
    """
    Return a session of the default governor; see `Governor.session`.

    Raises:
        NotConfigured: there is no default governor.
    """
    if _default is None:
        raise NotConfigured(
            "there is no default governor: call `interlock.configure(Governor(url, policy=…))` at start-up, "
            "or use `governor.session(…)`"
        )
    return _default.session(name, agent=agent, user=user, team=team, org=org)
