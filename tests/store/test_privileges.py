"""Privileges: with what `interlock db grants` prints a governor works, and cannot change what was recorded."""

# ruff: noqa: S608 - no statement here is made of anything but these tests' own words

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from interlock import Governor
from interlock.store import append_only
from tests import postgres_server as server
from tests.books import unsound
from tests.forging import TABLE_NAMES, fill

pytestmark = pytest.mark.promise(7)

APP, AUDITOR = (f"interlock-{who}-{uuid4().hex}" for who in ("app", "auditor"))
"""A server has its roles for all databases."""


def script(*options: str) -> str:
    """What the command prints."""
    return subprocess.run(
        [sys.executable, "-m", "interlock", "db", "grants", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    ).stdout


def as_role(url: str, role: str) -> str:
    """The same database, seen by a role."""
    return make_url(url).set(username=role).render_as_string(hide_password=False)


@pytest.fixture
def owned(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A database whose tables belong to the superuser, on which both roles have what the script gives."""
    with server.database(postgres_server, template=postgres_template) as url:
        with psycopg.connect(url, autocommit=True) as owner:
            for role in (APP, AUDITOR):
                owner.execute(f'CREATE ROLE "{role}" LOGIN')
            for _ in range(2):  # it can be run again
                owner.execute(script("--app", APP, "--auditor", AUDITOR).encode())
        yield url
        with psycopg.connect(url, autocommit=True) as owner:
            for role in (APP, AUDITOR):
                owner.execute(f'DROP OWNED BY "{role}"'.encode())
                owner.execute(f'DROP ROLE "{role}"'.encode())


def test_a_governor_works_with_what_it_is_given(owned: str) -> None:
    """Broken if some operation needs more than the script gives: all that the books can hold is done as that role."""
    fill(as_role(owned, APP), lend=owned)
    with Governor(as_role(owned, AUDITOR)) as auditor:
        assert unsound(auditor) == []
        assert auditor.health().sessions
        assert list(auditor.feed())


@pytest.mark.parametrize("table", append_only.NAMES)
def test_what_was_recorded_it_cannot_change(owned: str, table: str) -> None:
    """Broken if the role of the governors may change or delete rows of the history, or take the triggers off."""
    attempts = (
        f"UPDATE {table} SET {_a_column(table)} = NULL",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
        f"DROP TRIGGER tr_{table} ON {table}",
        f"ALTER TABLE {table} DISABLE TRIGGER ALL",
    )
    with psycopg.connect(as_role(owned, APP), autocommit=True) as connection:
        for attempt in attempts:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt.encode())


@pytest.mark.parametrize("table", TABLE_NAMES)
def test_the_auditor_only_reads(owned: str, table: str) -> None:
    """Broken if whoever verifies could have written what is verified."""
    with psycopg.connect(as_role(owned, AUDITOR), autocommit=True) as connection:
        connection.execute(f"SELECT * FROM {table}".encode())
        for attempt in (
            f"INSERT INTO {table} SELECT * FROM {table}",
            f"UPDATE {table} SET {_a_column(table)} = NULL",
            f"DELETE FROM {table}",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attempt.encode())


def test_names_are_quoted_and_in_their_schema() -> None:
    """Broken if a prefix, a schema or a role could be read as something else than a name."""
    printed = script("--app", 'a"b', "--prefix", "100%_", "--schema", "gov").splitlines()
    assert printed[0] == 'GRANT USAGE ON SCHEMA "gov" TO "a""b";'
    assert 'GRANT SELECT, INSERT ON "gov"."100%_events" TO "a""b";' in printed


def _a_column(table: str) -> Any:
    return {
        "budget_windows": "budget",
        "budget_leases": "budget",
        "leases": "lease",
        "counters": "what",
        "commands": "key",
        "idempotency_keys": "key",
        "policies": "name",
        "halt_log": "kind",
        "intents": "tool",
        "events": "kind",
    }.get(table, "id")
