"""
Interlock for the Claude Agent SDK.

`govern(options)` gives options with which every tool use and every query of a run is judged, recorded and only then
made; `query` and `GovernedClient` run them, `canary` proves that a refusal holds, and `Script` answers in a model's
place.
"""

from interlock_claude_agent_sdk.canary import canary
from interlock_claude_agent_sdk.client import GovernedClient, query
from interlock_claude_agent_sdk.options import govern
from interlock_claude_agent_sdk.refusals import ToolFailed, Ungoverned
from interlock_claude_agent_sdk.script import Script, say, use
from interlock_claude_agent_sdk.servers import create_sdk_mcp_server

__all__ = [
    "GovernedClient",
    "Script",
    "ToolFailed",
    "Ungoverned",
    "canary",
    "create_sdk_mcp_server",
    "govern",
    "query",
    "say",
    "use",
]
