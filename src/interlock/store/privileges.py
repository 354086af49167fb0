"""privileges: the statements that give roles of Postgres what they need of the tables, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.store.append_only import NAMES
from interlock.store.quoting import quoted
from interlock.store.schema import version_table
from interlock.store.tables import Tables

_GO = frozenset({"intents", "idempotency_keys", "owners", "budget_leases", "counters", "commands"})
"""The tables, without their prefix, of which rows are deleted in the course of things."""


def statements(tables: Tables, *, app: str, auditor: str | None = None) -> Iterator[str]:
    """
    Yield the statements, to be run by who owns the tables; run again, they take back what was given before.

    Args:
        tables: The tables.
        app: The role that governors connect as. It can change no row of an append-only table, and, not being the
            owner, cannot drop the triggers that say so.
        auditor: The role that verifies, replays and takes checkpoints; it only reads.
    """
    roles = [app] if auditor is None else [app, auditor]
    for role in roles:
        to = quoted(role)
        if tables.schema:
            yield f"GRANT USAGE ON SCHEMA {quoted(tables.schema)} TO {to};"
        for table in (version_table(tables), *tables.all()):
            name = quoted(table.name, tables.schema)
            needed = _needed(table.name.removeprefix(tables.prefix)) if role == app else "SELECT"
            yield f"REVOKE ALL ON {name} FROM {to};"
            yield f"GRANT {needed} ON {name} TO {to};"


def _needed(name: str) -> str:
    if name == "interlock_version":
        return "SELECT"
    needed = ["SELECT", "INSERT"]
    needed += [] if name in NAMES else ["UPDATE"]
    return ", ".join([*needed, "DELETE"] if name in _GO else needed)
