"""What the SDK has: a release that adds something fails here, before it can pass ungoverned."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Handoff, Model, ModelProvider, RunConfig, Runner, RunState
from agents.agent import AgentBase
from agents.run_internal import run_steps
from agents.tool import Tool

from interlock import Misuse
from interlock_openai_agents import canary, govern

TOOLS = {
    "FunctionTool": "judged",
    # At the provider, or by executors of their own.
    "ApplyPatchTool": "refused",
    "CodeInterpreterTool": "refused",
    "ComputerTool": "refused",
    "CustomTool": "refused",
    "FileSearchTool": "refused",
    "HostedMCPTool": "refused",
    "ImageGenerationTool": "refused",
    "LocalShellTool": "refused",
    "ProgrammaticToolCallingTool": "refused",
    "ShellTool": "refused",
    "ToolSearchTool": "refused",
    "WebSearchTool": "refused",
}

AGENTS = {"Agent": "judged", "RealtimeAgent": "refused", "SandboxAgent": "refused"}

RUN = {
    # What the runner can be told to do by what a model says.
    "ToolRunFunction": "judged",
    "ToolRunHandoff": "judged",
    "ToolRunFunctionNotFound": "runs nothing",
    # Of tools that are refused.
    "ToolRunApplyPatchCall": "refused",
    "ToolRunComputerAction": "refused",
    "ToolRunCustom": "refused",
    "ToolRunLocalShellCall": "refused",
    "ToolRunMCPApprovalRequest": "refused",
    "ToolRunShellCall": "refused",
}

AGENT_FIELDS = {
    # Where calls come from.
    "handoffs": "judged",
    "mcp_servers": "judged",
    "model": "judged",
    "tools": "judged",
    "prompt": "not seen",
    # The host's own code, and settings.
    "handoff_description": "the host's",
    "hooks": "the host's",
    "input_guardrails": "the host's",
    "instructions": "the host's",
    "mcp_config": "the host's",
    "model_settings": "the host's",
    "name": "the host's",
    "output_guardrails": "the host's",
    "output_type": "the host's",
    "reset_tool_choice": "the host's",
    "tool_use_behavior": "the host's",
}

CONFIG_FIELDS = {
    "model": "judged",
    "model_provider": "judged",
    "sandbox": "of agents that are refused",
    "call_model_input_filter": "the host's",
    "group_id": "the host's",
    "handoff_history_mapper": "the host's",
    "handoff_input_filter": "the host's",
    "input_guardrails": "the host's",
    "model_settings": "the host's",
    "nest_handoff_history": "the host's",
    "output_guardrail_blocked_message": "the host's",
    "output_guardrails": "the host's",
    "reasoning_item_id_policy": "the host's",
    "session_input_callback": "the host's",
    "session_settings": "the host's",
    "tool_error_formatter": "the host's",
    "tool_execution": "the host's",
    "tool_name_collision_policy": "the host's",
    "tool_not_found_behavior": "the host's",
    "trace_id": "the host's",
    "trace_include_sensitive_data": "the host's",
    "trace_metadata": "the host's",
    "tracing": "the host's",
    "tracing_disabled": "the host's",
    "workflow_name": "the host's",
}

METHODS = {
    Model: {"get_response", "stream_response", "get_retry_advice", "close", "_cleanup_on_run_end"},
    ModelProvider: {"get_model", "aclose"},
    Runner: {"run", "run_sync", "run_streamed"},
    # A run that goes on takes its answers from here; each is judged when its call is made.
    RunState: {
        "add_input",
        "approve",
        "clear_pending_input",
        "from_json",
        "from_string",
        "get_interruptions",
        "get_tool_use_tracker_snapshot",
        "reject",
        "set_reasoning_item_id_policy",
        "set_tool_use_tracker_snapshot",
        "set_trace",
        "to_json",
        "to_string",
    },
}

INVOKERS = {"on_invoke_handoff"}
"""What of a handoff is called to make it."""


def _kinds(of: type) -> Iterator[type]:
    for kind in of.__subclasses__():
        if kind.__module__.startswith("agents."):
            yield kind
            yield from _kinds(kind)


def test_every_kind_of_tool_is_known() -> None:
    """Broken if the SDK has a kind of tool that nobody has thought about."""
    found = {typing.get_origin(kind) or kind for kind in typing.get_args(Tool)}
    assert {kind.__name__ for kind in found} == set(TOOLS)


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", sorted(name for name, how in TOOLS.items() if how == "refused"))
def test_every_other_kind_of_tool_is_refused(name: str) -> None:
    """Broken if a tool of a kind that is not governed gets into a governed agent unless it is named."""
    kind: Any = getattr(import_module("agents.tool"), name)
    tool = kind.__new__(kind)
    if not isinstance(getattr(kind, "name", None), property):
        tool.__dict__["name"] = "it"
    agent = Agent(name="desk", model="small")
    agent.tools = [tool]
    with pytest.raises(Misuse, match=f"is a {name}, which Interlock cannot govern"):
        govern(agent)
    assert govern(agent, accept=[tool.name]).tools == [tool]


def test_every_kind_of_agent_is_known() -> None:
    """Broken if the SDK has a kind of agent that nobody has thought about."""
    for module in ("agents.realtime", "agents.sandbox"):
        import_module(module)
    assert {kind.__name__ for kind in _kinds(AgentBase)} == set(AGENTS)


def test_everything_that_a_model_can_have_run_is_known() -> None:
    """Broken if the runner has another way to act on what a model says."""
    assert {name for name in vars(run_steps) if name.startswith("ToolRun")} == set(RUN)


@pytest.mark.parametrize(("kind", "known"), [(Agent, AGENT_FIELDS), (RunConfig, CONFIG_FIELDS)])
def test_every_setting_is_known(kind: Any, known: dict[str, str]) -> None:
    """Broken if an agent or a configuration has a part that may lead to calls, and nobody has looked."""
    assert {field.name for field in fields(kind)} == set(known)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_every_method_is_known(kind: type) -> None:
    """Broken if a model can be called, or a run be made or changed, in another way than those that are governed."""
    found = {
        name
        for name in vars(kind)
        if callable(getattr(kind, name)) and (name[0] != "_" or name == "_cleanup_on_run_end")
    }
    assert found == METHODS[kind]


def test_handoff_is_made_in_one_way() -> None:
    """Broken if a handoff has another function that makes it than the one that is governed."""
    assert {field.name for field in fields(Handoff) if "invoke" in field.name} == INVOKERS


def test_canary_is_offered() -> None:
    """Broken if the command that runs every canary does not find this one."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    offered = project["project"]["entry-points"]["interlock.canaries"]["openai-agents"]
    module, _, name = offered.partition(":")
    assert getattr(import_module(module), name) is canary
