"""govern(): options with which every tool use and every query of a run is judged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions

from interlock import Misuse, Session, Tool, Usage, tool_of
from interlock_claude_agent_sdk.run import Governance, Run
from interlock_claude_agent_sdk.servers import governed_servers
from interlock_claude_agent_sdk.surfaces import check, settings_of

_SIMPLE = {"CLAUDE_CODE_SIMPLE": "0"}
"""Set to anything else in what Claude Code inherits, this drops all hooks."""


class GovernedOptions(ClaudeAgentOptions):
    """
    Options that `govern` has made.

    Attributes:
        governance: What the host has said to it; None: these are a changed copy, which no governed run takes.
        original: The host's own options.
    """

    governance: Governance | None = None
    original: ClaudeAgentOptions | None = None


def govern(
    options: ClaudeAgentOptions,
    *,
    session: Session | None = None,
    tools: Iterable[Any] = (),
    accept: Iterable[str] = (),
    estimate: Usage | None = None,
    stop_to_ask: bool = False,
) -> ClaudeAgentOptions:
    """
    Return a copy of *options* with which Claude Code runs only what the session lets it.

    Run it with `query` or `GovernedClient` of this package, inside `with governor.session(…):`. The host's own hooks,
    permission callback and servers are kept. *options* itself stays as it is.

    Args:
        options: The host's; `model` must be named.
        session: In which calls are made; None: in the one that is current when the run begins.
        tools: Governed functions, or declarations by `interlock.Tool`, of the tools that have their names.
        accept: What may run ungoverned, by the names that the refusal says.
        estimate: What one query will use at most, with all that it leads to. A budget that limits what is not said
            here refuses the query, unless it says otherwise.
        stop_to_ask: End the run where a person must be asked, and raise `ApprovalNeeded`; else the model is told, and
            goes on without.

    Raises:
        Misuse: something in *options* cannot be governed and is not accepted.
    """
    if isinstance(options, GovernedOptions) and options.original is not None:
        raise Misuse("these options are governed already; govern the host's own, once")
    accepted = frozenset(accept)
    check(options, accepted)
    found = [one if isinstance(one, Tool) else tool_of(one) for one in tools]
    governance = Governance(
        session=session,
        tools=tuple(one for one in found if one is not None),
        accept=accepted,
        estimate=estimate,
        stop_to_ask=stop_to_ask,
    )
    return options_for(Run(governance, options, is_watched=False), governance, options)


def options_for(run: Run, governance: Governance, original: ClaudeAgentOptions) -> GovernedOptions:
    """Return *original* with the hooks and the callback of *run*."""
    fields = dataclasses.fields(ClaudeAgentOptions)
    given = {field.name: getattr(original, field.name) for field in fields}
    given |= {
        # Not what lets a tool through unasked: each is asked about, so the SDK would warn of what does not happen.
        "allowed_tools": [entry for entry in original.allowed_tools if "(" in entry],
        "can_use_tool": run.can_use_tool,
        "env": {**original.env, **_SIMPLE},
        "hooks": run.hooks(original.hooks),
        "mcp_servers": governed_servers(original.mcp_servers, run.find),
        "setting_sources": list(original.setting_sources or ()),
        "settings": _settings(original),
        "strict_mcp_config": True,
        "verbatim_prompts": True,
    }
    result = GovernedOptions(**given)
    result.governance, result.original = governance, original
    return result


def _settings(original: ClaudeAgentOptions) -> str:
    """Return the host's settings, with the rule that has Claude Code ask about each tool use."""
    settings = settings_of(original)
    permissions = settings.get("permissions") or {}
    return json.dumps({**settings, "permissions": {**permissions, "ask": ["*"]}})
