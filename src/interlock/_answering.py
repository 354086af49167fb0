"""Answering: how a call gets the answer to its ticket, in the way that the host has chosen."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio.from_thread
import anyio.to_thread

from interlock._asking import Answer, Approver, Ask, OnAsk, Wait, answer_of
from interlock._call import Call
from interlock._plugins import Plugins
from interlock._prompt import prompt
from interlock._ticket import Ticket, TicketState
from interlock.errors import Conflict
from interlock.events import Recorded
from interlock.store import tickets
from interlock.store.engine import Store

log = logging.getLogger("interlock")


class Answering:
    """How one call gets its answers: of several tickets, if it needs one anew, within one time."""

    def __init__(self, way: OnAsk | None, store: Store, plugins: Plugins) -> None:
        """Get them in that *way*; None: not at all."""
        self._way = way
        self._store = store
        self._plugins = plugins
        self._deadline: float | None = None
        self._asked: set[str] = set()

    def get(self, call: Call, ticket: Ticket) -> bool:
        """Get an answer to *ticket* for *call*, blocking; return whether there is one, or none needed any more."""
        match self._way:
            case None:
                return False
            case Wait():
                return self._store.watch.wait(ticket.id, call, self._until(self._way))
            case Ask():
                if not self._may_ask(ticket):
                    return False
                asked = partial(_ask_blocking, self._way.approver or prompt)
                try:
                    answer = answer_of(asked(ticket))
                except Exception:
                    log.exception("the approver failed, so ticket %s has no answer", ticket.id)
                    return False
                return self._enter(self._way, ticket, answer)

    async def aget(self, call: Call, ticket: Ticket) -> bool:
        """Do as `get` does, awaiting; a cancellation ends it, and leaves the ticket as it is."""
        match self._way:
            case None:
                return False
            case Wait():
                return await self._store.watch.await_(ticket.id, call, self._until(self._way))
            case Ask():
                if not self._may_ask(ticket):
                    return False
                try:
                    answer = answer_of(await _ask_awaiting(self._way.approver or prompt, ticket))
                except Exception:
                    log.exception("the approver failed, so ticket %s has no answer", ticket.id)
                    return False
                return await self._aenter(self._way, ticket, answer)

    def _until(self, way: Wait) -> float:
        if self._deadline is None:
            timeout = None if way.timeout is None else way.timeout.total_seconds()
            self._deadline = self._store.watch.deadline(timeout)
        return self._deadline

    def _may_ask(self, ticket: Ticket) -> bool:
        """Whether *ticket* was not shown to them yet by this call: a human is not asked the same twice."""
        is_new = ticket.id not in self._asked
        self._asked.add(ticket.id)
        return is_new

    def _enter(self, way: Ask, ticket: Ticket, answer: Answer | None) -> bool:
        """Write *answer* down; return whether the ticket now has one, be it another's."""
        if answer is None:
            return False
        try:
            self._show(self._store.write(_operation(way, ticket, answer)))
        except Conflict as conflict:
            _log_refused(way, ticket, conflict)
        return _is_over(self._store.read(tickets.get, ticket.id))

    async def _aenter(self, way: Ask, ticket: Ticket, answer: Answer | None) -> bool:
        if answer is None:
            return False
        held: BaseException | None = None
        try:
            recorded, held = await self._store.awrite(_operation(way, ticket, answer))
            self._show(recorded)
        except Conflict as conflict:
            _log_refused(way, ticket, conflict)
        found, later = await self._store.awrite(tickets.get, ticket.id)  # a read would block
        if (held := held or later) is not None:
            raise held
        return _is_over(found)

    def _show(self, recorded: Any) -> None:
        for one in recorded if isinstance(recorded, list) else [recorded]:
            if isinstance(one, Recorded):
                self._plugins.recorded(one)


def _operation(way: Ask, ticket: Ticket, answer: Answer) -> Callable[..., Any]:
    if answer.yes:
        return partial(
            tickets.approve,
            ticket_id=ticket.id,
            by=way.by,
            comment=answer.comment,
            groups=way.groups,
        )
    return partial(tickets.deny, ticket_id=ticket.id, by=way.by, comment=answer.comment)


def _is_over(ticket: Ticket) -> bool:
    return ticket.state not in {TicketState.PENDING, TicketState.EXPIRED}


def _log_refused(way: Ask, ticket: Ticket, conflict: Conflict) -> None:
    log.warning("what %s answers to ticket %s does not count: %s", way.by, ticket.id, conflict)


def _ask_blocking(approver: Approver, ticket: Ticket) -> object:
    reply = approver(ticket)
    if not inspect.isawaitable(reply):
        return reply
    # In a loop of its own, since one may be running in this thread; it sees the caller's context variables.
    with anyio.from_thread.start_blocking_portal() as portal:
        return portal.call(_awaited, reply)


async def _ask_awaiting(approver: Approver, ticket: Ticket) -> object:
    if _is_async(approver):
        reply: Any = approver(ticket)
    else:  # it may take minutes, and an event loop must not
        reply = await anyio.to_thread.run_sync(approver, ticket, abandon_on_cancel=True)
    return await reply if inspect.isawaitable(reply) else reply


def _is_async(approver: Approver) -> bool:
    inner = approver
    while isinstance(inner, partial):
        inner = inner.func
    if inspect.iscoroutinefunction(inner):
        return True
    return inspect.iscoroutinefunction(getattr(type(inner), "__call__", None))  # noqa: B004 - not whether it is callable


async def _awaited(reply: Awaitable[object]) -> object:
    return await reply
