"""Calls with an idempotency key, made by many at once: each has one effect, and all are told the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from interlock import Governor, InProgress, governed
from interlock.errors import StoreUnavailable
from interlock.store.keys import Keys
from tests.races._audit import audit
from tests.races._crew import ROOT
from tests.races._once import ALLOW

KEYS = 20

KEY = "ab" * 32


class Crew:
    """Processes of an interpreter of their own, that send together."""

    def __init__(self, orders: list[dict[str, Any]]) -> None:
        """Start a process for each order, and let them all go at once."""
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.races._once", json.dumps(order)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for order in orders
        ]
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def answers(self) -> list[dict[str, Any]]:
        """Wait for all of them; those that died have no answer."""
        said = [process.communicate()[0] for process in self.processes]
        return [json.loads(line) for line in said if line]

    def close(self) -> None:
        """End what is left."""
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def crews() -> Iterator[list[Crew]]:
    """Crews that end with the test."""
    made: list[Crew] = []
    yield made
    for crew in made:
        crew.close()


def effects_in(path: Path) -> dict[str, list[str]]:
    """What each key has had as effects, if any had one: what these returned."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, answer = line.split()
        found.setdefault(key, []).append(answer)
    return found


def expect_once(url: str, effects: Path, crew: Crew, *, senders: int) -> Counter[str]:
    """Each key had one effect, and every sender was told what that one returned."""
    answers = crew.answers()
    seen = sum((Counter(answer["seen"]) for answer in answers), Counter[str]())
    told: dict[str, set[str]] = {}
    for answer in answers:
        for key, found in answer["answers"].items():
            told.setdefault(key, set()).update(found)
    done = effects_in(effects)
    assert {key: len(found) for key, found in done.items()} == {f"k-{n}": 1 for n in range(KEYS)}
    assert told == {key: set(found) for key, found in done.items()}
    assert seen["answered"] == senders * KEYS
    assert seen["in progress"] > 0, "nobody met a call that ran"
    with Governor(url, policy=ALLOW) as governor:
        books = audit(governor)
    assert books.in_doubt == set()
    return seen


def order(url: str, tmp_path: Path, how: str, senders: int) -> dict[str, Any]:
    """What one process is to do."""
    effects = str(tmp_path / "effects")
    return {"url": url, "effects": effects, "how": how, "keys": KEYS, "senders": senders}


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_many_senders_one_effect(either: str, tmp_path: Path, crews: list[Crew], how: str) -> None:
    """Broken if a key has two effects, or two who send it are told different things."""
    with Governor(either, policy=ALLOW):
        pass  # makes the tables, once
    crews.append(Crew([order(either, tmp_path, how, 8)] * 4))
    expect_once(either, tmp_path / "effects", crews[-1], senders=32)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_very_many_senders_one_effect(
    either: str, tmp_path: Path, crews: list[Crew], how: str
) -> None:
    """Broken as above, if more rarely: 20 keys, 64 senders in each of 8 processes."""
    with Governor(either, policy=ALLOW):
        pass
    crews.append(Crew([order(either, tmp_path, how, 64)] * 8))
    expect_once(either, tmp_path / "effects", crews[-1], senders=512)


def test_who_dies_in_the_effect_keeps_the_key(
    either: str, tmp_path: Path, crews: list[Crew]
) -> None:
    """Broken if a call whose process was killed in the middle is made again, though it may have had its effect."""
    with Governor(either, policy=ALLOW):
        pass
    crews.append(Crew([{**order(either, tmp_path, "threads", 4), "dies": "k-7"}]))
    assert crews[-1].answers() == []
    assert "k-7" not in effects_in(tmp_path / "effects")

    @governed(name="effect", idempotency_key="key")
    def effect(key: str) -> str:
        return "another"

    with Governor(either, policy=ALLOW) as governor:
        with (
            governor.session("after", agent="bot"),
            pytest.raises(InProgress, match="nobody knows"),
        ):
            effect("k-7")
        books = audit(governor)
    assert len(books.in_doubt) >= 1


def test_on_postgres_a_key_that_nobody_has_is_locked(postgres: str) -> None:
    """Broken if two workers that take a key at the same time find out by the error of one of them."""
    one, other = (Governor(postgres, policy=ALLOW) for _ in range(2))
    with one, other:

        def wait(connection: Connection) -> None:
            connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
            Keys(connection).lock([KEY])

        def hold(connection: Connection) -> None:
            Keys(connection).lock([KEY])
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                other.write(wait)

        one.write(hold)
        other.write(wait)
