"""Drives the ledger and the reference side by side: any sequence of calls, ends, records, policies and moments."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interlock import Identity, Tool, Usage
from interlock._again import again
from interlock._budget import facts_about, facts_of
from interlock._clock import new_id
from interlock._decide import Counsel
from interlock._replies import Admission, Ending, Settlement
from interlock._usage import ModelUsage, Priced
from interlock.events import Outcome, Recorded
from interlock.policy import Policy
from interlock.store import calls, entries, policies, sessions, tickets, usage
from interlock.store.engine import Store
from interlock.store.events import history
from interlock.store.verify import verify
from interlock.store.verify_books import disagreements
from interlock.testing import ManualClock
from tests.ledger._reference import AMOUNTS, Call, Ledger, Window, limits_of
from tests.ledger._rows import Rows
from tests.samples import call_of

ASK = {"on_exceed": "ask", "expires": "3650d"}
STEER = {"on_exceed": "steer", "guidance": "Wait."}
BUDGETS: list[list[dict[str, Any]]] = [
    [
        {"name": "run", "per": "session", "cost_usd": 2, "calls": 12},
        {"name": "user", "per": "user", "window": "day", "cost_usd": 3, "tokens": 400, **ASK},
        {"name": "org", "per": ["org", "agent"], "window": "month", "tokens": 900, "cost_usd": 9},
        {"name": "tool", "per": "tool", "window": "hour", "tools": ["search"], "calls": 2, **STEER},
        {
            "name": "refunds",
            "per": "session",
            "window": "day",
            "tools": ["refund"],
            "calls": 1,
            **ASK,
        },
        {
            "name": "model",
            "per": ["model", "user"],
            "cost_usd": "1.5",
            "tools": ["chat"],
            "models": ["m-1", "m-2"],
            "on_unknown": "admit",
            "on_overrun": "raise",
        },
    ],
    [
        {"name": "run", "per": "session", "cost_usd": "1", "calls": 20, "on_overrun": "raise"},
        {"name": "user", "per": "user", "window": "day", "cost_usd": 5, "on_overrun": "raise"},
        {"name": "org", "per": ["org", "agent"], "window": "month", "tokens": 300, **STEER},
        {"name": "model", "per": ["model", "user"], "tools": ["chat"], "models": ["m-1"]},
        {"name": "team", "per": "team", "window": "week", "calls": 9, "on_unknown": "admit"},
    ],
]
for _budget in BUDGETS[0][2], BUDGETS[1][2], BUDGETS[1][4]:
    _budget["timezone"] = "Asia/Kolkata"
POLICIES = [
    Policy.build({"version": 1, "name": name, "default": "allow", "budgets": budgets})
    for name, budgets in zip(("one", "other"), BUDGETS, strict=True)
]
_POLICIES = {policy.digest: policy for policy in POLICIES}
PEOPLE = [
    Identity(agent="bot", user="ann", org="acme"),
    Identity(agent="bot", user="ann", team="desk", org="acme"),
    Identity(agent="scout", user="bo", team="desk"),
]
TOOLS = {
    "search": Tool(name="search"),
    "refund": Tool(name="refund", cost="cost"),
    "chat": Tool(name="chat", kind="model", model="model"),
}
FACTS = ("agent", "user", "team", "org")
costs = st.sampled_from([None, *map(Decimal, ("0", "0.25", "0.5", "0.99999999991", "1.5"))])
counts = st.sampled_from([None, 0, 30, 150, 350])


class Attempt(NamedTuple):
    """A call that somebody makes under one of the policies."""

    place: int
    tool: str
    model: str
    cost: Decimal | None
    tokens: int | None
    policy: int


class End(NamedTuple):
    """The end of a call that runs, or of one that is over."""

    which: int
    again: bool
    outcome: Outcome
    says: bool
    cost: Decimal | None
    tokens: int | None
    policy: int


attempts = st.builds(
    Attempt,
    place=st.integers(0, 2),
    tool=st.sampled_from(list(TOOLS)),
    model=st.sampled_from(["m-1", "m-2", "m-3"]),
    cost=costs,
    tokens=counts,
    policy=st.integers(0, 1),
)
ends = st.builds(
    End,
    which=st.integers(0, 99),
    again=st.integers(0, 9).map(lambda n: n == 0),
    outcome=st.sampled_from(Outcome),
    says=st.booleans(),
    cost=costs,
    tokens=counts,
    policy=st.integers(0, 1),
)


class Rewound(ManualClock):
    """A clock that begins again with each sequence."""

    def rewind(self) -> None:
        """Begin again."""
        self._passed = timedelta(0)


class LedgerMachine(RuleBasedStateMachine):
    """Both ledgers; a subclass says on which database, and counts what was seen."""

    rows: Rows
    seen: Counter[str]
    clock: Rewound
    stores: list[Store]

    def __init__(self) -> None:
        super().__init__()
        self.rows.clear()
        self.clock.rewind()
        self.ledger = Ledger()
        self.limits: dict[Window, dict[str, int | None]] = {}
        self.calls: dict[str, Any] = {}
        self.owners: dict[str, str] = {}
        self.over: list[str] = []
        self.tickets: dict[str, Call] = {}
        for policy in POLICIES:
            self.stores[0].write(
                policies.keep, policy.digest, name=policy.name, document=policy.text
            )
        self.places = [self._opened(identity) for identity in PEOPLE]

    def _opened(self, identity: Identity) -> str:
        write = self.stores[0].write
        return write(sessions.open_session, "s", identity, policy=POLICIES[0].digest).session_id

    @rule(which=st.integers(0, 1), steps=st.lists(attempts | ends, min_size=1, max_size=4))
    def post(self, which: int, steps: list[Attempt | End]) -> None:
        """Enter some calls and ends in one transaction, and expect of each what the reference says."""
        owner = self.stores[which].owner.id
        pairs = [p for p in (self._entry(step, owner) for step in steps) if p is not None]
        self.seen["a batch"] += len(pairs) > 1
        results = self.stores[which].write(calls.post, [entry for _, entry in pairs])
        for (step, entry), result in zip(pairs, results, strict=True):
            if isinstance(step, Attempt):
                self.owners[entry.call.id] = owner
                self._decided(step, entry, result)
            elif self.owners[entry.call.id] == owner:
                self._settled(step, entry, result)
            else:
                assert result is None, "a process has settled the call of another"
                self.seen["another's"] += 1

    def _entry(self, step: Attempt | End, owner: str) -> tuple[Attempt | End, Any] | None:
        policy = POLICIES[step.policy]
        if isinstance(step, Attempt):
            call = self._call(step)
            claims = policy.budgets.claims(facts_about(call))
            heard = Counsel(opinions=(policy.opinion(call),))
            return step, entries.Admit(
                call=call, counsel=heard, claims=claims, policy=policy.digest, trace=None
            )
        running = list(self.ledger.running)
        own = [one for one in running if self.owners[one] == owner]
        ids = self.over if step.again else own if step.which % 5 else running
        if not ids:
            return None
        call = self.calls[ids[step.which % len(ids)]]
        return step, entries.Settle(
            call=call,
            ending=Ending(outcome=step.outcome),
            used=_priced(step.cost, step.tokens, call.model or call.tool.name)
            if step.says
            else None,
            claims=policy.budgets.claims(facts_about(call)),
            duration_us=1,
            trace=None,
        )

    def _call(self, attempt: Attempt) -> Any:
        chats = attempt.tool == "chat"
        said = {
            "cost": attempt.cost or 0,
            "unknown": attempt.cost is None,
            "tokens": attempt.tokens,
        }
        call = call_of(
            {**said, "model": attempt.model} if chats else said,
            tool=TOOLS[attempt.tool],
            call_id=new_id(),
            session_id=self.places[attempt.place],
            identity=PEOPLE[attempt.place],
        )
        self.calls[call.id] = call = _with(call, attempt) if chats else call
        return call

    def _who(self, place: int) -> tuple[tuple[str, str | None], ...]:
        who = [(name, getattr(PEOPLE[place], name)) for name in FACTS]
        return (*who, ("session", self.places[place]))

    def _told(self, attempt: Attempt) -> Call:
        cost, tokens, model = attempt.cost, attempt.tokens, attempt.model
        if attempt.tool != "chat":  # what a tool's arguments say is money only where it declares so
            cost, tokens, model = cost if attempt.tool == "refund" else None, None, None
        return Call(self._who(attempt.place), attempt.tool, model, cost, tokens)

    def _decided(self, attempt: Attempt, entry: entries.Admit, result: Any) -> None:
        assert isinstance(result, Admission)
        told, call, budgets = self._told(attempt), entry.call, BUDGETS[attempt.policy]
        # One request for approval stands for one set of arguments, which say more than a tool's money.
        marked = told._replace(who=(*told.who, ("arguments", call.digest)))
        answer = self.ledger.admit(call.id, marked, budgets, self.clock.now())
        decision = result.decision
        expected = answer.verdict, answer.admitted
        assert expected == (str(decision.verdict), decision.admits), (attempt, decision)
        authors = {opinion.author.removeprefix("budget:") for opinion in decision.because}
        assert answer.objecting == authors or answer.verdict == "allow", (attempt, decision)
        for budget in budgets:
            for window in [w for w in self._windows(entry) if w[0] == budget["name"]]:
                self.limits[window] = limits_of(budget)
                if answer.admitted and answer.verdict == "allow":
                    self._assert_within(window, budget, told)
        if result.ticket is not None:
            self.tickets[result.ticket.id] = marked
        self.seen[
            "approved" if answer.admitted and answer.verdict == "ask" else answer.verdict
        ] += 1

    def _windows(self, entry: entries.Admit) -> list[Window]:
        keys = [claim.window(self.clock.now())[0] for claim in entry.claims]
        return [(key.budget, tuple(json.loads(key.scope)), key.starts_at) for key in keys]

    def _assert_within(self, window: Window, budget: dict[str, Any], told: Call) -> None:
        asked = {"cost": told.cost, "tokens": told.tokens, "calls": 1}
        for name, limit in limits_of(budget).items():
            held, spent = self.ledger.reserved[window][name], self.ledger.spent.get(window, {})
            if limit is not None and asked[name]:
                assert held + spent.get(name, 0) <= limit, f"{name} of {window} beyond its limit"

    def _settled(self, end: End, entry: entries.Settle, result: Any) -> None:
        call_id = entry.call.id
        known = (end.cost, end.tokens) if end.says else (None, None)
        failed = end.outcome is Outcome.RAISED
        windows = self.ledger.settle(call_id, failed=failed, cost=known[0], tokens=known[1])
        if windows is None:
            assert result is None
            self.seen["over already"] += 1
            return
        assert isinstance(result, Settlement)
        self.over.append(call_id)
        raising = {b["name"]: b for b in BUDGETS[end.policy] if b.get("on_overrun") == "raise"}
        expected = {w[0] for w in windows if w[0] in raising and self.ledger.over(w, raising[w[0]])}
        assert expected == {account.key.budget for account in result.overspent}
        self.seen["settled"] += 1
        self.seen["overspent"] += bool(expected)
        now = self._windows(entry)  # type: ignore[arg-type]  # it has claims, too
        self.seen["settled in a later window"] += any(window not in now for window in windows)

    @rule(
        which=st.integers(0, 1),
        place=st.none() | st.integers(0, 2),
        model=st.sampled_from(["m-1", "chat"]),
        cost=costs,
        tokens=counts,
        in_session=st.booleans(),
    )
    def record_usage(
        self,
        which: int,
        place: int | None,
        model: str,
        cost: Decimal | None,
        tokens: int | None,
        in_session: bool,
    ) -> None:
        """Book usage that nobody was asked about."""
        identity = None if place is None else PEOPLE[place]
        session = self.places[place] if place is not None and in_session else None
        who = [(name, getattr(identity, name, None)) for name in FACTS]
        call = Call((*who, ("session", session)), model, model, cost, tokens)
        facts = facts_of(identity, session_id=session, tool=model, model=model)
        receipt = self.stores[which].write(
            usage.record,
            _priced(cost, tokens, model),
            identity,
            claims=POLICIES[which].budgets.claims(facts),
            session_id=session,
        )
        windows = self.ledger.record(call, BUDGETS[which], self.clock.now())
        named = {budget["name"]: budget for budget in BUDGETS[which]}
        self.limits |= {window: limits_of(named[window[0]]) for window in windows}
        over = {window[0] for window in windows if self.ledger.over(window, named[window[0]])}
        assert over == {account.key.budget for account in receipt.overspent}
        self.seen["recorded beyond a limit"] += bool(over)

    @precondition(lambda self: False in self.ledger.asked.values())
    @rule(which=st.integers(0, 99), policy=st.none() | st.integers(0, 1))
    def approve(self, which: int, policy: int | None) -> None:
        """Say yes to one of the calls that wait for it; then it is made again, at once or when it happens to be."""
        waiting = [t for t, call in self.tickets.items() if self.ledger.asked.get(call) is False]
        newest = {self.tickets[ticket]: ticket for ticket in waiting}
        call, ticket = list(newest.items())[which % len(newest)]
        self.stores[0].write(tickets.approve, ticket, by="payments-oncall")
        self.ledger.asked[call] = True
        if policy is not None:
            self._call_again(dict(call.who)["arguments"], policy)

    @rule(place=st.integers(0, 2), other=st.integers(0, 1))
    def ask_and_approve(self, place: int, other: int) -> None:
        """Use up what needs no approval, ask, hear a yes, and make the call."""
        refund = Attempt(place, "refund", "", Decimal(0), None, 0)
        self.post(0, [refund, refund])
        if False in self.ledger.asked.values():
            self.approve(99, other)

    def _call_again(self, digest: str | None, policy: int) -> None:
        call = next(call for call in self.calls.values() if call.digest == digest)
        arguments = call.arguments
        self.post(
            0,
            [
                Attempt(
                    place=self.places.index(call.session_id),
                    tool=call.tool.name,
                    model=arguments.get("model", ""),
                    cost=None if arguments["unknown"] else Decimal(arguments["cost"]),
                    tokens=arguments["tokens"],
                    policy=policy,
                )
            ],
        )

    @rule(
        by=st.sampled_from([timedelta(minutes=25), timedelta(hours=9), timedelta(days=3)])
        | st.timedeltas(timedelta(microseconds=1), timedelta(days=40))
    )
    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.clock.advance(by)

    @rule(which=st.sampled_from([0, 1, *[None] * 10]))
    def reopen(self, which: int | None) -> None:
        """End a process and begin another, whatever calls are in flight; seldom, since it takes long."""
        if which is None:
            return
        self.stores[which].close()
        self.stores[which] = Store(self.rows.url, clock=self.clock)
        self.seen["opened again with calls in flight"] += bool(self.ledger.running)

    @invariant()
    def books_are_equal(self) -> None:
        """Every window and every intent is what the reference says."""
        stored = self.rows.windows()
        nothing = dict.fromkeys(AMOUNTS, 0)
        for window in {*stored, *self.ledger.reserved, *self.ledger.spent}:
            limits, reserved, spent = stored.get(window, (None, nothing, nothing))
            assert self.ledger.reserved.get(window, nothing) == reserved, window
            assert self.ledger.spent.get(window, nothing) == spent, window
            assert self.limits.get(window) == limits, window
        held = self.rows.held()
        running = {k: (a, sorted(w, key=str)) for k, (a, w) in self.ledger.running.items() if w}
        assert running == {key: (a, sorted(w, key=str)) for key, (a, w) in held.items()}

    def teardown(self) -> None:
        """See that the events tell the same."""
        assert self.stores[0].read(disagreements) == {}
        reports = [self.stores[0].read(verify, session) for session in self.places]
        problems = [report.problem for report in reports if report.problem]
        assert problems == [], problems
        for session_id in self.places:
            found = again(session_id, partial(self._history, session_id), _POLICIES.__getitem__)
            assert found.differing == ()
            assert found.unknown == ()

    def _history(self, session_id: str) -> list[Recorded]:
        return self.stores[0].read(partial(history, limit=10_000), session_id)


def _with(call: Any, attempt: Attempt) -> Any:
    from msgspec.structs import replace  # noqa: PLC0415 - as `estimated` does for a host

    return replace(call, cost=attempt.cost, tokens=attempt.tokens)


def _priced(cost: Decimal | None, tokens: int | None, model: str) -> Priced:
    used = Usage(input_tokens=tokens, output_tokens=None if tokens is None else 0, cost_usd=cost)
    by = None if cost is None else "caller"
    return Priced(of=ModelUsage(model=model, usage=used), cost_usd=cost, by=by)


@contextmanager
def machine_on(url: str) -> Iterator[type[LedgerMachine]]:
    """Return the machine for the database at *url*, with which nobody else works."""
    clock = Rewound()
    stores = [Store(url, clock=clock) for _ in POLICIES]
    try:
        with Rows(url) as rows:
            common = {"rows": rows, "seen": Counter(), "clock": clock, "stores": stores}
            yield type("Machine", (LedgerMachine,), common)
    finally:
        for store in stores:
            store.close()
