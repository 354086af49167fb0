"""Operations on calls: admit, ask, settle. The two transactions of a governed call, for many calls at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Connection, bindparam, delete, select

from interlock import _canonical, events
from interlock._budget import Account, Amounts, Claim, WindowKey, nano, need_of
from interlock._call import Call
from interlock._clock import new_id
from interlock._decide import decide
from interlock._flow import Admission, Ending, Settlement
from interlock._ticket import Ticket
from interlock._usage import Priced
from interlock._verdict import Decision, Opinion, Verdict
from interlock.errors import Conflict
from interlock.store import tickets, usage
from interlock.store.budgets import Accounts, Held
from interlock.store.events import Chain, ask_heads, chains, unknown, write
from interlock.store.statements import Prepared, ask_time, insertion, plain, read, tables_of, told
from interlock.store.tables import Tables, to_microseconds

_OPEN = Prepared(lambda tables: insertion(tables.intents))


def _is_this(tables: Tables) -> Any:
    table = tables.intents
    return (table.c.session_id == bindparam("session")) & (table.c.call_id == bindparam("call"))


_HELD = Prepared(lambda tables: select(tables.intents.c.reserved).where(_is_this(tables)))
_CLOSE = Prepared(lambda tables: delete(tables.intents).where(_is_this(tables)))


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """
    Decide `call` and write the decision; when it admits, this is the intent, durable before the side effect.

    An ASK claims the approved ticket for this very call, or finds the open one, or opens one.

    Attributes:
        call: What is attempted.
        opinions: What policy, evaluators and plugins think of it.
        claims: The budgets that count it.
        policy: The digest of the policy they were formed under.
        trace: The span that shows the decision.
    """

    call: Call
    opinions: tuple[Opinion, ...]
    claims: tuple[Claim, ...] = ()
    policy: str
    trace: events.TraceIds | None


class Ask(Admit, frozen=True, kw_only=True):
    """Find the ticket that stands for `call`, using nothing up; where there is none, decide as `Admit` does."""


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """
    Write how an admitted call ended, at most once; None comes of it when no intent stands.

    Attributes:
        call: The call.
        ending: How it ended.
        used: What it really used, as it said itself, and what that costs; None when it did not say.
        claims: The budgets that count it.
        duration_us: How long the tool ran, in microseconds.
        trace: The span that shows the decision.
    """

    call: Call
    ending: Ending
    used: Priced | None = None
    claims: tuple[Claim, ...] = ()
    duration_us: int
    trace: events.TraceIds | None


Entry: TypeAlias = Admit | Ask | Settle
"""What is entered in the books for a call."""


def post(connection: Connection, entries: Sequence[Entry]) -> list[Any]:
    """
    Enter *entries* in the books, in order, and return what came of each.

    All that is needed is locked and read at once, in a fixed order (sessions, budgets); each entry is decided by pure
    functions of that state and of what those before it changed; then all is written at once. So a batch of calls
    costs about as many statements as one.

    Args:
        connection: A transaction on the store; what was locked stays locked until it ends.
        entries: What is entered.

    Returns:
        For each entry an `Admission`, a `Ticket`, a `Settlement`, or None, as its class says; or the `Conflict` that
        is to be raised for it, with nothing written.
    """
    page = _Page(connection, entries)
    results = [page.enter(entry) for entry in entries]
    page.write()
    return results


def in_doubt(
    connection: Connection, *, session_id: str | None = None, limit: int = 1_000
) -> list[tuple[str, str, str]]:
    """Return up to *limit* (call id, session id, tool) of calls admitted and not finished, oldest first."""
    table = tables_of(connection).intents
    query = select(table.c.call_id, table.c.session_id, table.c.tool).order_by(table.c.call_id)
    if session_id is not None:
        query = query.where(table.c.session_id == session_id)
    return [
        (row.call_id, row.session_id, row.tool) for row in connection.execute(query.limit(limit))
    ]


class _Page:
    """One page of the books: the state that a batch of entries needs, and what they change of it."""

    def __init__(self, connection: Connection, entries: Sequence[Entry]) -> None:
        self._connection = connection
        sessions = {entry.call.session_id for entry in entries}
        settled = [entry.call for entry in entries if isinstance(entry, Settle)]
        heads, held_rows, time = read(
            connection,
            ask_heads(sessions),
            (_HELD, [_key(call) for call in settled]),
            ask_time(connection),
        )
        self._chains = chains(sessions, heads)
        self._at = told(connection, time)
        self._holding: dict[str, Held | None] = {
            call.id: Held.read(rows[0][0]) if rows[0][0] else None
            for call, rows in zip(settled, held_rows, strict=True)
            if rows
        }
        self._accounts = Accounts(connection)
        self._opened: dict[str, dict[str, object]] = {}
        self._closed: list[dict[str, object]] = []
        self._usage: list[dict[str, object]] = []
        claims = [
            claim for entry in entries if not isinstance(entry, Settle) for claim in entry.claims
        ]
        held = [window for one in self._holding.values() if one for window in one.windows]
        if claims or held:
            self._accounts.lock([(claim, *claim.window(self._at)) for claim in claims], held)

    def enter(self, entry: Entry) -> Any:
        chain = self._chains[entry.call.session_id]
        if chain is None:
            return unknown(entry.call.session_id)
        match entry:
            case Settle():
                return self._settle(chain, entry)
            case Ask():
                ticket = tickets.standing(plain(self._connection), entry.call, at=self._at)
                return ticket or self._admit(chain, entry)
            case Admit():
                return self._admit(chain, entry)

    def write(self) -> None:
        write(self._connection, self._chains.values())
        _OPEN.run(self._connection, list(self._opened.values()))
        _CLOSE.run(self._connection, self._closed)
        usage.write(self._connection, self._usage)
        self._accounts.write()

    def _admit(self, chain: Chain, entry: Admit) -> Admission | Conflict:
        call = entry.call
        accounts = [
            (claim, self._accounts.under(claim.budget, claim.window(self._at)[0]))
            for claim in entry.claims
        ]
        decision, ticket = self._decided(chain, entry, accounts)
        claims = decision.approved_by is not None and ticket is not None
        if (
            claims
            and ticket is not None
            and not tickets.claim(self._connection, ticket, at=self._at)
        ):
            return Conflict(f"ticket {ticket.id} was claimed elsewhere")
        asks = decision.verdict is Verdict.ASK
        is_new = asks and ticket is None
        if is_new:
            ticket = tickets.open_ticket(self._connection, call, decision, at=self._at)
        shown = ticket if asks else None
        reserved = need_of(call).amounts if decision.admits and accounts else None
        windows = tuple(account.key for _, account in accounts) if reserved else ()
        decided = events.CallDecided(
            call_id=call.id,
            tool=call.tool.name,
            tool_kind=call.tool.kind,
            risk=call.tool.risk,
            arguments=call.recorded,
            digest=call.digest,
            resource=call.resource,
            cost_usd=call.cost,
            verdict=decision.verdict,
            admitted=decision.admits,
            reason=decision.reason,
            opinions=decision.opinions,
            policy=entry.policy,
            ticket_id=shown.id if shown else None,
            approved_by=decision.approved_by,
            model=call.model,
            windows=windows,
            reserved=reserved,
        )
        recorded = chain.append(decided, at=self._at, trace=entry.trace)
        opened: events.Recorded | None = None
        if is_new and shown is not None:
            opened = chain.append(_ticket_opened(shown), at=self._at, trace=entry.trace)
        if decision.admits:
            self._open(entry, windows, reserved)
        return Admission(
            decision=decision,
            recorded=recorded,
            ticket=shown,
            opened=opened,
            budgets=tuple(account for _, account in accounts),
        )

    def _decided(
        self, chain: Chain, entry: Admit, accounts: list[Any]
    ) -> tuple[Decision, Ticket | None]:
        decision = decide(
            entry.call,
            entry.opinions,
            status=chain.status,
            accounts=accounts,
            ticket=None,
            now=self._at,
        )
        if decision.verdict is not Verdict.ASK:
            return decision, None
        ticket = tickets.standing(plain(self._connection), entry.call, at=self._at)
        if ticket is None:
            return decision, None
        answered = decide(
            entry.call,
            entry.opinions,
            status=chain.status,
            accounts=accounts,
            ticket=ticket,
            now=self._at,
        )
        return answered, ticket

    def _open(self, entry: Admit, windows: tuple[WindowKey, ...], reserved: Amounts | None) -> None:
        call, held = entry.call, None
        if reserved is not None:
            held = Held(reserved, windows)
            self._accounts.reserve(windows, reserved)
        self._holding[call.id] = held
        self._opened[call.id] = {
            "call_id": call.id,
            "session_id": call.session_id,
            "tool": call.tool.name,
            "admitted_at": to_microseconds(self._at),
            "reserved": None if held is None else held.text(),
        }

    def _settle(self, chain: Chain, entry: Settle) -> Settlement | None:
        call, ending, used = entry.call, entry.ending, entry.used
        if call.id not in self._holding:
            return None
        held = self._holding.pop(call.id)
        if self._opened.pop(call.id, None) is None:
            self._closed.append(_key(call))
        charged: Amounts | None = None
        if held is not None:
            charged = _charge(held.amounts, ending, used)
            self._accounts.charge(held.windows, held.amounts, charged)
        cost = call.cost if ending.outcome is events.Outcome.RETURNED else None
        usage_id: str | None = None
        if used is not None:
            usage_id = self._use(call, used, charged, held)
            cost = cost if used.cost_usd is None else used.cost_usd
        finished = events.CallFinished(
            call_id=call.id,
            tool=call.tool.name,
            outcome=ending.outcome,
            duration_us=entry.duration_us,
            cost_usd=cost,
            error_type=None if ending.error is None else type(ending.error).__qualname__,
            result_digest=_result_digest(ending),
            charged=charged,
            usage=None if used is None else used.of.usage,
            usage_id=usage_id,
            provider=None if used is None else used.of.provider,
            priced_by=None if used is None else used.by,
        )
        recorded = chain.append(finished, at=self._at, trace=entry.trace)
        return Settlement(recorded=recorded, overspent=self._overspent(entry, held))

    def _use(self, call: Call, used: Priced, charged: Amounts | None, held: Held | None) -> str:
        usage_id = new_id()
        self._usage.append(
            usage.row(
                usage_id,
                self._at,
                used,
                call.identity,
                session_id=call.session_id,
                call_id=call.id,
                charged=None if charged is None or held is None else Held(charged, held.windows),
            )
        )
        return usage_id

    def _overspent(self, entry: Settle, held: Held | None) -> tuple[Account, ...]:
        raising = {claim.budget.name: claim.budget for claim in entry.claims if claim.budget.raises}
        if held is None or not raising:
            return ()
        accounts = (
            self._accounts.under(raising[key.budget], key)
            for key in held.windows
            if key.budget in raising
        )
        return tuple(account for account in accounts if account.is_overspent)


def _key(call: Call) -> dict[str, object]:
    return {"session": call.session_id, "call": call.id}


def _charge(reserved: Amounts, ending: Ending, used: Priced | None) -> Amounts:
    """
    Return what a call is charged that reserved so much.

    What it says that it has used. Where it does not say: nothing but the attempt if it raised, which is how a tool
    says that it failed; else what was reserved, since a call that was cancelled or abandoned may have had its effect,
    and the books must not hold less than the truth.
    """
    silent = Amounts() if ending.outcome is events.Outcome.RAISED else reserved
    cost, tokens = silent.cost, silent.tokens
    if used is not None and used.cost_usd is not None:
        cost = nano(used.cost_usd)
    if used is not None and used.of.usage.tokens is not None:
        tokens = used.of.usage.tokens
    return Amounts(cost, tokens, reserved.calls)


def _ticket_opened(ticket: Ticket) -> events.TicketOpened:
    return events.TicketOpened(
        ticket_id=ticket.id,
        call_id=ticket.call_id,
        tool=ticket.tool,
        digest=ticket.digest,
        approvers=ticket.approvers,
        expires_at=ticket.expires_at,
    )


def _result_digest(ending: Ending) -> str | None:
    if ending.outcome is not events.Outcome.RETURNED:
        return None
    try:
        return _canonical.digest(_canonical.canonical(ending.result))
    except Exception:  # noqa: BLE001 - a result that has no canonical form has no digest, and is none of our business
        return None
