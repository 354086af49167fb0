"""
One governed function tool.

In flows a call that the SDK makes of the tool; out flows what the tool gives, or the text of a refusal. Nothing is
decided here: `Session.acall` decides, and this translates between its words and the SDK's.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from agents import (
    FunctionTool,
    RunContextWrapper,
    ToolGuardrailFunctionOutput,
    ToolOriginType,
    ToolOutputGuardrailData,
    default_tool_error_function,
    tool_output_guardrail,
)
from agents.tool import get_function_tool_origin
from agents.tool_context import ToolContext
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from interlock import (
    Call,
    Refused,
    Ticket,
    Tool,
    current_call,
    current_session,
    errors,
    schema_digest,
    tool_of,
)
from interlock.tool_use import arguments_in
from interlock_openai_agents.errors import Misuse, stop


class NotRun(str):
    """What the model is told instead of a result."""

    __slots__ = ()


class Governed:
    """
    What a governed tool has in the place of its `on_invoke_tool`.

    Attributes:
        declaration: What Interlock knows of the tool: what `@governed` declared of its function, else its name.
    """

    def __init__(self, function_tool: FunctionTool) -> None:
        """Put an invoker around the one of *function_tool*, which stays as it is."""
        own = copy.copy(function_tool)  # the SDK then ties the copy's invoker to the copy
        self._own = own
        self._function: Callable[..., Any] | None = getattr(own, "__wrapped__", None)
        self.declaration = tool_of(self._function) or Tool(
            name=own.qualified_name, schema=schema_digest(own.params_json_schema)
        )
        self._defaults = _defaults(self._function)
        self._swallowed: dict[int, Exception] = {}
        self._paused: set[str] = set()
        self._invoke = self._watched(own.on_invoke_tool)
        # The SDK looks here for the kind of context that the tool wants.
        self.__signature__ = _signature(own.on_invoke_tool)

    async def __call__(self, context: ToolContext[Any], raw: str) -> Any:
        """Take one call through the flow; *raw* is what the model wrote."""
        name = self.declaration.name
        try:
            sent = arguments_in(raw)
        except ValueError as error:
            return self.unreadable(error)
        raised: list[BaseException] = []
        told: list[Any] = []

        async def run(judged: dict[str, Any]) -> Any:
            # The text is written anew, so that what was judged is what runs; defaults are the tool's to fill in.
            call = current_call()
            changed = () if call is None or call.edit is None else call.edit.changed
            text = json.dumps({key: judged[key] for key in judged if key in sent or key in changed})
            try:
                output = await self._invoke(context, text)
            except BaseException as error:
                raised.append(error)
                raise
            finally:
                swallowed = self._swallowed.pop(id(context), None)
            if swallowed is None:
                self._note_pause(context, output)
                return _noted(output, call)
            raised.append(swallowed)
            told.append(output)
            raise swallowed

        try:
            session = current_session(name)
            return await session.acall(self.declaration, {**self._defaults, **sent}, run)
        except Exception as error:
            if (
                raised and error is raised[0]
            ):  # the tool's own: it is recorded, and the SDK's to handle
                if not told:
                    raise
                return _explained(context, error, told[0])
            if isinstance(error, (Refused, errors.EvaluatorFailed)):
                if getattr(context, "tool_call_id", None) in self._paused:
                    raise self._stuck(error) from error
                return NotRun(error)
            stop(error)

    async def needs_approval(
        self, context: RunContextWrapper[Any], sent: dict[str, Any], call_id: str
    ) -> bool:
        """Say whether the SDK should pause before the call: a human is to be asked, or the tool itself wants it."""
        ticket = await self.ticket(sent)
        waits = ticket is not None and ticket.decided_by is None
        return waits or await self._asks_itself(context, sent, call_id)

    async def ticket(self, sent: Mapping[str, Any]) -> Ticket | None:
        """Return the ticket for the call with these arguments, opened if need be; None where nobody is asked."""
        try:
            session = current_session(self.declaration.name)
            return await session.aticket(self.declaration, {**self._defaults, **sent})
        except Exception as error:  # noqa: BLE001 - it is raised again
            stop(error)

    def unreadable(self, error: ValueError) -> NotRun:
        """Return what the model is told when its arguments cannot be read."""
        name = self.declaration.name
        return NotRun(f"{name} was not run: {error}. Call it again with one JSON object.")

    def denied(self, ticket: Ticket) -> str:
        """Return what the model is told when a human said no to *ticket*."""
        said = f": {ticket.comment}" if ticket.comment else ""
        name = self.declaration.name
        return f"{name} is denied: {ticket.decided_by} said no{said}. Do not retry it."

    @property
    def may_ask_itself(self) -> bool:
        """Whether the tool has an approval of its own, which only the host can give."""
        return self._own.needs_approval is not False

    async def _asks_itself(
        self, context: RunContextWrapper[Any], sent: dict[str, Any], call_id: str
    ) -> bool:
        asks = self._own.needs_approval
        if isinstance(asks, bool):
            return asks
        if self._function is not None:
            # The SDK's own rule: what validation would change, or run code for, needs approval without being asked.
            prepare = getattr(self._own.on_invoke_tool, "prepare_arguments", None)
            if prepare is None or not prepare(json.dumps(sent), self._own.name).unchanged:
                return True
        answer: Any = asks(context, copy.deepcopy(sent), call_id)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    def _note_pause(self, context: ToolContext[Any], output: Any) -> None:
        """Remember the calls of an agent as a tool that paused inside: the SDK makes them anew to go on."""
        if is_agent(self._own) and output is None:
            self._paused.add(context.tool_call_id)
        else:
            self._paused.discard(getattr(context, "tool_call_id", ""))

    def _stuck(self, error: Exception) -> Misuse:
        # The SDK would not show the model a refusal here: it would go on to wait for what is inside, for ever.
        return Misuse(
            f"{self.declaration.name} is an agent as a tool that paused inside, and it cannot go on: {error} "
            "Let the policy allow this call, and ask about the calls inside."
        )

    def _watched(self, invoker: Any) -> Any:
        """
        Return *invoker*, made to note the exceptions that it turns into text for the model.

        The SDK has no public way to see them. Should this private one go away, such calls are recorded as returned.
        """
        inner = getattr(invoker, "_invoke_tool_impl", None)
        if inner is None:
            return invoker

        @functools.wraps(inner)
        async def noting(context: ToolContext[Any], text: str) -> Any:
            try:
                return await inner(context, text)
            except Exception as error:
                self._swallowed[id(context)] = error
                raise

        watched = copy.copy(invoker)
        watched._invoke_tool_impl = noting  # noqa: SLF001 - see above
        return watched


def _noted(output: Any, call: Call | None) -> Any:
    """Return *output*; of a call that a human has changed with a note, for the model to know what has run."""
    note = None if call is None else call.note
    return output if note is None or not isinstance(output, str) else f"{output}\n\n{note}"


def is_agent(function_tool: FunctionTool) -> bool:
    """Return whether *function_tool* is an agent as a tool."""
    origin = get_function_tool_origin(function_tool)
    return origin is not None and origin.type is ToolOriginType.AGENT_AS_TOOL


def govern_tool(function_tool: FunctionTool) -> FunctionTool:
    """Return a copy of *function_tool* whose calls are governed; itself if they are already."""
    if isinstance(function_tool.on_invoke_tool, Governed):
        return function_tool
    governed = Governed(function_tool)
    result = copy.copy(function_tool)
    result.on_invoke_tool = governed
    result.needs_approval = governed.needs_approval
    if result.output_json_schema is not None:
        result.tool_output_guardrails = [_past_the_schema, *(result.tool_output_guardrails or ())]
    return result


@tool_output_guardrail
def _past_the_schema(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
    """Keep a refusal from being held to the schema of the tool's results: the SDK would end the run over it."""
    if isinstance(data.output, NotRun):
        return ToolGuardrailFunctionOutput.reject_content(str(data.output))
    return ToolGuardrailFunctionOutput.allow()


def _defaults(function: Callable[..., Any] | None) -> dict[str, Any]:
    """What the parameters of *function* hold when the model does not fill them in."""
    defaults: dict[str, Any] = {}
    if function is None:
        return defaults
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        if isinstance(default, FieldInfo):
            default = default.get_default()
        if default is not inspect.Parameter.empty and default is not PydanticUndefined:
            defaults[parameter.name] = default
    return defaults


def _signature(invoker: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(invoker, eval_str=True)
    except (NameError, TypeError, ValueError):
        return None


def _explained(context: ToolContext[Any], error: Exception, output: Any) -> Any:
    """Return *output*, or, where it is the SDK's text for every error, what a refusal from within has to say."""
    if not isinstance(error, (Refused, errors.EvaluatorFailed)):
        return output
    return str(error) if output == default_tool_error_function(context, error) else output
