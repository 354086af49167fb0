"""Sentences: what each kind of event is about, in one line, for `interlock events`."""

from __future__ import annotations

from rich.text import Text

from interlock import events as kinds
from interlock._display import data_text
from interlock._verdict import Mode
from interlock.cli import wording
from interlock.cli.output import STYLES, arguments, safe


def told(event: kinds.Event | kinds.NewerEvent) -> Text:
    """One line that says what the event is about."""
    match event:
        case kinds.NewerEvent():
            return safe(f"of a newer release (version {event.version}); upgrade to understand it")
        case kinds.AppNoted():
            return safe(event.name, "bold") + safe(" ") + safe(data_text(event.data))
        case kinds.CallDecided() | kinds.CallFinished() | kinds.UsageRecorded():
            return _told_of_call(event)
        case (
            kinds.TicketOpened()
            | kinds.TicketApproved()
            | kinds.TicketResolved()
            | kinds.GrantGiven()
        ):
            return safe(_told_of_ticket(event))
        case kinds.CallDoubted() | kinds.CallRecovered() | kinds.CallStuck():
            return safe(_told_of_recovery(event))
        case _:
            return safe(_told_of_session(event))


def _told_of_call(event: kinds.CallDecided | kinds.CallFinished | kinds.UsageRecorded) -> Text:
    match event:
        case kinds.CallDecided():
            verdict = Text(str(event.verdict), style=STYLES[event.verdict])
            approved = f" (approved by {event.approved_by})" if event.approved_by else ""
            if event.mode is not Mode.ENFORCE:
                approved += f" ({event.mode.replace('_', ' ')})"
            return Text.assemble(
                verdict,
                safe(f" {event.tool}(", "bold"),
                arguments(event.arguments),
                safe(")", "bold"),
                safe(f"{approved}: {event.reason}"),
            )
        case kinds.CallFinished():
            failed = f" {event.error_type}" if event.error_type else ""
            taken = f"after {event.duration_us / 1000:.1f} ms"
            return safe(
                f"{event.tool} {event.outcome}{failed} {taken}{_lost(event)}{_reviewed(event)}"
            )
        case kinds.UsageRecorded():
            cost = "unknown" if event.cost_usd is None else f"{event.cost_usd:f} US dollars"
            return safe(f"usage of {event.model}: {wording.tokens(event.usage)}, cost {cost}")


def _told_of_ticket(
    event: kinds.TicketOpened | kinds.TicketApproved | kinds.TicketResolved | kinds.GrantGiven,
) -> str:
    match event:
        case kinds.TicketOpened():
            who = " or ".join(event.approvers) or "a human"
            return f"{event.tool}: {who} is asked, ticket {event.ticket_id}"
        case kinds.TicketApproved():
            said = f": {event.comment}" if event.comment else ""
            return f"approved by {event.by}, {event.missing} more needed{said}"
        case kinds.TicketResolved():
            return f"{event.state} by {event.by}{f': {event.comment}' if event.comment else ''}"
        case kinds.GrantGiven():
            return f"{event.by} granted {event.calls} more of {event.tool}"


def _told_of_recovery(event: kinds.CallDoubted | kinds.CallRecovered | kinds.CallStuck) -> str:
    match event:
        case kinds.CallDoubted():
            return f"{event.tool}: its process is gone, and nobody knows whether it happened"
        case kinds.CallStuck():
            return f"{event.tool}: runs since {event.since:%Y-%m-%d %H:%M:%S}Z"
        case kinds.CallRecovered():
            known = {True: "it happened", False: "it did not happen", None: "it may be made again"}
            why = f": {event.comment}" if event.comment else ""
            return f"{event.tool}: {known[event.happened]}, says {event.by}{why}"


def _told_of_session(
    event: kinds.SessionOpened
    | kinds.SessionStuck
    | kinds.SessionPaused
    | kinds.SessionResumed
    | kinds.SessionHalted
    | kinds.SessionReleased
    | kinds.HaltOrdered
    | kinds.SessionClosed,
) -> str:
    match event:
        case kinds.SessionOpened():
            within = f", in session {event.parent}" if event.parent else ""
            return f"{event.name}, agent {event.agent}{within}"
        case kinds.SessionPaused():
            return f"waits to be resumed{f': {event.reason}' if event.reason else ''}"
        case kinds.SessionStuck():
            return f"open since {event.since:%Y-%m-%d %H:%M:%S}Z"
        case kinds.SessionResumed():
            return "goes on"
        case kinds.SessionHalted():
            return f"halted by {event.by}: {event.reason}"
        case kinds.HaltOrdered():
            what = event.target.replace(":", " ", 1).strip()
            return f"{event.by} halts {what}: {event.reason}, halt {event.halt_id}"
        case kinds.SessionReleased():
            return f"released by {event.by}: {event.reason}"
        case kinds.SessionClosed():
            return wording.ended(event)[1].removeprefix("the session ").removeprefix("was ")


def _lost(event: kinds.CallFinished) -> str:
    """Which leases it did not hold any more."""
    return f", having lost lease {', '.join(event.leases_lost)}" if event.leases_lost else ""


def _reviewed(event: kinds.CallFinished) -> str:
    """What became of its result, where it was reviewed and not simply given."""
    if event.withheld:
        return f", its result withheld: {'; '.join(one.reason for one in event.reviews)}"
    return f", its result redacted by {', '.join(event.redacted_by)}" if event.redacted_by else ""
