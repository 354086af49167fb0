"""The tool calls of an answer: found in it, run through the flow, and answered in the form of the same endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel

from interlock import Misuse, Session, current_session, tool_use
from interlock.tool_use import OnError, ToolResult, Tools, ToolUse, told

Answer: TypeAlias = "BaseModel | Mapping[str, Any]"
"""A chat completion or a response, as the SDK gives it or as JSON."""


def run_tools(
    answer: Answer, *, tools: Tools, session: Session | None = None, on_error: OnError = told
) -> list[dict[str, Any]]:
    """
    Run the tool calls in *answer*, one after the other, and return what to send back; nothing, if it has none.

    Of a chat completion that is the model's own message and a message for each call; of a response its output items and
    an item for each call, of which `previous_response_id` needs only the latter. A call that is denied, steered or
    waits for a human has not run, and the model is told why, and what to do instead.

    Args:
        answer: What the model has answered.
        tools: The functions that it may call; what `@governed` declared of one is what the policy knows.
        session: In which they run; None: in the current one.
        on_error: Says what the model is told of an exception of a tool.

    Raises:
        Misuse, Undecided, NotConfigured: as `interlock.tool_use.run_tools`.
    """
    uses = tool_uses(answer)
    results = tool_use.run_tools(_session(session), uses, tools=tools, on_error=on_error)
    return tool_messages(answer, results)


async def arun_tools(
    answer: Answer, *, tools: Tools, session: Session | None = None, on_error: OnError = told
) -> list[dict[str, Any]]:
    """Do as `run_tools` does, with all calls at the same time, those of plain functions in threads."""
    uses = tool_uses(answer)
    results = await tool_use.arun_tools(_session(session), uses, tools=tools, on_error=on_error)
    return tool_messages(answer, results)


def tool_uses(answer: Answer) -> list[ToolUse]:
    """
    Return the calls of functions that *answer* asks for, in order.

    Raises:
        Misuse: it is no answer of a model, or one with several choices, of which only one can be gone on with.
    """
    data = _data(answer)
    if "choices" not in data:
        return [
            ToolUse(id=item["call_id"], name=item["name"], arguments=item["arguments"])
            for item in data["output"]
            if item.get("type") == "function_call"
        ]
    return [
        ToolUse(
            id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"]
        )
        for call in _message(data).get("tool_calls") or []
        if call.get("type", "function") == "function"
    ]


def tool_messages(answer: Answer, results: Sequence[ToolResult]) -> list[dict[str, Any]]:
    """Return what to send back after *answer*: itself, and *results*; nothing, where there are none."""
    data = _data(answer)
    if not results:
        return []
    if "choices" not in data:
        outputs: list[dict[str, Any]] = [
            {"type": "function_call_output", "call_id": result.id, "output": result.text}
            for result in results
        ]
        return [*data["output"], *outputs]
    said = {
        key: value
        for key, value in _message(data).items()
        if key in {"audio", "content", "name", "refusal", "role", "tool_calls"}
        and value is not None
    }
    if said.get("tool_calls"):  # what helpers that parse have added is not of the protocol
        said["tool_calls"] = [_as_sent(call) for call in said["tool_calls"]]
    return [
        said,
        *({"role": "tool", "tool_call_id": one.id, "content": one.text} for one in results),
    ]


def _as_sent(call: Mapping[str, Any]) -> dict[str, Any]:
    sent = {key: value for key, value in call.items() if key != "index"}
    if isinstance(sent.get("function"), Mapping):
        sent["function"] = {key: sent["function"][key] for key in ("name", "arguments")}
    return sent


def _message(data: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = data["choices"]
    if len(choices) != 1:
        raise Misuse("an answer with several choices cannot be gone on with; ask for one (n=1)")
    found: Mapping[str, Any] = choices[0]["message"]
    return found


def _data(answer: Answer) -> Mapping[str, Any]:
    if isinstance(answer, BaseModel):
        # Warnings would be of the SDK's own types: helpers that parse put values where texts were declared.
        answer = answer.model_dump(mode="json", exclude_unset=True, warnings=False)
    if "choices" not in answer and "output" not in answer:
        raise Misuse("this is no chat completion and no response, so there are no tool calls in it")
    return answer


def _session(given: Session | None) -> Session:
    return given or current_session("run_tools")
