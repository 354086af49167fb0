"""
Interlock for the OpenAI Agents SDK.

`govern(agent)` gives an agent whose function tools are judged, recorded and run by the current Interlock session;
`apply_answers(state)` brings what humans have answered into a paused run.
"""

from interlock_openai_agents.agents import govern
from interlock_openai_agents.approvals import apply_answers

__all__ = ["apply_answers", "govern"]
