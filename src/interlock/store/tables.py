"""The tables: one definition each, for every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcMicroseconds(TypeDecorator[datetime]):
    """An aware UTC time, stored as whole microseconds since 1970: it compares, sorts and hashes alike everywhere."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Refuse a naive time: whose midnight it means is anybody's guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time, aware and in UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = MetaData()

_ID = String(36)
_HASH = String(64)

policies = Table(
    "policies",
    metadata,
    Column("digest", _HASH, primary_key=True),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False, comment="canonical JSON"),
    Column("stored_at", UtcMicroseconds, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("user", Text),
    Column("team", Text),
    Column("org", Text),
    Column("status", String(16), nullable=False),
    Column("policy", _HASH, ForeignKey("policies.digest")),
    Column("head", BigInteger, nullable=False, comment="seq of the last event"),
    Column("head_hash", _HASH, nullable=False),
    Column("opened_at", UtcMicroseconds, nullable=False),
    Column("closed_at", UtcMicroseconds),
)

events = Table(
    "events",
    metadata,
    Column("session_id", _ID, ForeignKey("sessions.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
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
    UniqueConstraint("id"),
    Index("ix_events_trace_id", "trace_id"),
    sqlite_with_rowid=False,
)

intents = Table(
    "intents",
    metadata,
    Column("call_id", _ID, primary_key=True),
    Column("session_id", _ID, ForeignKey("sessions.id"), nullable=False, index=True),
    Column("tool", Text, nullable=False),
    Column("admitted_at", UtcMicroseconds, nullable=False),
    comment="calls admitted and not yet finished; in doubt once their process is gone",
)

tickets = Table(
    "tickets",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("session_id", _ID, ForeignKey("sessions.id"), nullable=False),
    Column("call_id", _ID, nullable=False),
    Column("tool", Text, nullable=False),
    Column("digest", _HASH, nullable=False),
    Column("arguments", Text, nullable=False, comment="canonical JSON, secrets masked"),
    Column("reason", Text, nullable=False),
    Column("approvers", Text, nullable=False, comment="JSON list"),
    Column("requested_by", Text, nullable=False, comment="JSON list"),
    Column("state", String(16), nullable=False),
    Column("opened_at", UtcMicroseconds, nullable=False),
    Column("expires_at", UtcMicroseconds, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", UtcMicroseconds),
    Column("comment", Text),
    Index("ix_tickets_session_digest", "session_id", "digest", "id"),
    Index("ix_tickets_state", "state", "id"),
)
