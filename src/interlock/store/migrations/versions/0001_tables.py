"""The tables: what there is of them at the first release."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from interlock.store import append_only

revision = "0001"
down_revision = None

_ID = sa.String(36)
_HASH = sa.String(64)
_TIME = sa.BigInteger()
_AMOUNTS = ("cost", "tokens", "calls")


def upgrade(prefix: str, schema: str | None) -> None:
    """Make them, each after those that it refers to."""
    place = _Place(prefix, schema)
    _policies(place)
    _owners(place)
    _sessions(place)
    _events(place)
    _intents(place)
    _idempotency_keys(place)
    _tickets(place)
    _grants(place)
    _budget_windows(place)
    _budget_leases(place)
    _leases(place)
    _usage(place)
    _halts(place)
    _counters(place)
    _commands(place)
    append_only.protect(op.get_bind(), prefix, schema)


class _Place:
    """Under which prefix and in which schema tables are made."""

    def __init__(self, prefix: str, schema: str | None) -> None:
        self.prefix = prefix
        self._schema = schema

    def table(self, name: str, *parts: Any, **options: Any) -> None:
        op.create_table(f"{self.prefix}{name}", *parts, schema=self._schema, **options)

    def index(
        self, table: str, name: str, *columns: str, where: str | None = None, unique: bool = False
    ) -> None:
        condition = None if where is None else sa.text(where)
        op.create_index(
            f"ix_{self.prefix}{table}_{name}",
            f"{self.prefix}{table}",
            list(columns),
            unique=unique,
            schema=self._schema,
            sqlite_where=condition,
            postgresql_where=condition,
        )

    def key(self, column: str) -> sa.ForeignKey:
        return sa.ForeignKey(f"{self._schema + '.' if self._schema else ''}{self.prefix}{column}")


def _policies(place: _Place) -> None:
    place.table(
        "policies",
        sa.Column("digest", _HASH, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False, comment="canonical JSON"),
        sa.Column("stored_at", _TIME, nullable=False),
    )


def _owners(place: _Place) -> None:
    place.table(
        "owners",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("lost_at", _TIME, comment="when it was declared lost"),
        sqlite_with_rowid=False,
        comment="the processes that run sessions and calls, and until when each is taken to live",
    )


def _sessions(place: _Place) -> None:
    place.table(
        "sessions",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("user", sa.Text),
        sa.Column("team", sa.Text),
        sa.Column("org", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("policy", _HASH, place.key("policies.digest")),
        sa.Column("head", sa.BigInteger, nullable=False, comment="seq of the last event"),
        sa.Column("head_hash", _HASH, nullable=False),
        sa.Column("memory", sa.Text, comment="JSON: what the policy wants remembered of the calls"),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME),
        sa.Column("owner", _ID, comment="who runs it, while it is open"),
        sa.Column("owned_at", _TIME, comment="since when it is open"),
        sa.Column("stuck_at", _TIME, comment="when it was told of as stuck"),
        sa.Column("parent", _ID, place.key("sessions.id")),
        sa.Column("exclusive", _HASH, comment="digest: what only one may be open or paused with"),
    )
    place.index("sessions", "opened_at", "opened_at", "id")
    for column in ("status", "name", "agent"):
        place.index("sessions", column, column, "opened_at", "id")
    for column in ("user", "team", "org", "parent"):
        where = f'"{column}" IS NOT NULL'
        place.index("sessions", column, column, "opened_at", "id", where=where)
    place.index(
        "sessions",
        "exclusive",
        "exclusive",
        where="exclusive IS NOT NULL AND status IN ('open', 'paused')",
        unique=True,
    )
    place.index("sessions", "owner", "owner", where="owner IS NOT NULL")


def _events(place: _Place) -> None:
    place.table(
        "events",
        sa.Column("session_id", _ID, place.key("sessions.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("version", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="canonical JSON"),
        sa.Column("trace_id", sa.String(32)),
        sa.Column("span_id", sa.String(16)),
        sa.Column("trace_flags", sa.SmallInteger),
        sa.Column("previous_hash", _HASH, nullable=False),
        sa.Column("hash", _HASH, nullable=False),
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(),
            primary_key=True,
            comment="its place in the feed, given by the database; not covered by the hash",
        ),
        sa.UniqueConstraint("session_id", "seq", name=f"uq_{place.prefix}events_session_seq"),
    )
    place.index("events", "trace_id", "trace_id", where="trace_id IS NOT NULL")


def _intents(place: _Place) -> None:
    place.table(
        "intents",
        sa.Column("session_id", _ID, place.key("sessions.id"), primary_key=True),
        sa.Column("call_id", _ID, primary_key=True),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("admitted_at", _TIME, nullable=False),
        sa.Column(
            "reserved", sa.Text, comment="JSON list: what the call holds of which budget window"
        ),
        sa.Column("leases", sa.Text, comment="JSON list: the slots that the call has taken"),
        sa.Column("owner", _ID, nullable=False, comment="who runs it"),
        sa.Column("recovery", sa.String(8), nullable=False, comment="what its tool declares"),
        sa.Column("doubted_at", _TIME, comment="when recovery found it"),
        sa.Column("stuck_at", _TIME, comment="when it was told of as stuck"),
        sqlite_with_rowid=False,
        comment="calls admitted and not yet finished; in doubt once their process is gone",
    )


def _idempotency_keys(place: _Place) -> None:
    place.table(
        "idempotency_keys",
        sa.Column("key", _HASH, primary_key=True),
        sa.Column("payload", _HASH, nullable=False, comment="of all arguments"),
        sa.Column("digest", _HASH, nullable=False, comment="of the call, as tickets have it"),
        sa.Column("session_id", _ID, place.key("sessions.id"), nullable=False),
        sa.Column("call_id", _ID, nullable=False),
        sa.Column("outcome", sa.String(16), comment="how the call ended; null while nobody knows"),
        sa.Column("result", sa.Text, comment="canonical JSON: what those are given who repeat it"),
        comment="calls that are made once, by what tells one effect from another",
    )
    place.index("idempotency_keys", "session", "session_id")


def _commands(place: _Place) -> None:
    place.table(
        "commands",
        sa.Column("key", _HASH, primary_key=True, comment="of the tenant, operation and id"),
        sa.Column("payload", _HASH, nullable=False, comment="of what the operation was given"),
        sa.Column("result", sa.Text, nullable=False, comment="JSON: what the operation returned"),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("hash", _HASH, nullable=False, comment="of all other columns"),
        comment="operations that are not done again when they are sent again",
    )
    place.index("commands", "at", "at")


def _tickets(place: _Place) -> None:
    place.table(
        "tickets",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("session_id", _ID, place.key("sessions.id"), nullable=False),
        sa.Column("call_id", _ID, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("digest", _HASH, nullable=False),
        sa.Column("policy", _HASH, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False, comment="canonical JSON, secrets masked"),
        sa.Column("resource", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column(
            "asked", sa.Text, nullable=False, comment="JSON list: who wants a human to be asked"
        ),
        sa.Column("approvers", sa.Text, nullable=False, comment="JSON list"),
        sa.Column("quorum", sa.SmallInteger, nullable=False),
        sa.Column(
            "approvals", sa.Text, nullable=False, comment="JSON list: who said yes, and when"
        ),
        sa.Column("requested_by", sa.Text, nullable=False, comment="JSON list"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("edited", sa.Text, comment="canonical JSON: what runs instead of the arguments"),
        sa.Column("edited_by", sa.Text),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", _TIME),
        sa.Column("comment", sa.Text),
        sa.Column(
            "leases", sa.Text, comment="JSON list: the slots that it holds until it is answered"
        ),
    )
    place.index("tickets", "session_digest", "session_id", "digest", "id")
    place.index("tickets", "state", "state", "id")


def _grants(place: _Place) -> None:
    place.table(
        "grants",
        sa.Column("id", _ID, place.key("tickets.id"), primary_key=True),
        sa.Column("session_id", _ID, place.key("sessions.id"), nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("policy", _HASH, nullable=False),
        sa.Column("asked", sa.Text, nullable=False, comment="JSON list"),
        sa.Column("resources", sa.Text, nullable=False, comment="JSON list, or null"),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("calls_used", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False, comment="nano-dollars"),
        sa.Column("cost_used", sa.BigInteger, nullable=False, comment="nano-dollars"),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.CheckConstraint("calls_used <= calls", name=f"{place.prefix}grant_calls"),
        sa.CheckConstraint("cost_used <= cost", name=f"{place.prefix}grant_cost"),
        comment="a human's yes for further calls, and what of it was used",
    )
    place.index("grants", "session_tool", "session_id", "tool", "id")


def _budget_windows(place: _Place) -> None:
    place.table(
        "budget_windows",
        sa.Column("budget", sa.Text, primary_key=True),
        sa.Column("scope", sa.Text, primary_key=True, comment="JSON list: whose share it is"),
        sa.Column("starts_at", _TIME, primary_key=True),
        sa.Column("ends_at", _TIME, comment="null: never"),
        *(
            sa.Column(f"{amount}_{part}", sa.BigInteger, nullable=part == "limit")
            for amount in _AMOUNTS
            for part in ("limit", "reserved", "spent", "leased")
        ),
        *(
            sa.CheckConstraint(
                f"{amount}_{part} >= 0", name=f"{place.prefix}budget_{amount}_{part}"
            )
            for amount in _AMOUNTS
            for part in ("reserved", "spent", "leased")
        ),
        sqlite_with_rowid=False,
        comment="what is reserved and spent of a budget, by whom, in which window; money in nano-dollars",
    )


def _budget_leases(place: _Place) -> None:
    place.table(
        "budget_leases",
        sa.Column("budget", sa.Text, primary_key=True),
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("starts_at", _TIME, primary_key=True),
        sa.Column("worker", _ID, primary_key=True),
        sa.Column("moved_at", _TIME, nullable=False),
        *(
            sa.Column(f"{amount}_{part}", sa.BigInteger, nullable=False)
            for amount in _AMOUNTS
            for part in ("limit", "reserved", "spent")
        ),
        *(
            sa.CheckConstraint(f"{amount}_{part} >= 0", name=f"{place.prefix}lease_{amount}_{part}")
            for amount in _AMOUNTS
            for part in ("reserved", "spent")
        ),
        *(
            sa.CheckConstraint(
                f"{amount}_reserved + {amount}_spent <= {amount}_limit",
                name=f"{place.prefix}lease_{amount}_limit",
            )
            for amount in _AMOUNTS
        ),
        sqlite_with_rowid=False,
        comment="what of a budget window one worker may hand out by itself, and what is reserved and spent of it",
    )


def _leases(place: _Place) -> None:
    place.table(
        "leases",
        sa.Column("lease", sa.Text, primary_key=True),
        sa.Column("scope", _HASH, primary_key=True, comment="digest: which part of the lease"),
        sa.Column("token", sa.BigInteger, nullable=False, comment="the last fencing token"),
        sa.Column("holders", sa.Text, comment="JSON list: who holds a slot; null: nobody"),
        sqlite_with_rowid=False,
        comment="how many calls may run at once: who does, of each part of each lease",
    )
    place.index("leases", "held", "lease", "scope", where="holders IS NOT NULL")


def _usage(place: _Place) -> None:
    place.table(
        "usage",
        sa.Column("id", _ID, nullable=False, unique=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("session_id", _ID, place.key("sessions.id")),
        sa.Column("call_id", _ID),
        sa.Column("agent", sa.Text),
        sa.Column("user", sa.Text),
        sa.Column("team", sa.Text),
        sa.Column("org", sa.Text),
        sa.Column("provider", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column(
            "cost_nano", sa.BigInteger, comment="nano-dollars; null: not known, which is not zero"
        ),
        sa.Column("priced_by", sa.Text),
        sa.Column("charged", sa.Text, comment="JSON list: what which budget windows were charged"),
        sa.Column("hash", _HASH, comment="of all other columns; null: the session's chain has it"),
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(),
            primary_key=True,
            comment="its place in the ledger, given by the database; not covered by the hash",
        ),
        comment="every model call that was paid for, in a session or not",
    )
    for column in ("session_id", "user", "team", "org", "agent"):
        place.index("usage", column, column, "at", where=f'"{column}" IS NOT NULL')
    place.index("usage", "model", "model", "at")
    place.index("usage", "at", "at")


def _halts(place: _Place) -> None:
    place.table(
        "halts",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("target", sa.Text, nullable=False, comment="scope and name"),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("engaged_at", _TIME, nullable=False),
        sa.Column("released_at", _TIME),
        sa.Column("released_by", sa.Text),
        sa.Column("release_reason", sa.Text),
        comment="the kill switch: what is halted, or was",
    )
    place.index("halts", "target", "target", where="released_at IS NULL", unique=True)
    place.table(
        "halt_log",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("halt_id", _ID, place.key("halts.id"), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("previous_hash", _HASH, nullable=False),
        sa.Column("hash", _HASH, nullable=False),
        comment="each halt and release, chained by hash",
    )


def _counters(place: _Place) -> None:
    place.table(
        "counters",
        sa.Column("what", sa.String(16), primary_key=True),
        sa.Column("day", _TIME, primary_key=True, comment="its first moment in UTC"),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("shard", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False, comment="nano-dollars"),
        sqlite_with_rowid=False,
        comment="how many there were of what on a day, as the events add up to",
    )
