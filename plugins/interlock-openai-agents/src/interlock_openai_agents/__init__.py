"""
Interlock for the OpenAI Agents SDK.

`govern(agent)` gives an agent whose tools, model calls and handoffs are judged, recorded and made by the current
Interlock session, and `govern(run_config)` a configuration whose models are; `apply_answers(state)` brings what humans
have answered into a paused run; `canary()` finds out whether the installed SDK lets calls around all that.
"""

from interlock_openai_agents.agents import govern
from interlock_openai_agents.approvals import apply_answers
from interlock_openai_agents.canary import canary

__all__ = ["apply_answers", "canary", "govern"]
