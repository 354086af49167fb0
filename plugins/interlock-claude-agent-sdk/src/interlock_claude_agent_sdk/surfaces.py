"""
What a run of the Claude Agent SDK is made of: what is governed, what is harmless, and what must be accepted by name.

The tables name every option of the SDK that this package knows. An option, argument or setting that is in none of them
is a surface that nobody has looked at, so `check` refuses it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions

from interlock import Misuse, Tool

GOVERNED_OPTIONS = frozenset(
    {
        "agents",
        "allowed_tools",
        "can_use_tool",
        "env",
        "extra_args",
        "fallback_model",
        "hooks",
        "mcp_servers",
        "model",
        "permission_mode",
        "permission_prompt_tool_name",
        "plugins",
        "sandbox",
        "setting_sources",
        "settings",
        "strict_mcp_config",
        "verbatim_prompts",
    }
)
"""Options that say what may run, or that change who is asked: each is looked at, and some are replaced."""

HARMLESS_OPTIONS = frozenset(
    {
        "add_dirs",
        "betas",
        "cli_path",
        "client_app",
        "continue_conversation",
        "cwd",
        "debug_stderr",
        "disallowed_tools",
        "effort",
        "enable_file_checkpointing",
        "fork_session",
        "forward_subagent_text",
        "include_hook_events",
        "include_partial_messages",
        "load_timeout_ms",
        "max_budget_usd",
        "max_buffer_size",
        "max_thinking_tokens",
        "max_turns",
        "output_format",
        "resume",
        "resume_drops_turn",
        "resume_session_at",
        "session_id",
        "session_store",
        "session_store_flush",
        "skills",
        "stderr",
        "system_prompt",
        "task_budget",
        "thinking",
        "tools",
        "user",
    }
)
"""Options under which each call is still asked about."""

HARMLESS_ARGUMENTS = frozenset({"debug", "debug-file", "debug-to-stderr", "verbose"})
"""Arguments of the command line that a host may give by `extra_args`."""

PERMISSION_MODES = frozenset({"acceptEdits", "auto", "default", "plan"})
"""Modes in which Claude Code asks about each call, once it is told to. In `dontAsk` it refuses them all instead."""

HARMLESS_SETTINGS = frozenset(
    {
        "$schema",
        "attribution",
        "availableModels",
        "cleanupPeriodDays",
        "effortLevel",
        "includeCoAuthoredBy",
        "language",
        "outputStyle",
        "permissions",
        "respectGitignore",
        "sandbox",
        "spinnerTipsEnabled",
    }
)
"""Keys of settings under which each call is still asked about."""

HARMLESS_PERMISSIONS = frozenset(
    {"additionalDirectories", "allow", "ask", "deny", "disableBypassPermissionsMode"}
)
"""Keys of `permissions` in settings: rules that allow come after the one that has each call asked about."""

SUBAGENTS = frozenset({"Agent", "Task"})
"""The tool that starts a sub-agent, by both of its names."""

_MCP = re.compile(r"mcp__(?P<server>.+?)__(?P<tool>.+)", re.DOTALL)


def check(options: ClaudeAgentOptions, accept: Collection[str]) -> None:
    """
    Refuse *options* with which something would run that Interlock cannot see, unless *accept* names it.

    Raises:
        Misuse: what cannot be governed, all of it, and by which names a host would accept it.
    """
    found = [(name, why) for name, why in _found(options) if name not in accept]
    if found:
        reasons = "; ".join(f"{name} ({why})" for name, why in found)
        names = ", ".join(f'"{name}"' for name, _ in found)
        raise Misuse(
            f"these options cannot be governed: {reasons}. Take them away, or let what they do run ungoverned with "
            f"govern(options, accept=[{names}])"
        )
    if options.permission_prompt_tool_name:
        raise Misuse(
            "permission_prompt_tool_name takes the place that Interlock needs; take it away"
        )


def _found(options: ClaudeAgentOptions) -> Iterator[tuple[str, str]]:
    """Give the name of each surface that cannot be governed, and why."""
    for field in dataclasses.fields(options):
        name = field.name
        if name not in GOVERNED_OPTIONS | HARMLESS_OPTIONS and _is_set(options, field):
            yield f"option:{name}", "this release of the SDK has it, and Interlock does not know it"
    if options.permission_mode not in {None, *PERMISSION_MODES}:
        why = "calls are then not asked about, or not as Interlock knows it"
        yield f"permission_mode:{options.permission_mode}", why
    for source in options.setting_sources or ():
        yield f"setting_sources:{source}", "its files can hold hooks, and an agent can write them"
    for name in options.extra_args:
        if name.lstrip("-") not in HARMLESS_ARGUMENTS:
            yield f"extra_args:{name}", "Interlock does not know what it does"
    single = {
        "plugins": (options.plugins, "plugins bring hooks of their own"),
        "fallback_model": (options.fallback_model, "it answers without having been judged"),
        "model": (not options.model, "none is named, so which one answers cannot be judged"),
        "hooks:PermissionRequest": (
            (options.hooks or {}).get("PermissionRequest"),
            "such a hook can say yes before Interlock does",
        ),
    }
    yield from ((name, why) for name, (is_so, why) in single.items() if is_so)
    yield from _in_settings(settings_of(options))


def _in_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in settings:
        if key not in HARMLESS_SETTINGS:
            yield f"settings:{key}", "it can change who is asked, or run something"
    permissions = settings.get("permissions") or {}
    for key in permissions if isinstance(permissions, Mapping) else ("",):
        if key not in HARMLESS_PERMISSIONS:
            yield f"settings:permissions.{key}", "it can change who is asked"


def _is_set(options: ClaudeAgentOptions, field: dataclasses.Field[Any]) -> bool:
    value = getattr(options, field.name)
    if field.default is not dataclasses.MISSING:
        return value is not field.default and value != field.default
    made = field.default_factory
    return made is dataclasses.MISSING or value != made()


def settings_of(options: ClaudeAgentOptions) -> dict[str, Any]:
    """
    Return the settings that the host gives, whether as text or in a file.

    Raises:
        Misuse: they cannot be read.
    """
    given = options.settings
    if not given:
        return {}
    try:
        is_text = given.lstrip().startswith("{")
        text = given if is_text else Path(options.cwd or ".", given).read_text("utf-8")
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise Misuse(f"the settings of the options cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise Misuse("the settings of the options are no JSON object")
    return found


class Names:
    """How the tools of a run are called, by what Claude Code calls them."""

    def __init__(self, servers: Mapping[str, Any], declared: Iterable[Tool]) -> None:
        """
        Remember what the host has said.

        Args:
            servers: Its MCP servers, by name.
            declared: What it has declared of tools, by the names that policies have for them.
        """
        self._own = frozenset(
            name
            for name, server in servers.items()
            if isinstance(server, Mapping) and server.get("type") == "sdk"
        )
        self._prefixes = sorted(
            ((f"mcp__{re.sub(r'[^A-Za-z0-9_-]', '_', one)}__", one) for one in servers),
            key=lambda pair: -len(pair[0]),
        )
        self._declared = {tool.name: tool for tool in declared}

    def tool(self, name: str, arguments: Mapping[str, Any], agent: str | None = None) -> Tool:
        """
        Return what a call of *name* is a call of.

        A tool of an MCP server is `SERVER.TOOL`, as everywhere in Interlock; all others have Claude Code's own names.

        Args:
            name: As Claude Code calls it.
            arguments: Those of the call.
            agent: The type of the sub-agent that makes it; None: the main agent.
        """
        labels = (
            ["claude-code"] if agent is None else ["claude-code", "subagent", f"subagent:{agent}"]
        )
        server, short = self._split(name)
        full = short if server is None else f"{server}.{short}"
        known = self._declared.get(full)
        if known is None and server in self._own:  # whose tools may have a governed function's name
            known = self._declared.get(short)
        if known is not None:
            return known
        if server is not None:
            return Tool(name=full, labels=("mcp", *labels[1:]))
        if name in SUBAGENTS:
            has_type = isinstance(arguments.get("subagent_type"), str)
            resource = "subagent_type" if has_type else None
            return Tool(name=name, kind="handoff", resource=resource, labels=tuple(labels))
        return Tool(name=name, labels=tuple(labels))

    def _split(self, name: str) -> tuple[str | None, str]:
        for prefix, server in self._prefixes:
            if name.startswith(prefix) and len(name) > len(prefix):
                return server, name.removeprefix(prefix)
        found = _MCP.fullmatch(name)
        return (None, name) if found is None else (found["server"], found["tool"])
