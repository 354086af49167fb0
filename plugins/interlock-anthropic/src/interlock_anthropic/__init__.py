"""
Interlock for the `anthropic` package.

`govern(client)` gives a client whose model calls are judged, budgeted and recorded by the current Interlock session;
`run_tools` runs the tool calls of an answer and returns the messages to send back; `canary` proves that both do.
"""

from interlock_anthropic.canary import canary
from interlock_anthropic.client import govern
from interlock_anthropic.tools import arun_tools, run_tools, tool_messages, tool_uses

__all__ = ["arun_tools", "canary", "govern", "run_tools", "tool_messages", "tool_uses"]
