"""The hooks by themselves, called as Claude Code documents that it calls them, where no run of it brings that about."""

from __future__ import annotations

from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, PermissionResultAllow, ToolPermissionContext

from interlock_claude_agent_sdk import govern

USE = {"tool_use_id": "toolu_1", "tool_name": "Bash", "tool_input": {"command": "ls"}}


class Asked:
    """Governed options, whose hooks are called by hand."""

    def __init__(self) -> None:
        """Govern."""
        self.options = govern(ClaudeAgentOptions(model="m"), accept=["usage"])

    async def hook(self, event: str, **given: Any) -> dict[str, Any]:
        """Call the hook of *event* as Claude Code does, and return what it says."""
        (matcher,) = (self.options.hooks or {})[event]  # type: ignore[index]
        (hook,) = matcher.hooks
        said: Any = await hook({"hook_event_name": event, **given}, None, {"signal": None})
        return said

    async def begin(self) -> Any:
        """Have a query and a use of Bash admitted; return the answer to the second."""
        await self.hook("UserPromptSubmit", prompt="go")
        said = await self.hook("PreToolUse", **USE)
        assert said["hookSpecificOutput"]["permissionDecision"] == "ask"
        assert self.options.can_use_tool is not None
        context = ToolPermissionContext(tool_use_id="toolu_1")
        return await self.options.can_use_tool("Bash", {"command": "ls"}, context)


async def test_an_interrupted_tool(desk: Any) -> None:
    """Broken if a tool of which a hook says that it was interrupted is booked as a failure."""
    asked = Asked()
    with desk.open(default="allow"):
        assert isinstance(await asked.begin(), PermissionResultAllow)
        assert await asked.hook("PostToolUseFailure", **USE, error="x", is_interrupt=True) == {}
        await asked.hook("Stop", last_assistant_message="done")
    assert [one[:2] for one in desk.booked()] == [("Bash", "allow"), ("Bash", "cancelled")]


async def test_a_tool_of_whose_end_no_hook_tells(desk: Any) -> None:
    """Broken if a call has no outcome because Claude Code did not call the hook that follows its tool."""
    asked = Asked()
    with desk.open(default="allow"):
        await asked.begin()
        call = {**USE, "tool_response": "a file"}
        assert await asked.hook("PostToolBatch", tool_calls=[call]) == {}
        await asked.hook("Stop", last_assistant_message="done")
    assert desk.booked() == [("Bash", "allow"), ("Bash", "returned")]


async def test_a_tool_that_was_never_judged(desk: Any) -> None:
    """Broken if a run goes on in which a tool has run that was never judged."""
    asked = Asked()
    with desk.open(default="allow"):
        await asked.hook("UserPromptSubmit", prompt="go")
        said = await asked.hook("PostToolUse", **USE, tool_response={"stdout": "x"})
        assert (said["continue_"], said["stopReason"]) == (
            False,
            "Bash ran without having been judged",
        )
        assert (await asked.hook("UserPromptSubmit", prompt="go on"))["decision"] == "block"
        await asked.hook("Stop", last_assistant_message="done")


async def test_a_result_that_cannot_be_settled(desk: Any) -> None:
    """Broken if a hook raises: Claude Code would then give the model the result as it is."""
    asked = Asked()
    with desk.open(default="allow"):
        await asked.begin()
        said = await asked.hook("PostToolUse", tool_use_id="toolu_1", tool_response="x")
        assert said["continue_"] is False
        assert await asked.hook("PostToolUse", **USE, tool_response="x") == {}
        await asked.hook("Stop", last_assistant_message="done")
