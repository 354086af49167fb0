"""SessionCalls: what is done in a session: its calls, its tickets, its notes."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec
from sqlalchemy import Connection

from interlock import _bodies, _flow, events
from interlock._asking import OnAsk, checked
from interlock._budget import Account, facts_of
from interlock._call import Call, Identity, Tool, describe
from interlock._capture import Capture
from interlock._captured import captured
from interlock._clock import new_id
from interlock._drive import adrive, drive
from interlock._model_call import MODEL_CALL, ModelCall
from interlock._notes import note_of
from interlock._perform import Machinery, Performer
from interlock._prices import estimated
from interlock._scope import Scope, current_call, entered
from interlock._telemetry import current_ids, show_note
from interlock._ticket import Ticket
from interlock._usage import Estimate
from interlock._verdict import Mode
from interlock.errors import Conflict, Misuse, NotConfigured
from interlock.store import budgets, sessions

if TYPE_CHECKING:  # it costs a host's start-up a tenth of a second
    from sqlalchemy.orm import Session as OrmSession

_T = TypeVar("_T")


class SessionCalls:
    """
    What is done in a session, once it is open.

    Attributes:
        name: The host's label.
        identity: On whose behalf it runs.
        mode: What becomes of decisions in it.
        ancestors: The ids of the sessions that it was opened in, the innermost first.
    """

    def __init__(
        self,
        machinery: Machinery,
        name: str,
        identity: Identity,
        *,
        dry_run: bool,
        on_ask: OnAsk | None,
        ancestors: tuple[str, ...] = (),
    ) -> None:
        """Describe a session of *machinery*'s governor."""
        self.name = name
        self.identity = identity
        judges = machinery.judges
        self.mode = (
            Mode.DRY_RUN if dry_run else Mode.ENFORCE if judges is None else judges.policy.mode
        )
        self._machinery = machinery
        self._on_ask = checked(on_ask) or machinery.on_ask
        self._id: str | None = None
        self.ancestors = ancestors
        self._ticket: Ticket | None = None
        self._is_resuming = False

    @property
    def id(self) -> str:
        """The session's UUIDv7, from its opening on."""
        if self._id is None:
            raise Misuse(f"session {self.name!r} is not open; use `with governor.session(…):`")
        return self._id

    def budgets(self) -> list[Account]:
        """
        Return how the budgets stand that count this session's calls whatever the tool: what a tool or a model may know.

        `left` of each says what can still be reserved.

        Raises:
            Misuse: the session was never opened.
            StoreUnavailable: the store did not answer.
        """
        judges = self._machinery.judges
        if judges is None:
            return []
        call = current_call()
        facts = facts_of(
            self.identity,
            session_id=self.id,
            tool=None if call is None else call.tool.name,
            model=None if call is None else call.model,
        )
        return self._machinery.store.read(budgets.of, judges.policy.budgets.claims(facts))

    @contextmanager
    def attach(self) -> Iterator[Self]:
        """
        Make this open session current here too, in a thread or callback that did not inherit it.

        Raises:
            Misuse: the session was never opened.
        """
        _ = self.id
        with entered(Scope(self)):
            yield self

    def performer(
        self, tool: Tool, arguments: Mapping[str, object], estimate: Estimate | None = None
    ) -> tuple[Performer, dict[str, Any]]:
        """
        Return what performs the effects of a call, and the arguments to run it with; `@governed` and adapters use it.

        Args:
            tool: The declaration.
            arguments: By name, defaults included.
            estimate: What the call will use at most.

        Raises:
            NotConfigured: the governor has no policy.
        """
        judges = self._machinery.judges
        if judges is None:
            raise NotConfigured(
                f"{tool.name} is governed, and its governor has no policy, so it did not run. "
                'Give it one: Governor(url, policy="policy.yaml").'
            )
        call, copied = self._described(tool, arguments, estimate)
        if self.mode is Mode.OBSERVE and not copied:  # what cannot be copied runs as it is
            copied = dict(arguments)
        performer = Performer(
            self._machinery, judges, call, self.name, self.mode, on_ask=self._on_ask
        )
        performer.origin = self._described, copied, estimate
        if self._is_resuming:
            performer.while_paused = True
            performer.ticket, self._ticket = self._ticket, None
            if performer.ticket is not None:
                _check_same(performer.ticket, call)
        return performer, copied

    def _described(
        self, tool: Tool, arguments: Mapping[str, object], estimate: Estimate | None
    ) -> tuple[Call, dict[str, Any]]:
        capturing = self._machinery.capturing
        call, copied = describe(
            tool,
            arguments,
            call_id=new_id(),
            session_id=self._id or self.id,
            identity=self.identity,
            ancestors=self.ancestors,
            key=capturing.key,
        )
        redact = self._machinery.plugins.redaction()
        if (
            redact is not None
            or tool.capture is not None
            or capturing.arguments is not Capture.REDACTED
        ):
            call = captured(call, capturing, redact)
        if estimate is not None:
            call = estimated(call, estimate, self._machinery.plugins)
        if call.idempotency is not None and self.mode is not Mode.ENFORCE:  # all run, or none
            call = msgspec.structs.replace(call, idempotency=None)
        return call, copied

    def resuming(self, ticket: Ticket) -> Self:
        """
        Return this session, described and not opened, to make in it the call of *ticket*, and what that one calls.

        It is entered by `attach`. The first call that is made must be that very call, and runs by the ticket or not at
        all. That its session is paused keeps none of them from running.
        """
        self._id, self._ticket, self._is_resuming = ticket.session_id, ticket, True
        return self

    def call(
        self,
        tool: Tool,
        arguments: Mapping[str, object],
        run: Callable[[dict[str, Any]], _T],
        *,
        estimate: Estimate | None = None,
    ) -> _T:
        """
        Take a call that a framework makes through the flow, and return what *run* returns.

        Args:
            tool: The declaration. A governed function with the same one that *run* leads to is not judged again.
            arguments: By name, defaults included.
            run: Makes the call; it is given the judged copy of *arguments*, as one dict, with what a human has changed:
                `current_call().edit` says what.
            estimate: What a call of a model will use at most; *run* says by `report_usage` what it has used.

        Raises:
            Refused, Undecided, NotConfigured: *run* was not called.
            BaseException: whatever *run* raises, unmodified.
        """
        performer, scope, given = self._of_framework(tool, arguments, estimate)
        result: _T = _bodies.call_function(performer, scope, run, given)
        return result

    async def acall(
        self,
        tool: Tool,
        arguments: Mapping[str, object],
        run: Callable[[dict[str, Any]], Awaitable[_T]],
        *,
        estimate: Estimate | None = None,
    ) -> _T:
        """
        Do as `call` does, awaiting *run*.

        Raises:
            BaseException: as `call`; a cancellation, once what was written is provided for.
        """
        performer, scope, given = self._of_framework(tool, arguments, estimate)
        result: _T = await _bodies.call_coroutine(performer, scope, run, given)
        return result

    def stream(
        self,
        tool: Tool,
        arguments: Mapping[str, object],
        run: Callable[[dict[str, Any]], Generator[_T, Any, Any]],
        *,
        estimate: Estimate | None = None,
    ) -> Generator[_T, Any, Any]:
        """
        Take a call that a framework makes and whose result comes in parts through the flow; give the parts of *run*.

        It is admitted when the first part is asked for, and settled when there are no more, or at `close`. Where
        somebody reviews what such a call returns (`reviews`), it runs to its end before the first part is given.

        Args and what the first part raises: as for `call`; a dry run has no parts.
        """
        performer, scope, given = self._of_framework(tool, arguments, estimate)
        return _bodies.call_generator(performer, scope, run, given)

    def astream(
        self,
        tool: Tool,
        arguments: Mapping[str, object],
        run: Callable[[dict[str, Any]], AsyncGenerator[_T, Any]],
        *,
        estimate: Estimate | None = None,
    ) -> AsyncGenerator[_T, Any]:
        """Do as `stream` does, awaiting the parts."""
        performer, scope, given = self._of_framework(tool, arguments, estimate)
        return _bodies.call_async_generator(performer, scope, run, given)

    def reviews(self, tool: Tool, arguments: Mapping[str, object]) -> bool:
        """
        Return whether somebody reviews what such a call returns: a framework then has to give its whole result.

        Raises:
            NotConfigured: the governor has no policy.
        """
        return self.performer(tool, arguments)[0].is_reviewed

    def _of_framework(
        self, tool: Tool, arguments: Mapping[str, object], estimate: Estimate | None
    ) -> tuple[Performer, Scope, tuple[tuple[dict[str, Any]], dict[str, Any]]]:
        """Return what makes the call of a framework, where it runs, and what it is run with."""
        performer, copied = self.performer(tool, arguments, estimate)
        performer.lay = _whole
        return performer, Scope(self, performer, [tool]), ((copied,), {})

    def model_call(
        self,
        *,
        model: str,
        provider: str | None = None,
        estimate: Estimate | None = None,
        arguments: Mapping[str, object] = MappingProxyType({}),
        name: str = MODEL_CALL,
    ) -> ModelCall:
        """
        Return a model call, to be made within a `with` or `async with` block: governed like any tool.

        Example::

            with session.model_call(model="gpt-5-mini", estimate=Usage(input_tokens=900, output_tokens=500)) as call:
                answer = client.responses.create(model="gpt-5-mini", …)
                call.record(Usage(input_tokens=answer.usage.input_tokens, …))

        Args:
            model: Which model.
            provider: Whose; it helps to find the price.
            estimate: What the call will use at most. A budget that limits what is not said here refuses the call,
                unless it says otherwise.
            arguments: What else a policy may look at, by name.
            name: What rules, budgets and events call it.

        The block is not entered where this raises:
            Refused: the call is denied, steered elsewhere, over budget, or a human must say yes first.
            Undecided: the call could not be judged or recorded.
            NotConfigured: the governor has no policy.
        """
        tool = Tool(name=name, kind="model", model="model", provider=provider)
        return ModelCall(self, tool, {**arguments, "model": model}, estimate)

    def record(
        self,
        name: str,
        data: object = None,
        *,
        secrets: Collection[str] = (),
        within: Connection | OrmSession | None = None,
    ) -> events.Recorded:
        """
        Write into the session's history what the host wants noted there; nothing follows from it.

        Any value can be given. What is marked as secret is masked, and plugins redact each text, before it is stored;
        what cannot be written is replaced by what says so, and so is all of it where it is more than 64 KB of JSON.

        Args:
            name: What it is, such as `loop_started` or `plan.step_done`: at most 64 lower-case letters, digits,
                underscores and dots.
            data: What is noted, such as a mapping.
            secrets: Names under which values are masked, at any depth. What a dataclass or a pydantic model keeps out
                of its text, and pydantic's secrets, are masked in any case.
            within: A connection or session of the host's in whose transaction it is written, and which the host
                commits or rolls back. Plugins and spans are then not shown the event, which may yet be undone.

        Raises:
            Misuse: the session was never opened, or *name* is no such name.
            Conflict: the session has ended.
            StoreUnavailable: nothing was written.
        """
        note, trace = self._noted(name, data, secrets), current_ids()
        if within is not None:
            connection = within if isinstance(within, Connection) else within.connection()
            bound = self._machinery.store.bind(connection)
            return sessions.note(bound, self.id, note, trace=trace)
        recorded = self._machinery.store.write(sessions.note, self.id, note, trace=trace)
        self._show_note(recorded)
        return recorded

    async def arecord(
        self, name: str, data: object = None, *, secrets: Collection[str] = ()
    ) -> events.Recorded:
        """Do as `record` does, awaiting."""
        note = self._noted(name, data, secrets)
        recorded, cancelled = await self._machinery.store.awrite(
            sessions.note, self.id, note, trace=current_ids()
        )
        self._show_note(recorded)
        if cancelled is not None:
            raise cancelled
        return recorded

    def ticket(self, tool: Tool, arguments: Mapping[str, object]) -> Ticket | None:
        """
        Return the ticket for a call that a human must approve, opening one if there is none; else None.

        For frameworks that ask ahead of a call whether to pause. Nothing but a new request is recorded, and an
        approval is not used up: the call itself is judged when it is made. None also where the host has said, by
        `on_ask`, that the call itself gets its answer.

        Raises:
            NotConfigured, StoreUnavailable: nothing was opened.
        """
        if self._on_ask is not None:
            return None
        performer, _ = self.performer(tool, arguments)
        ticket: Ticket | None = drive(_flow.preview(performer.call), performer)
        return ticket

    async def aticket(self, tool: Tool, arguments: Mapping[str, object]) -> Ticket | None:
        """Do as `ticket` does, awaiting."""
        if self._on_ask is not None:
            return None
        performer, _ = self.performer(tool, arguments)
        ticket: Ticket | None = await adrive(_flow.preview(performer.call), performer)
        return ticket

    def _show(self, *recorded: events.Recorded) -> None:
        for one in recorded:
            self._machinery.plugins.recorded(one)

    def _noted(self, name: str, data: object, secrets: Collection[str]) -> events.AppNoted:
        redact = self._machinery.plugins.redaction()
        return note_of(name, data, secrets=secrets, redact=redact)

    def _show_note(self, recorded: events.Recorded) -> None:
        show_note(recorded)
        self._show(recorded)


def _whole(arguments: Mapping[str, Any], *_: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How `run` of `Session.call` is given its arguments."""
    return (dict(arguments),), {}


def _check_same(ticket: Ticket, call: Call) -> None:
    """Refuse to resume by *ticket* a call that is another one than it was opened for."""
    if call.tool.name != ticket.tool:
        raise Conflict(f"ticket {ticket.id} is for {ticket.tool}, not for {call.tool.name}")
    if call.digest != ticket.digest:
        raise Conflict(
            f"ticket {ticket.id} is for another call of {ticket.tool}: the parameters of the tool are not those that "
            "they were, or an argument is not the one that was asked about. Have the call made again, and approved"
        )
