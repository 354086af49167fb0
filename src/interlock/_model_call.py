"""ModelCall: a governed call of a model, made within a block instead of a function."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from interlock._bodies import ending_of
from interlock._call import Tool
from interlock._drive import adrive, drive
from interlock._flow import Flow, Run
from interlock._perform import Performer
from interlock._replies import Ending
from interlock._scope import Governs, Scope, entered
from interlock._usage import Estimate, Usage
from interlock.errors import Misuse
from interlock.events import Outcome

MODEL_CALL = "chat"
"""What a model call is called where the host gives it no name, as its operation is in OpenTelemetry."""

_NOT_GIVEN = Ending(
    outcome=Outcome.RETURNED,
    unreviewable="its answer was not handed over; give it to `review(…)` within the block",
)


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
        self._given: list[Any] = []
        self._left: list[Any] = []

    @property
    def id(self) -> str:
        """The call's UUIDv7, from its admission on."""
        return self._now()[1].call.id

    @property
    def is_reviewed(self) -> bool:
        """
        Whether anybody reviews the answer: what is streamed is then kept back until the block is left.

        Raises:
            Misuse: the block is not entered.
        """
        return self._now()[1].is_reviewed

    def record(self, usage: Usage) -> None:
        """
        Say what the call has really used; what is said last counts, and is booked when the block is left.

        Raises:
            Misuse: the block is not entered.
        """
        self._now()[1].report(usage)

    def review(self, answer: object) -> None:
        """
        Hand over what the model has answered, for the evaluators that review it when the block is left.

        Where the policy names one for this call, leaving the block without this raises EvaluatorFailed: what was never
        shown cannot be vouched for. What is handed over last counts. Use `reviewed` instead of *answer* from then on.

        Raises:
            Misuse: the block is not entered.
        """
        self._now()
        self._given = [answer]

    @property
    def reviewed(self) -> Any:
        """
        What the review has left of the answer: the very object that was handed over, if nobody redacted it.

        Raises:
            Misuse: the block is not left yet, or has raised, or nothing was handed over.
        """
        if not self._left:
            raise Misuse(
                "there is no reviewed answer: give it to `review(…)` within the block, and ask after the block"
            )
        return self._left[0]

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
        return performer.flow(), performer

    def _enter(self, flow: Flow, performer: Performer, run: Run) -> Self:
        if run.simulated:  # a block cannot be kept from running but by an error
            raise Misuse(
                f"{performer.call.tool.name} was not run: this is a dry run, and nobody said what stands in for the "
                "model. Put @governed(kind='model', simulate=…) on a function that makes the call."
            )
        stack = ExitStack()
        stack.enter_context(performer.running(run))
        stack.enter_context(entered(Scope(self._session, performer)))
        self._running = flow, performer, stack
        return self

    def _exit(self, error: BaseException | None) -> tuple[Flow, Performer, Ending]:
        flow, performer, stack = self._now()
        self._running = None
        stack.close()
        if error is not None:
            ending = ending_of(error)
        elif self._given:
            ending = Ending(outcome=Outcome.RETURNED, result=self._given[0])
        else:
            ending = _NOT_GIVEN
        return flow, performer, ending

    def _finished(self, left: Any) -> None:
        if self._given:
            self._left = [left]
            self._given = []

    def __enter__(self) -> Self:
        flow, performer = self._begun()
        return self._enter(flow, performer, drive(flow, performer))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._finished(drive(*self._exit(error)))

    async def __aenter__(self) -> Self:
        flow, performer = self._begun()
        return self._enter(flow, performer, await adrive(flow, performer))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        self._finished(await adrive(*self._exit(error)))
