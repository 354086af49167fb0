"""The tool calls of an answer: found in it, run through the flow, and answered in the form of the same endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel

from interlock import Misuse, Session, current_session, tool_use
from interlock.tool_use import OnError, ToolResult, Tools, ToolUse, told

Answer: TypeAlias = "BaseModel | Mapping[str, Any]"
"""A message, as the SDK gives it or as JSON."""


def run_tools(
    answer: Answer, *, tools: Tools, session: Session | None = None, on_error: OnError = told
) -> list[dict[str, Any]]:
    """
    Run the tool calls in *answer*, one after the other, and return what to send back; nothing, if it has none.

    That is the model's own message, and one with a result for each call. A call that is denied, steered or waits for a
    human has not run, and the model is told why, and what to do instead.

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
    Return the calls of the caller's tools that *answer* asks for, in order.

    Raises:
        Misuse: it is no message of a model.
    """
    return [
        ToolUse(id=block["id"], name=block["name"], arguments=block["input"])
        for block in _content(answer)
        if block.get("type") == "tool_use"
    ]


def tool_messages(answer: Answer, results: Sequence[ToolResult]) -> list[dict[str, Any]]:
    """Return what to send back after *answer*: itself, and *results*; nothing, where there are none."""
    if not results:
        return []
    blocks = [
        {
            "type": "tool_result",
            "tool_use_id": result.id,
            "content": result.text,
            "is_error": result.is_error,
        }
        for result in results
    ]
    said = [
        {key: value for key, value in one.items() if key != "parsed_output"}
        for one in _content(answer)
    ]
    return [{"role": "assistant", "content": said}, {"role": "user", "content": blocks}]


def _content(answer: Answer) -> list[dict[str, Any]]:
    if isinstance(answer, BaseModel):
        # Warnings would be of the SDK's own types: helpers that parse put values where texts were declared.
        answer = answer.model_dump(mode="json", exclude_unset=True, warnings=False)
    content = answer.get("content")
    if not isinstance(content, list):
        raise Misuse("this is no message of a model, so there are no tool calls in it")
    return content


def _session(given: Session | None) -> Session:
    return given or current_session("run_tools")
