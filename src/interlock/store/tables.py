"""The tables: one definition each, for every database, under a prefix and a schema that the host may choose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from interlock.errors import Misuse
from interlock.store import append_only

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_ID = String(36)
_HASH = String(64)

_GOES_ON = "exclusive IS NOT NULL AND status IN ('open', 'paused')"
"""Of the exclusive sessions, those that keep others out."""

_OURS = "interlock"
"""The mark in `Table.info` by which our tables are known among a host's."""


@lru_cache(maxsize=16)  # all that a transaction writes has one time
def to_microseconds(value: datetime) -> int:
    """
    Return an aware time as whole microseconds since 1970 in UTC.

    Raises:
        ValueError: it has no time zone: whose midnight it means is anybody's guess.
    """
    if value.tzinfo is None:
        raise ValueError("a time without a time zone cannot be stored")
    return (value - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Return the aware UTC time that is *value* microseconds after 1970."""
    return _EPOCH + value * _MICROSECOND


class UtcMicroseconds(TypeDecorator[datetime]):
    """An aware UTC time, stored as whole microseconds since 1970: it compares, sorts and hashes alike everywhere."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Refuse a time without a time zone."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time, aware and in UTC."""
        return None if value is None else from_microseconds(value)


def render_item(kind: str, item: object, _: object) -> str | Literal[False]:
    """Have Alembic write our times as the integers that they are: for `render_item` of `context.configure`."""
    return "sa.BigInteger()" if kind == "type" and isinstance(item, UtcMicroseconds) else False


class Tables:
    """
    The tables of one store.

    Two stores in one database differ by prefix or schema; a host's own `MetaData` may hold them, so that its
    migrations see them.
    """

    def __init__(
        self, metadata: MetaData | None = None, *, prefix: str = "", schema: str | None = None
    ) -> None:
        """
        Define the tables in *metadata*, a new one by default.

        Args:
            metadata: Where they are defined, unless they are already; its naming convention applies.
            prefix: Put before the name of each table and index.
            schema: The database's schema; None means that of *metadata*, else the connection's default.

        Raises:
            Misuse: *metadata* has a table of one of these names that is not ours.
        """
        self.metadata = MetaData() if metadata is None else metadata
        self.prefix = prefix
        self.schema = self.metadata.schema if schema is None else schema
        self.policies: Table = self._table(
            "policies",
            Column("digest", _HASH, primary_key=True),
            Column("name", Text, nullable=False),
            Column("document", Text, nullable=False, comment="canonical JSON"),
            Column("stored_at", UtcMicroseconds, nullable=False),
        )
        self.owners: Table = self._table(
            "owners",
            Column("id", _ID, primary_key=True),
            Column("host", Text, nullable=False),
            Column("pid", BigInteger, nullable=False),
            Column("started_at", UtcMicroseconds, nullable=False),
            Column("seen_at", UtcMicroseconds, nullable=False),
            Column("expires_at", UtcMicroseconds, nullable=False),
            Column("lost_at", UtcMicroseconds, comment="when it was declared lost"),
            sqlite_with_rowid=False,
            comment="the processes that run sessions and calls, and until when each is taken to live",
        )
        self.sessions: Table = self._table(
            "sessions",
            Column("id", _ID, primary_key=True),
            Column("name", Text, nullable=False),
            Column("agent", Text, nullable=False),
            Column("user", Text),
            Column("team", Text),
            Column("org", Text),
            Column("status", String(16), nullable=False),
            Column("policy", _HASH, self._key("policies.digest")),
            Column("head", BigInteger, nullable=False, comment="seq of the last event"),
            Column("head_hash", _HASH, nullable=False),
            Column("memory", Text, comment="JSON: what the policy wants remembered of the calls"),
            Column("opened_at", UtcMicroseconds, nullable=False),
            Column("closed_at", UtcMicroseconds),
            Column("owner", _ID, comment="who runs it, while it is open"),
            Column("owned_at", UtcMicroseconds, comment="since when it is open"),
            Column("stuck_at", UtcMicroseconds, comment="when it was told of as stuck"),
            Column("parent", _ID, self._key("sessions.id")),
            Column("exclusive", _HASH, comment="digest: what only one may be open or paused with"),
            Index(f"ix_{prefix}sessions_opened_at", "opened_at", "id"),
            *(
                Index(f"ix_{prefix}sessions_{column}", column, "opened_at", "id")
                for column in ("status", "name", "agent")
            ),
            *(
                Index(
                    f"ix_{prefix}sessions_{column}",
                    column,
                    "opened_at",
                    "id",
                    sqlite_where=text(f'"{column}" IS NOT NULL'),
                    postgresql_where=text(f'"{column}" IS NOT NULL'),
                )
                for column in ("user", "team", "org", "parent")
            ),
            Index(
                f"ix_{prefix}sessions_exclusive",
                "exclusive",
                unique=True,
                sqlite_where=text(_GOES_ON),
                postgresql_where=text(_GOES_ON),
            ),
            Index(
                f"ix_{prefix}sessions_owner",
                "owner",
                sqlite_where=text("owner IS NOT NULL"),
                postgresql_where=text("owner IS NOT NULL"),
            ),
        )
        self.events: Table = self._table(
            "events",
            Column("session_id", _ID, self._key("sessions.id"), nullable=False),
            Column("seq", BigInteger, nullable=False),
            Column("id", _ID, nullable=False),
            Column("at", UtcMicroseconds, nullable=False),
            Column("kind", String(32), nullable=False),
            Column("version", SmallInteger, nullable=False),
            Column("body", Text, nullable=False, comment="canonical JSON"),
            Column("trace_id", String(32)),
            Column("span_id", String(16)),
            Column("trace_flags", SmallInteger),
            Column("previous_hash", _HASH, nullable=False),
            Column("hash", _HASH, nullable=False),
            # On SQLite it is the number that a row has anyway, so it costs nothing there.
            Column(
                "position",
                BigInteger().with_variant(Integer, "sqlite"),
                Identity(),
                primary_key=True,
                comment="its place in the feed, given by the database; not covered by the hash",
            ),
            UniqueConstraint("session_id", "seq", name=f"uq_{prefix}events_session_seq"),
            # Every index costs a page of each commit, so there is none that only a rare question needs.
            Index(
                f"ix_{prefix}events_trace_id",
                "trace_id",
                sqlite_where=text("trace_id IS NOT NULL"),
                postgresql_where=text("trace_id IS NOT NULL"),
            ),
        )
        self.intents: Table = self._table(
            "intents",
            Column("session_id", _ID, self._key("sessions.id"), primary_key=True),
            Column("call_id", _ID, primary_key=True),
            Column("tool", Text, nullable=False),
            Column("admitted_at", UtcMicroseconds, nullable=False),
            Column(
                "reserved", Text, comment="JSON list: what the call holds of which budget window"
            ),
            Column("leases", Text, comment="JSON list: the slots that the call has taken"),
            Column("owner", _ID, nullable=False, comment="who runs it"),
            Column("recovery", String(8), nullable=False, comment="what its tool declares"),
            Column("doubted_at", UtcMicroseconds, comment="when recovery found it"),
            Column("stuck_at", UtcMicroseconds, comment="when it was told of as stuck"),
            sqlite_with_rowid=False,
            comment="calls admitted and not yet finished; in doubt once their process is gone",
        )
        self.idempotency_keys: Table = self._table(
            "idempotency_keys",
            Column("key", _HASH, primary_key=True),
            Column("payload", _HASH, nullable=False, comment="of all arguments"),
            Column("digest", _HASH, nullable=False, comment="of the call, as tickets have it"),
            Column("session_id", _ID, self._key("sessions.id"), nullable=False),
            Column("call_id", _ID, nullable=False),
            Column("outcome", String(16), comment="how the call ended; null while nobody knows"),
            Column("result", Text, comment="canonical JSON: what those are given who repeat it"),
            Index(f"ix_{prefix}idempotency_keys_session", "session_id"),
            comment="calls that are made once, by what tells one effect from another",
        )
        self.tickets: Table = self._table(
            "tickets",
            Column("id", _ID, primary_key=True),
            Column("session_id", _ID, self._key("sessions.id"), nullable=False),
            Column("call_id", _ID, nullable=False),
            Column("tool", Text, nullable=False),
            Column("digest", _HASH, nullable=False),
            Column("policy", _HASH, nullable=False),
            Column("arguments", Text, nullable=False, comment="canonical JSON, secrets masked"),
            Column("resource", Text),
            Column("reason", Text, nullable=False),
            Column(
                "asked", Text, nullable=False, comment="JSON list: who wants a human to be asked"
            ),
            Column("approvers", Text, nullable=False, comment="JSON list"),
            Column("quorum", SmallInteger, nullable=False),
            Column("approvals", Text, nullable=False, comment="JSON list: who said yes, and when"),
            Column("requested_by", Text, nullable=False, comment="JSON list"),
            Column("state", String(16), nullable=False),
            Column("opened_at", UtcMicroseconds, nullable=False),
            Column("expires_at", UtcMicroseconds, nullable=False),
            Column("edited", Text, comment="canonical JSON: what runs instead of the arguments"),
            Column("edited_by", Text),
            Column("decided_by", Text),
            Column("decided_at", UtcMicroseconds),
            Column("comment", Text),
            Column(
                "leases", Text, comment="JSON list: the slots that it holds until it is answered"
            ),
            Index(f"ix_{prefix}tickets_session_digest", "session_id", "digest", "id"),
            Index(f"ix_{prefix}tickets_state", "state", "id"),
        )
        self.grants: Table = self._table(
            "grants",
            Column("id", _ID, self._key("tickets.id"), primary_key=True),
            Column("session_id", _ID, self._key("sessions.id"), nullable=False),
            Column("tool", Text, nullable=False),
            Column("policy", _HASH, nullable=False),
            Column("asked", Text, nullable=False, comment="JSON list"),
            Column("resources", Text, nullable=False, comment="JSON list, or null"),
            Column("calls", BigInteger, nullable=False),
            Column("calls_used", BigInteger, nullable=False),
            Column("cost", BigInteger, nullable=False, comment="nano-dollars"),
            Column("cost_used", BigInteger, nullable=False, comment="nano-dollars"),
            Column("expires_at", UtcMicroseconds, nullable=False),
            Column("by", Text, nullable=False),
            CheckConstraint("calls_used <= calls", name=f"{prefix}grant_calls"),
            CheckConstraint("cost_used <= cost", name=f"{prefix}grant_cost"),
            Index(f"ix_{prefix}grants_session_tool", "session_id", "tool", "id"),
            comment="a human's yes for further calls, and what of it was used",
        )
        self.windows: Table = self._table(
            "budget_windows",
            Column("budget", Text, primary_key=True),
            Column("scope", Text, primary_key=True, comment="JSON list: whose share it is"),
            Column("starts_at", UtcMicroseconds, primary_key=True),
            Column("ends_at", UtcMicroseconds, comment="null: never"),
            *(
                Column(f"{amount}_{part}", BigInteger, nullable=part == "limit")
                for amount in AMOUNTS
                for part in ("limit", "reserved", "spent", "leased")
            ),
            *(
                CheckConstraint(f"{amount}_{part} >= 0", name=f"{prefix}budget_{amount}_{part}")
                for amount in AMOUNTS
                for part in ("reserved", "spent", "leased")
            ),
            sqlite_with_rowid=False,
            comment="what is reserved and spent of a budget, by whom, in which window; money in nano-dollars",
        )
        self.budget_leases: Table = self._table(
            "budget_leases",
            Column("budget", Text, primary_key=True),
            Column("scope", Text, primary_key=True),
            Column("starts_at", UtcMicroseconds, primary_key=True),
            Column("worker", _ID, primary_key=True),
            Column("moved_at", UtcMicroseconds, nullable=False),
            *(
                Column(f"{amount}_{part}", BigInteger, nullable=False)
                for amount in AMOUNTS
                for part in ("limit", "reserved", "spent")
            ),
            *(
                CheckConstraint(f"{amount}_{part} >= 0", name=f"{prefix}lease_{amount}_{part}")
                for amount in AMOUNTS
                for part in ("reserved", "spent")
            ),
            *(
                CheckConstraint(
                    f"{amount}_reserved + {amount}_spent <= {amount}_limit",
                    name=f"{prefix}lease_{amount}_limit",
                )
                for amount in AMOUNTS
            ),
            sqlite_with_rowid=False,
            comment="what of a budget window one worker may hand out by itself, and what is reserved and spent of it",
        )
        self.leases: Table = self._table(
            "leases",
            Column("lease", Text, primary_key=True),
            Column("scope", _HASH, primary_key=True, comment="digest: which part of the lease"),
            Column("token", BigInteger, nullable=False, comment="the last fencing token"),
            Column("holders", Text, comment="JSON list: who holds a slot; null: nobody"),
            Index(
                f"ix_{prefix}leases_held",
                "lease",
                "scope",
                sqlite_where=text("holders IS NOT NULL"),
                postgresql_where=text("holders IS NOT NULL"),
            ),
            sqlite_with_rowid=False,
            comment="how many calls may run at once: who does, of each part of each lease",
        )
        self.usage: Table = self._table(
            "usage",
            Column("id", _ID, nullable=False, unique=True),
            Column("at", UtcMicroseconds, nullable=False),
            Column("session_id", _ID, self._key("sessions.id")),
            Column("call_id", _ID),
            Column("agent", Text),
            Column("user", Text),
            Column("team", Text),
            Column("org", Text),
            Column("provider", Text),
            Column("model", Text, nullable=False),
            Column("input_tokens", BigInteger),
            Column("output_tokens", BigInteger),
            Column("cache_read_tokens", BigInteger),
            Column("cache_write_tokens", BigInteger),
            Column("reasoning_tokens", BigInteger),
            Column(
                "cost_nano", BigInteger, comment="nano-dollars; null: not known, which is not zero"
            ),
            Column("priced_by", Text),
            Column("charged", Text, comment="JSON list: what which budget windows were charged"),
            Column("hash", _HASH, comment="of all other columns; null: the session's chain has it"),
            Column(
                "position",
                BigInteger().with_variant(Integer, "sqlite"),
                Identity(),
                primary_key=True,
                comment="its place in the ledger, given by the database; not covered by the hash",
            ),
            *(
                Index(
                    f"ix_{prefix}usage_{column}",
                    column,
                    "at",
                    sqlite_where=text(f'"{column}" IS NOT NULL'),
                    postgresql_where=text(f'"{column}" IS NOT NULL'),
                )
                for column in ("session_id", "user", "team", "org", "agent")
            ),
            Index(f"ix_{prefix}usage_model", "model", "at"),
            Index(f"ix_{prefix}usage_at", "at"),
            comment="every model call that was paid for, in a session or not",
        )

        self.halts: Table = self._table(
            "halts",
            Column("id", _ID, primary_key=True),
            Column("target", Text, nullable=False, comment="scope and name"),
            Column("scope", String(16), nullable=False),
            Column("name", Text, nullable=False),
            Column("reason", Text, nullable=False),
            Column("by", Text, nullable=False),
            Column("engaged_at", UtcMicroseconds, nullable=False),
            Column("released_at", UtcMicroseconds),
            Column("released_by", Text),
            Column("release_reason", Text),
            Index(
                f"ix_{prefix}halts_target",
                "target",
                unique=True,
                sqlite_where=text("released_at IS NULL"),
                postgresql_where=text("released_at IS NULL"),
            ),
            comment="the kill switch: what is halted, or was",
        )
        self.halt_log: Table = self._table(
            "halt_log",
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            Column("kind", String(16), nullable=False),
            Column("halt_id", _ID, self._key("halts.id"), nullable=False),
            Column("target", Text, nullable=False),
            Column("reason", Text, nullable=False),
            Column("by", Text, nullable=False),
            Column("at", UtcMicroseconds, nullable=False),
            Column("previous_hash", _HASH, nullable=False),
            Column("hash", _HASH, nullable=False),
            comment="each halt and release, chained by hash",
        )

        self.commands: Table = self._table(
            "commands",
            Column("key", _HASH, primary_key=True, comment="of the tenant, operation and id"),
            Column("payload", _HASH, nullable=False, comment="of what the operation was given"),
            Column("result", Text, nullable=False, comment="JSON: what the operation returned"),
            Column("at", UtcMicroseconds, nullable=False),
            Column("hash", _HASH, nullable=False, comment="of all other columns"),
            Index(f"ix_{prefix}commands_at", "at"),
            comment="operations that are not done again when they are sent again",
        )
        self.counters: Table = self._table(
            "counters",
            Column("what", String(16), primary_key=True),
            Column("day", UtcMicroseconds, primary_key=True, comment="its first moment in UTC"),
            Column("name", Text, primary_key=True),
            Column("shard", BigInteger, primary_key=True, autoincrement=False),
            Column("n", BigInteger, nullable=False),
            Column("amount", BigInteger, nullable=False, comment="nano-dollars"),
            sqlite_with_rowid=False,
            comment="how many there were of what on a day, as the events add up to",
        )

    def all(self) -> list[Table]:
        """Return the tables, each after those that it refers to."""
        return [
            self.policies,
            self.owners,
            self.sessions,
            self.events,
            self.intents,
            self.idempotency_keys,
            self.tickets,
            self.grants,
            self.windows,
            self.budget_leases,
            self.leases,
            self.usage,
            self.halts,
            self.halt_log,
            self.counters,
            self.commands,
        ]

    def _table(self, name: str, *parts: Any, **options: Any) -> Table:
        name = f"{self.prefix}{name}"
        place = f"{self.schema}.{name}" if self.schema else name
        known = self.metadata.tables.get(place)
        if known is None:
            table = Table(
                name, self.metadata, *parts, schema=self.schema, info={_OURS: True}, **options
            )
            if name.removeprefix(self.prefix) in append_only.NAMES:
                append_only.protect_when_made(table, self.prefix)
            return table
        if _OURS not in known.info:
            raise Misuse(
                f"the MetaData has a table {place} already, which is not Interlock's; choose another table_prefix"
            )
        return known

    def _key(self, column: str) -> ForeignKey:
        place = f"{self.schema}." if self.schema else ""
        return ForeignKey(f"{place}{self.prefix}{column}")


AMOUNTS = ("cost", "tokens", "calls")
"""What a budget limits: money in nano-dollars, tokens, and calls."""

DEFAULT = Tables()
"""The tables without prefix and schema: those of a connection that no store has opened."""
