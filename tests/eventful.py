"""An eventful session: everything that a session can record, in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import timedelta
from decimal import Decimal
from typing import Any

from interlock import ApprovalNeeded, Governor, Grant, Opinion, Refused, Usage, Verdict, governed
from interlock._call import Call
from interlock.store import recovery, tickets
from interlock.testing import ManualClock
from tests.judges import judge

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e' onload=x"
"""What tries to act in a terminal, in HTML, or on the order of letters."""

CALLS = 32
"""So many calls are decided in the session of `live`."""

EVENTS = 74
"""So many events it has."""

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "support",
    "rules": [
        {"id": "labelled", "labels": ["harmless"], "verdict": "allow"},
        {
            "id": "small",
            "tools": ["refund"],
            "when": {"argument": "amount", "at_most": 50},
            "verdict": "allow",
        },
        {
            "id": "refunds",
            "tools": ["refund"],
            "verdict": "ask",
            "approvers": ["payments-oncall"],
            "quorum": 2,
        },
        {"id": "grants", "tools": ["mail"], "verdict": "ask"},
        {
            "id": "no-wires",
            "tools": ["wire"],
            "verdict": "steer",
            "guidance": "Finance reviews payments.",
            "suggest": ["request_payment"],
        },
        {
            "id": "requests",
            "tools": ["request_payment", "flaky", "flood", "model.call"],
            "verdict": "allow",
        },
        {
            "id": "curious",
            "tools": ["search"],
            "when": {"evaluator": "curious"},
            "verdict": "deny",
        },
        {"id": "search", "tools": ["search"], "verdict": "allow"},
    ],
    "recovery": {"call_stuck_after": "10s", "session_stuck_after": "10s"},
    "steering": {"retries": 2},
    "evaluators": [{"use": "watchful", "tools": ["refund"]}],
    "budgets": [
        {"name": "per-run", "per": "session", "cost_usd": 800, "calls": 40},
        {"name": "wires", "per": "org", "tools": ["refund"], "cost_usd": 780},
        {"name": "floods", "per": "session", "tools": ["flood"], "calls": 1, "halt": "tool"},
    ],
}


def _watchful(_: object, call: Call) -> Opinion:
    """Think something of each refund, and deny those of thirteen dollars."""
    verdict = Verdict.DENY if call.arguments.get("amount") == 13 else Verdict.ALLOW
    return Opinion(verdict=verdict, reason="it was watched", author="watchful")


def _curious(_: object, call: Call) -> Opinion | None:
    """Object to a search for secrets."""
    if "secret" not in str(call.arguments):
        return None
    return Opinion(verdict=Verdict.DENY, reason="it looks for secrets", author="curious")


EVALUATORS: dict[str, type] = {"watchful": judge(_watchful), "curious": judge(_curious)}


@governed(labels=["harmless"], risk="low")
def look(what: str) -> str:
    """Look at something."""
    return what


@governed(labels=["harmless"], risk="low")
def linger(what: str) -> Iterator[str]:
    """Look for long."""
    yield what


@governed(labels=["harmless"], risk="low", idempotent=True)
def linger_on() -> Iterator[str]:
    """Look for long, and perhaps again."""
    yield "seen"


@governed(resource="order", cost="amount", risk="high")
def refund(order: str, amount: int) -> str:
    """Pay money back."""
    return f"{order}: {amount}"


@governed(resource="to", secrets=["card"])
def mail(to: str, card: str = "4111-secret") -> str:
    """Send a mail."""
    return to


@governed(risk="critical")
def wire(account: str) -> str:
    """Wire money."""
    return account


@governed
def request_payment(payee: str) -> str:
    """Ask Finance."""
    return payee


@governed
def flaky() -> str:
    """Fail."""
    raise ConnectionError(HOSTILE)


@governed
def flood() -> None:
    """Be called too often."""


@governed
def search(words: str) -> str:
    """Search."""
    return words


def live(url: str, clock: ManualClock, **options: Any) -> str:
    """Live through the session at *url*, and return its id."""
    with Governor(url, policy=POLICY, evaluators=EVALUATORS, clock=clock, **options) as governor:
        session = governor.session(
            f"case {HOSTILE}", agent="support-bot", user="u-17", team="t-1", org="acme"
        )
        with session:
            _work(governor, session, clock)
        _crash(governor, copy_context(), session.id, clock, **options)
        with suppress(RuntimeError), governor.resume_session(session.id):
            look("after all")
            raise RuntimeError("the agent gives up")
        return session.id


def _crash(
    governor: Governor, apart: Context, session_id: str, clock: ManualClock, **options: Any
) -> None:
    """Have another process resume the session, be stuck in two calls, and be heard of no more."""
    url = governor._machinery.store.url.render_as_string(hide_password=False)
    victim = Governor(url, policy=POLICY, evaluators=EVALUATORS, clock=clock, **options)
    session = victim.resume_session(session_id)
    apart.run(session.__enter__)
    with session.attach():
        streams = [linger(HOSTILE), linger_on()]
        for stream in streams:
            next(stream)
    victim.close()
    clock.advance(timedelta(seconds=20))
    governor.recover()
    clock.advance(timedelta(seconds=20))
    for held in governor.recover().doubted:
        governor.write(recovery.resolve, held.call_id, happened=True, by=HOSTILE, comment=HOSTILE)


def _work(governor: Governor, session: Any, clock: ManualClock) -> None:
    look(HOSTILE)
    clock.advance(timedelta(seconds=2.5))
    refund("o-1", 20)
    for forbidden in (lambda: refund("o-1", 13), lambda: unknown(1)):
        with suppress(Refused):
            forbidden()
    _ask_about(governor, clock)
    for _ in range(4):
        with suppress(Refused):
            wire("DE02")
        clock.advance(timedelta(seconds=1))
    request_payment(HOSTILE)
    with suppress(ConnectionError):
        flaky()
    with suppress(Refused):
        search("secrets of others")
    search("lamps")
    session.record("searched", {"for": HOSTILE})
    flood()
    for _ in range(2):  # for the first the tool is halted, and the second finds it so
        with suppress(Refused):
            flood()
    clock.advance(timedelta(seconds=10))
    with suppress(Refused):
        refund("o-2", 240)  # of 780 dollars 550 are spent
    with session.model_call(
        model="gpt-5-mini", estimate=Usage(input_tokens=900, output_tokens=500), name="model.call"
    ) as call:
        call.record(Usage(input_tokens=812, output_tokens=96))
    governor.record_usage(model="gpt-5-mini", input_tokens=10, output_tokens=2)
    halted = governor.halt(session=session.id, reason=HOSTILE, by="ann")
    with suppress(Refused):
        look("more")
    governor.release(halted.halt.id, reason="all is well", by="ann")
    session.pause()
    with suppress(Refused):
        look("while paused")


def _ask_about(governor: Governor, clock: ManualClock) -> None:
    for amount, answer in ((530, "yes"), (99, "no"), (98, "late")):
        with suppress(Refused):
            _asked(governor, clock, amount, answer)
    try:
        mail("ann@example.com")
    except ApprovalNeeded as needed:
        governor.write(
            tickets.approve, needed.ticket.id, by="ann", grant=Grant(calls=2, cost_usd=Decimal(0))
        )
    mail("ann@example.com")
    mail("ann@example.com")
    with suppress(Refused):
        mail("eve@example.com")  # of whom nobody said anything; its ticket is cancelled at the end


def _asked(governor: Governor, clock: ManualClock, amount: int, answer: str) -> None:
    try:
        refund("o-1", amount)
    except ApprovalNeeded as needed:
        clock.advance(timedelta(seconds=64))
        if answer == "no":
            governor.write(tickets.deny, needed.ticket.id, by="bob", comment=HOSTILE)
        elif answer == "yes":
            governor.write(tickets.approve, needed.ticket.id, by="ann", comment="photos seen")
            clock.advance(timedelta(seconds=190))
            governor.write(tickets.approve, needed.ticket.id, by="bob")
        else:
            clock.advance(timedelta(seconds=4_000))
    refund("o-1", amount)


@governed
def unknown(number: int) -> int:
    """Do what no rule names."""
    return number
