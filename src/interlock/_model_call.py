"""ModelCall: a governed call of a model, made within a block instead of a function."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from interlock._bodies import ending_of
from interlock._call import Tool
from interlock._drive import Performer, adrive, drive
from interlock._flow import Ending, Flow, govern
from interlock._scope import Governs, Scope, entered
from interlock._usage import Estimate, Usage
from interlock.errors import Misuse
from interlock.events import Outcome

MODEL_CALL = "chat"
"""What a model call is called where the host gives it no name, as its operation is in OpenTelemetry."""


class ModelCall:
    """A call of a model: admitted when its block is entered, booked when the block is left."""

    def __init__(
        self,
        session: Governs,
        tool: Tool,
        arguments: Mapping[str, object],
        estimate: Estimate | None,
    ) -> None:
        """Describe the call; nothing is judged yet."""
        self._session = session
        self._of = tool, arguments, estimate
        self._running: tuple[Flow, Performer, ExitStack] | None = None

    @property
    def id(self) -> str:
        """The call's UUIDv7, from its admission on."""
        return self._now()[1].call.id

    def record(self, usage: Usage) -> None:
        """
        Say what the call has really used; what is said last counts, and is booked when the block is left.

        Raises:
            Misuse: the block is not entered.
        """
        self._now()[1].report(usage)

    def _now(self) -> tuple[Flow, Performer, ExitStack]:
        if self._running is None:
            raise Misuse(
                "this model call is not being made; use `with session.model_call(…) as call:`"
            )
        return self._running

    def _begun(self) -> tuple[Flow, Performer]:
        if self._running is not None:
            raise Misuse("this model call is being made already; describe another one")
        tool, arguments, estimate = self._of
        performer, _ = self._session.performer(tool, arguments, estimate)
        return govern(performer.call), performer

    def _enter(self, flow: Flow, performer: Performer) -> Self:
        stack = ExitStack()
        stack.enter_context(performer.running())
        stack.enter_context(entered(Scope(self._session, performer)))
        self._running = flow, performer, stack
        return self

    def _exit(self, error: BaseException | None) -> tuple[Flow, Performer, Ending]:
        flow, performer, stack = self._now()
        self._running = None
        stack.close()
        ending = Ending(outcome=Outcome.RETURNED) if error is None else ending_of(error)
        return flow, performer, ending

    def __enter__(self) -> Self:
        flow, performer = self._begun()
        drive(flow, performer)
        return self._enter(flow, performer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        drive(*self._exit(error))

    async def __aenter__(self) -> Self:
        flow, performer = self._begun()
        await adrive(flow, performer)
        return self._enter(flow, performer)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        await adrive(*self._exit(error))
