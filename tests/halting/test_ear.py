"""Hearing of halts: Postgres tells at once; a connection that was cut is opened again, and until then it is looked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text

from interlock import Governor, _flights
from interlock.store import ear
from interlock.store.ear import HALTS, Ear, tell
from tests.halting._endless import reached
from tests.halting._policies import WHO

Make = Callable[..., Governor]
NEVER = 10_000.0


@pytest.fixture
def database(postgres: str) -> str:
    """Only a server tells."""
    return postgres


def _listeners(connection: Connection) -> list[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    return list(connection.execute(text(query)).scalars())


def _cut(connection: Connection) -> int:
    pids = _listeners(connection)
    for pid in pids:
        connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
    return len(pids)


@pytest.mark.promise(4)
def test_postgres_tells(governor: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if on Postgres a halt is not told at once, but only found by looking: this would not end."""
    monkeypatch.setattr(_flights, "RELIEF_S", NEVER)
    one, two = governor(), governor()
    with one.session("a", **WHO) as here:
        by = reached(here, lambda: _heard(two) and two.halt(org="acme", reason="x", by="ann"))
    assert by == "ann"


def _heard(one: Governor) -> bool:
    while not one.read(_listeners):
        pass
    return True


@pytest.mark.promise(4)
@pytest.mark.parametrize("again", [False, True], ids=["looked for", "heard again"])
def test_a_cut_connection_loses_no_halt(
    again: bool, governor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if what was heard over a connection that was cut, as by a restart of the server, is waited for in vain."""
    monkeypatch.setattr(ear, "RETRY_S", 0.0 if again else NEVER)
    if again:
        monkeypatch.setattr(_flights, "RELIEF_S", NEVER)
    one, two = governor(), governor()

    def halt() -> None:
        _heard(two)
        assert two.write(_cut) == 1
        if again:
            _heard(two)
        two.halt(org="acme", reason="x", by="ann")

    with one.session("a", **WHO) as here:
        assert reached(here, halt) == "ann"
    assert len(two.read(_listeners)) == int(again)


@pytest.mark.promise(4)
def test_an_ear_that_was_cut_off_hears_again(
    governor: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if after one cut nothing is ever heard again, or an ear that hears nothing says that it does."""
    monkeypatch.setattr(ear, "RETRY_S", 0.0)
    one = governor()
    listener: Any = one._machinery.store.database
    heard = Ear(listener.listen, HALTS)
    for _ in range(3):
        heard.open()
        assert heard.hears
        one.write(tell, HALTS)
        heard.wait(NEVER)
        assert heard.hears
        one.write(_cut)
        while heard.hears:  # what it hears first may be the end of what was told
            heard.wait(NEVER)
    heard.close()
