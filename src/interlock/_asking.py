"""What a host can have done when a human must be asked: nothing, wait for the answer, or ask one on the spot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import TypeAlias

import msgspec

from interlock._call import is_text
from interlock._ticket import Ticket
from interlock.errors import Misuse


class Answer(msgspec.Struct, frozen=True):
    """
    What a human says to a ticket.

    Attributes:
        yes: Whether the call may run.
        comment: For the record; a model is told why it was denied.
    """

    yes: bool
    comment: str | None = None


Reply: TypeAlias = Answer | bool | None
"""An answer, or the plain yes or no of one; None: there is none, which is a no for now."""

Approver: TypeAlias = Callable[[Ticket], Reply | Awaitable[Reply]]
"""Asks a human about a ticket, sync or async."""


class Wait(msgspec.Struct, frozen=True):
    """Wait for the answer, so long at most; None: until the ticket expires. Made by `wait`."""

    timeout: timedelta | None = None


class Ask(msgspec.Struct, frozen=True):
    """
    Ask a human on the spot. Made by `ask`.

    Attributes:
        approver: What asks them; None: this process's terminal.
        by: Their name, as the host knows it.
        groups: The groups that they are in, as the host knows; None: it does not know.
    """

    approver: Approver | None
    by: str
    groups: tuple[str, ...] | None = None


OnAsk: TypeAlias = Wait | Ask
"""A way to get an answer; without one the call ends with `ApprovalNeeded`, and is made again after the yes."""


def wait(timeout: timedelta | None = None) -> Wait:
    """
    Return a way to ask, for `Governor(on_ask=…)`: wait until a human has answered from elsewhere.

    A sync caller's thread is blocked for so long, an async caller awaits. After the answer the call is judged again
    from the start, and with a yes it runs. When the time is over, or the ticket's is, the call ends with
    `ApprovalNeeded`; the ticket stays, and may be answered later.

    Args:
        timeout: How long at most; None: until the ticket expires.

    Raises:
        Misuse: *timeout* is negative, or no timedelta.
    """
    given: object = timeout
    if given is not None and not (isinstance(given, timedelta) and given >= timedelta(0)):
        raise Misuse("wait(timeout=…) takes a timedelta that is not negative, or None")
    return Wait(timeout)


def ask(approver: Approver | None = None, *, by: str, groups: Iterable[str] | None = None) -> Ask:
    """
    Return a way to ask, for `Governor(on_ask=…)`: ask one human on the spot.

    What they say is written as `tickets.approve` and `tickets.deny` do, under the same rules: whoever requested the
    call cannot approve it, a quorum still needs the others, and only who is asked can answer. No answer, and an
    approver that raises, is a no for now: the call ends with `ApprovalNeeded`, and the ticket stays.

    Args:
        approver: Is given the `Ticket`, and returns an `Answer`, True, False, or None for no answer; sync or async. A
            sync one that is asked for an async caller runs in a thread of its own. None: a prompt on the terminal.
        by: The human's name, as the host has authenticated them. It never comes from the approver or from a model.
        groups: The groups that they are in, as the host knows; None: it does not know.

    Raises:
        Misuse: *by* is no name, or *approver* cannot be called.
    """
    if not is_text(by) or not by.strip():
        raise Misuse("ask(by=…) needs the name of whoever answers, as the host knows it")
    if approver is not None and not callable(approver):
        raise Misuse("ask() takes a function of a ticket, or nothing for a prompt on the terminal")
    return Ask(approver, by, None if groups is None else tuple(groups))


def checked(on_ask: object) -> OnAsk | None:
    """
    Return *on_ask* if it is a way to ask.

    Raises:
        Misuse: it is none.
    """
    if on_ask is None or isinstance(on_ask, (Wait, Ask)):
        return on_ask
    raise Misuse("on_ask= takes interlock.wait(…), interlock.ask(…), or None to suspend the call")


def answer_of(reply: object) -> Answer | None:
    """
    Return what an approver's *reply* means.

    Raises:
        TypeError: it means nothing: what is neither a yes nor a no must not pass for either.
    """
    if isinstance(reply, bool):
        return Answer(reply)
    if reply is None or (isinstance(reply, Answer) and isinstance(reply.yes, bool)):
        return reply
    raise TypeError(
        f"an approver answers True, False, None or an Answer, not a {type(reply).__name__}"
    )
