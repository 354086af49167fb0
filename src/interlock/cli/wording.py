"""
Wording: what a line of a session's story says, in words, the same for the terminal and for the page.

What is returned is raw: whoever shows it escapes it, by `_display.shown` and for its own medium.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias, assert_never

from interlock import events
from interlock._budget import Amounts, dollar_text
from interlock._call import Risk
from interlock._display import data_text, named, value_text
from interlock._story import CallTold, EventTold, Totals
from interlock._ticket import TicketState
from interlock._usage import Usage
from interlock._verdict import Mode, Opinion, Verdict

Tone: TypeAlias = Literal["plain", "good", "wait", "turn", "bad", "dim"]
"""How something is meant: each is shown in a colour of its own, and none says anything by its colour alone."""

TONES: dict[Verdict, Tone] = {
    Verdict.ALLOW: "good",
    Verdict.ASK: "wait",
    Verdict.STEER: "turn",
    Verdict.DENY: "bad",
}


_MS = 1_000
_SECOND = 1_000 * _MS
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


class Fact(NamedTuple):
    """One thing that is known of a call: what it is called, what it is, and how that is meant."""

    label: str
    text: str
    tone: Tone = "plain"


def clock(us: int) -> str:
    """Return a time after the beginning: `+4.120s`, `+3:04.1`, `+1:03:04`, `+2d 03:04`."""
    minutes, seconds = us // _MINUTE, us % _MINUTE // _SECOND
    hours, minute = us // _HOUR, us % _HOUR // _MINUTE
    if us < _MINUTE:
        return f"+{us // _MS / _MS:.3f}s"
    if us < _HOUR:
        return f"+{minutes}:{seconds:02d}.{us % _SECOND // 100_000}"
    if us < _DAY:
        return f"+{hours}:{minute:02d}:{seconds:02d}"
    return f"+{us // _DAY}d {us % _DAY // _HOUR:02d}:{minute:02d}"


def span(us: int) -> str:
    """Return how long something took, in the unit in which people say it."""
    if us < _MS:
        return f"{us} µs"
    if us < _SECOND:
        return f"{us // 100 / 10:.1f} ms"
    if us < _MINUTE:
        return f"{us // 10_000 / 100:.2f} s"
    if us < _HOUR:
        return f"{us // _MINUTE} min {us % _MINUTE // _SECOND} s"
    if us < _DAY:
        return f"{us // _HOUR} h {us % _HOUR // _MINUTE} min"
    return f"{us // _DAY} d {us % _DAY // _HOUR} h"


def dollars(amount: Decimal) -> str:
    """Return an amount of money, exactly, in plain digits."""
    text = f"{amount:f}"
    return f"${text.rstrip('0').rstrip('.') if '.' in text else text}"


def title(told: CallTold) -> tuple[str, Tone]:
    """Return what was decided, in a word or two, and how that is meant."""
    decided = told.decided
    if decided.mode is Mode.DRY_RUN and decided.verdict <= Verdict.ASK:
        return "dry run", "dim"
    if decided.verdict is Verdict.ASK and decided.admitted and decided.approved_by:
        return "approved", "good"
    return str(decided.verdict), TONES[decided.verdict]


def pairs(recorded: str) -> list[tuple[str, str]]:
    """Return the arguments of a call as they are stored, by name; what was kept out of the record stays out."""
    return [(name, value_text(value)) for name, value in named(recorded)]


def facts(told: CallTold) -> Iterator[Fact]:
    """Yield what is known of a call, the most telling first."""
    decided, ended = told.decided, told.ended
    tone = TONES[decided.verdict] if not decided.admitted else "plain"
    said = ", ".join(dict.fromkeys(map(_author, told.because)))
    yield Fact("why", f"{decided.reason} ({said})" if said else decided.reason, tone)
    if decided.mode is Mode.OBSERVE:
        yield Fact("mode", "observe: it ran whatever was thought of it", "wait")
    if decided.mode is Mode.DRY_RUN:
        yield Fact("mode", "dry run: it was simulated at most", "dim")
    yield from _ways(told)
    yield from _asked(told)
    if decided.admitted:
        yield from _end(ended, told.recovered)
    yield from _budgets(told)
    about = [f"risk {decided.risk}"]
    about += [] if decided.resource is None else [f"on {decided.resource}"]
    about += [] if decided.model is None else [f"model {decided.model}"]
    about += [] if decided.cost_usd is None else [f"declared {dollars(decided.cost_usd)}"]
    if decided.leases:
        held = ", ".join(f"{one.lease} (token {one.token})" for one in decided.leases)
        yield Fact("leases", held, "dim")
    yield Fact("about", ", ".join(about), "bad" if decided.risk >= Risk.HIGH else "dim")
    yield from _others(told)
    if decided.ticket_id is not None:
        yield Fact("ticket", decided.ticket_id, "dim")
    if decided.grant_id is not None:
        yield Fact("grant", decided.grant_id, "dim")


def outcome(ended: events.CallFinished) -> Fact:
    """Return how a call ended, and how long that took."""
    how = f"{ended.outcome} {ended.error_type}" if ended.error_type else str(ended.outcome)
    good = ended.outcome is events.Outcome.RETURNED
    return Fact("ended", f"{how} after {span(ended.duration_us)}", "good" if good else "bad")


def happened(told: EventTold) -> tuple[str, str, Tone]:
    """Return what happened besides calls: what it is called, what it says, and how that is meant."""
    event = told.event
    match event:
        case (
            events.SessionOpened()
            | events.SessionClosed()
            | events.SessionPaused()
            | events.SessionResumed()
            | events.SessionHalted()
            | events.SessionReleased()
        ):
            return _of_session(event)
        case events.CallDoubted() | events.CallRecovered():
            return _of_recovery(event, told)
        case events.CallStuck() | events.SessionStuck():
            return _of_stuck(event, told)
        case events.HaltOrdered() | events.AppNoted() | events.NewerEvent():
            return _of_others(event)
        case events.TicketOpened() | events.TicketApproved():
            return _of_ticket(event, told)
        case events.TicketResolved() | events.GrantGiven():
            return _of_ticket(event, told)
        case events.UsageRecorded():
            cost = "cost unknown" if event.cost_usd is None else dollars(event.cost_usd)
            return "usage", f"{event.model}: {tokens(event.usage)}, {cost}", "plain"
        case events.CallFinished():
            found = outcome(event)
            which = "" if told.number is None else f"call {told.number}, "
            return "ended", f"{which}{event.tool}: {found.text}", found.tone
        case events.CallDecided():  # a story tells it as a call
            return str(event.verdict), f"{event.tool}: {event.reason}", TONES[event.verdict]
    assert_never(event)


def summary(totals: Totals) -> Iterator[Fact]:
    """Yield what a story adds up to."""
    counted = [f"{totals.verdicts[v]:,} {v}" for v in Verdict if totals.verdicts.get(v)]
    yield Fact("calls", f"{totals.calls:,}{': ' if counted else ''}{', '.join(counted)}")
    ends = [f"{totals.outcomes[o]:,} {o}" for o in events.Outcome if totals.outcomes.get(o)]
    yield Fact("ran", f"{totals.ran:,}{': ' if ends else ''}{', '.join(ends)}")
    if totals.running:
        yield Fact(
            "no end",
            f"{len(totals.running):,} that run, or are in doubt: admitted, and no outcome recorded",
            "wait",
        )
    if totals.withheld:
        yield Fact("withheld", f"{totals.withheld:,} results", "bad")
    unpriced = f", and {totals.unpriced:,} of unknown cost" if totals.unpriced else ""
    yield Fact("cost", dollars(totals.cost_usd) + unpriced)
    if totals.tokens:
        yield Fact("tokens", f"{totals.tokens:,}")
    if totals.asked:
        answers = {"approved": totals.approved, "denied": totals.denied, "lapsed": totals.lapsed}
        told = [f"{count:,} {name}" for name, count in answers.items() if count]
        wait = (
            ""
            if totals.longest_wait_us is None
            else f"; longest wait {span(totals.longest_wait_us)}"
        )
        yield Fact("asked", f"{totals.asked:,} times{': ' if told else ''}{', '.join(told)}{wait}")
    yield Fact("time", f"{span(totals.took_us)}, of which {span(totals.tool_us)} in tools")
    yield Fact("record", f"{totals.events:,} events")


def _author(opinion: Opinion) -> str:
    named_ = f"{opinion.author}/{opinion.rule}" if opinion.rule else opinion.author
    return f"{named_} ({opinion.version})" if opinion.version else named_


def _ways(told: CallTold) -> Iterator[Fact]:
    guidance = " ".join(dict.fromkeys(one.guidance for one in told.because if one.guidance))
    ways = ", ".join(dict.fromkeys(name for one in told.because for name in one.suggestions))
    if guidance:
        yield Fact("guidance", guidance)
    if ways:
        yield Fact("instead", ways, "turn")
    if told.steered is not None and told.steered > 1:
        yield Fact("steered", f"{told.steered} times in this session so far", "turn")
    if told.follows is not None:
        yield Fact("follows", f"the hint that call {told.follows} was given", "good")


def _asked(told: CallTold) -> Iterator[Fact]:
    decided = told.decided
    if decided.approved_by is not None:
        waited = "" if told.waited_us is None else f", {span(told.waited_us)} after it was asked"
        by = "a grant of " if decided.grant_id else ""
        yield Fact("approved", f"by {by}{decided.approved_by}{waited}", "good")
        for one in told.approvals:
            if one.comment:
                yield Fact("comment", f"{one.by}: {one.comment}")
    elif decided.ticket_id is not None:
        who = " or ".join(dict.fromkeys(name for one in told.because for name in one.approvers))
        yield Fact("waits for", f"the yes of {who or 'a human'}", "wait")


def _others(told: CallTold) -> Iterator[Fact]:
    for one in told.decided.opinions:
        if one in told.because and not (one.fault and len(told.because) > 1):
            continue
        manner = "only observes: " if one.observed else ""
        yield Fact("heard", f"{_author(one)} {manner}{one.verdict}: {one.reason}", "dim")


def _budgets(told: CallTold) -> Iterator[Fact]:
    decided, charged = told.decided, told.ended.charged if told.ended else None
    if decided.reserved is None or not decided.windows:
        objecting = {one.author.removeprefix("budget:") for one in told.because}
        for window, taken in zip(decided.windows, decided.taken, strict=False):
            if window.budget in objecting and taken is not None:
                yield Fact("budget", f"{window.budget}: {_amounts(taken)} taken before", "bad")
        return
    names = ", ".join(dict.fromkeys(window.budget for window in decided.windows))
    effect = f"{_amounts(decided.reserved)} reserved"
    if charged == decided.reserved:
        effect += " and charged"
    elif charged is not None:
        effect += f", {_amounts(charged)} charged"
    yield Fact("budget", f"{effect}, of {names}")


def _amounts(amounts: Amounts) -> str:
    parts = [f"${dollar_text(amounts.cost)}"] if amounts.cost else []
    parts += [f"{amounts.tokens:,} tokens"] if amounts.tokens else []
    parts += [f"{amounts.calls:,} call{'s' * (amounts.calls != 1)}"] if amounts.calls else []
    return " + ".join(parts) or "nothing"


def _end(
    ended: events.CallFinished | None, recovered: events.CallRecovered | None
) -> Iterator[Fact]:
    if ended is None and recovered is not None:
        yield Fact("ended", *_recovered(recovered))
        return
    if ended is None:
        yield Fact("ended", "not yet, or in doubt: no outcome is recorded here", "wait")
        return
    if ended.withheld:
        yield Fact("withheld", "its result was kept from the caller", "bad")
    if ended.redacted_by:
        yield Fact("redacted", f"its result, by {', '.join(ended.redacted_by)}", "wait")
    for one in ended.reviews:
        tone: Tone = "dim" if one.verdict is Verdict.ALLOW else "bad"
        yield Fact("review", f"{_author(one)} {one.verdict}: {one.reason}", tone)
    if ended.halt_id is not None:
        yield Fact("halted", f"while it ran, by halt {ended.halt_id}", "bad")
    yield _with_cost(ended)
    if ended.result is not None:
        yield Fact("gave", data_text(ended.result))


def tokens(usage: Usage) -> str:
    """How many tokens, as far as that is known."""
    if usage.tokens is not None:
        return f"{usage.tokens:,} tokens"
    parts = {"in": usage.input_tokens, "out": usage.output_tokens}
    known = [f"{count:,} tokens {where}" for where, count in parts.items() if count is not None]
    return known[0] if known else "tokens unknown"


def _with_cost(ended: events.CallFinished) -> Fact:
    found = outcome(ended)
    parts = [found.text]
    parts += [] if ended.usage is None else [tokens(ended.usage)]
    if ended.cost_usd is not None:
        parts.append(f"cost {dollars(ended.cost_usd)}")
    elif ended.usage is not None:
        parts.append("cost unknown")
    return found._replace(text=", ".join(parts))


def _of_session(
    event: events.SessionOpened
    | events.SessionClosed
    | events.SessionPaused
    | events.SessionResumed
    | events.SessionHalted
    | events.SessionReleased,
) -> tuple[str, str, Tone]:
    match event:
        case events.SessionOpened():
            mode = "" if event.mode is Mode.ENFORCE else f", {event.mode.replace('_', ' ')}"
            within = f", in session {event.parent}" if event.parent else ""
            only = f", the only one with {event.exclusive!r}" if event.exclusive else ""
            return "opened", f"{event.name}, agent {event.agent}{mode}{within}{only}", "plain"
        case events.SessionClosed():
            return ended(event)
        case events.SessionPaused():
            why = f": {event.reason}" if event.reason else ""
            return "paused", f"the session waits to be resumed{why}", "wait"
        case events.SessionResumed():
            return "resumed", "the session goes on", "plain"
        case events.SessionHalted():
            return "halted", f"by {event.by}: {event.reason} (halt {event.halt_id})", "bad"
        case events.SessionReleased():
            return "released", f"by {event.by}: {event.reason} (halt {event.halt_id})", "good"


def _of_stuck(
    event: events.CallStuck | events.SessionStuck, told: EventTold
) -> tuple[str, str, Tone]:
    since = f"since {event.since:%Y-%m-%d %H:%M:%S}Z, longer than the policy finds good"
    if isinstance(event, events.SessionStuck):
        return "stuck", f"the session is open {since}", "bad"
    which = "" if told.number is None else f"call {told.number}, "
    return "stuck", f"{which}{event.tool}: runs {since}", "bad"


def _of_recovery(
    event: events.CallDoubted | events.CallRecovered, told: EventTold
) -> tuple[str, str, Tone]:
    which = "" if told.number is None else f"call {told.number}, "
    if isinstance(event, events.CallDoubted):
        said = "its process is gone; a human has to find out whether it happened"
        return "in doubt", f"{which}{event.tool}: {said}", "bad"
    text, tone = _recovered(event)
    return "recovered", f"{which}{event.tool}: {text}", tone


def _recovered(event: events.CallRecovered) -> tuple[str, Tone]:
    """What is known of a call whose process died."""
    if event.happened is None:
        return "its process died; it may be made again", "wait"
    found = "it happened" if event.happened else "it did not happen"
    who = "its tool" if event.rule is not None else event.by
    why = f": {event.comment}" if event.comment else ""
    return f"its process died; {found}, says {who}{why}", "good" if event.happened else "wait"


def ended(closed: events.SessionClosed) -> tuple[str, str, Tone]:
    """Return a word for how a session ended, what that means, and how it sounds."""
    by = closed.by or closed.error_type
    if by is None and closed.reason is None:
        return "closed", "the session ended well", "good"
    said = f"the session was ended by {by}" if by else "the session was ended"
    return "aborted", f"{said}: {closed.reason}" if closed.reason else said, "bad"


def _of_others(
    event: events.HaltOrdered | events.AppNoted | events.NewerEvent,
) -> tuple[str, str, Tone]:
    match event:
        case events.HaltOrdered():
            what = event.target.replace(":", " ", 1).strip()
            return "halted", f"{what}, by {event.by}: {event.reason} (halt {event.halt_id})", "bad"
        case events.AppNoted():
            return "noted", f"{event.name} {data_text(event.data)}", "plain"
        case events.NewerEvent():
            kind = event.kind.replace("_", " ")
            said = f"{kind}, version {event.version}, of a newer release; upgrade to understand it"
            return "unknown", said, "dim"


def _of_ticket(
    event: events.TicketOpened | events.TicketApproved | events.TicketResolved | events.GrantGiven,
    told: EventTold,
) -> tuple[str, str, Tone]:
    which = "" if told.number is None else f" to call {told.number}"
    waited = "" if told.waited_us is None else f" after {span(told.waited_us)}"
    match event:
        case events.TicketOpened():
            who = " or ".join(event.approvers) or "a human"
            many = f", {event.quorum} of them," if event.quorum > 1 else ""
            number = "" if told.number is None else f" (call {told.number})"
            until = f"{event.expires_at:%Y-%m-%d %H:%MZ}"
            return "asked", f"{who}{many} about {event.tool}{number}, until {until}", "wait"
        case events.TicketApproved():
            said = f": {event.comment}" if event.comment else ""
            return (
                "yes",
                f"{event.by} said yes{which}{waited}, {event.missing} more needed{said}",
                "good",
            )
        case events.TicketResolved():
            said = f": {event.comment}" if event.comment else ""
            if event.state is TicketState.APPROVED:
                return "yes", f"{event.by} said yes{which}{waited}{said}", "good"
            if event.state is TicketState.DENIED:
                return "no", f"{event.by} said no{which}{waited}{said}", "bad"
            lapsed = (
                f"the yes{which} was not used"
                if told.unused
                else f"the question{which and f' about call {told.number}'} was not answered"
            )
            return str(event.state), lapsed, "dim"
        case events.GrantGiven():
            of = "" if event.resources is None else f" of {', '.join(event.resources)}"
            cost = f" for {_amounts(Amounts(cost=event.cost))}" if event.cost else ""
            until = f"{event.expires_at:%Y-%m-%d %H:%MZ}"
            return (
                "granted",
                f"{event.by} granted {event.calls:,} more calls of {event.tool}{of}{cost}, until {until}",
                "good",
            )
