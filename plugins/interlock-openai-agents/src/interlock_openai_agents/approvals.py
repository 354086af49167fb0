"""apply_answers(): the answers to Interlock's tickets, brought into a run that the SDK has paused."""

from __future__ import annotations

from typing import Any

from agents import RunState

from interlock import Ticket
from interlock.tool_use import arguments_in
from interlock_openai_agents.agents import GovernedAgent


async def apply_answers(state: RunState[Any, Any]) -> list[Ticket]:
    """
    Approve and reject in *state* what humans have answered, and return the tickets that still wait.

    Call it in the session of the run. Then `Runner.run(agent, state)` goes on; what still waits interrupts it again.
    An approval in *state* lets the SDK make the call; Interlock then judges it and claims the ticket, so that one
    without a ticket behind it runs nothing. Interruptions of tools that Interlock does not govern are left alone, and
    so are approvals that a tool asks for itself (`needs_approval`): those are the host's to give.

    Raises:
        StoreUnavailable, NotConfigured: nothing was changed for the interruption at hand or those after it.
    """
    waiting: list[Ticket] = []
    for item in state.get_interruptions():
        agent = item.agent
        governed = agent.invoker(item.qualified_name) if isinstance(agent, GovernedAgent) else None
        if governed is None:
            continue
        try:
            sent = arguments_in(item.arguments)
        except ValueError as error:
            state.reject(item, rejection_message=governed.unreadable(error))
            continue
        ticket = await governed.ticket(sent)
        if ticket is not None and ticket.decided_by is None:
            waiting.append(ticket)
        elif ticket is not None and ticket.state == "denied":
            state.reject(item, rejection_message=governed.denied(ticket))
        elif not governed.may_ask_itself:
            state.approve(item)
    return waiting
