"""Recovery beside real processes: killed ones, ones that are stopped for longer than their term, and living ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor
from interlock._recovery import Recovered
from tests.recovery._left import POLICY, kinds, sound

pytestmark = pytest.mark.promise(6)

Make = Callable[..., Governor]
ROOT = Path(__file__).parents[2]
BEAT_MS = 600
"""A process that lives may be kept from the processor for nearly three times as long."""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


class Holder:
    """One `_holder.py`, inside its call."""

    def __init__(self, url: str, effects: Path) -> None:
        order = {"url": url, "policy": POLICY, "effects": str(effects), "beat_ms": BEAT_MS}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.recovery._holder", json.dumps(order)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._effects = effects
        said = self._hear()
        self.session: str = said["session"]
        self.owner: str = said["owner"]
        while not (effects.exists() and effects.read_text().endswith("\n")):
            time.sleep(0.01)
        self.call = effects.read_text().strip()

    def go_on(self) -> dict[str, Any]:
        """Let it go on, and return what it says at its end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = self._hear()
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return said

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.communicate()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture
def holder(database: str, tmp_path: Path) -> Iterator[Callable[[], Holder]]:
    """Start holders, which are ended with the test."""
    with ExitStack() as stack:
        started: list[Holder] = []

        def start() -> Holder:
            one = Holder(database, tmp_path / f"effects-{len(started)}")
            started.append(one)
            stack.callback(one.close)
            return one

        yield start


def recovered(governor: Governor, owner: str) -> Recovered:
    """Recover again and again until *owner* is taken for gone; return what that run has done."""
    deadline = time.monotonic() + 60
    while True:
        done = governor.recover()
        if owner in done.lost:
            assert done.lost == (owner,), "the living were taken for gone"
            return done
        assert not done.changed, "something was taken from somebody who is not lost"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_beside_a_living_one(governor: Make, holder: Callable[[], Holder]) -> None:
    """Broken if what a killed process left is not found, or anything of one that lives is taken."""
    one = governor(POLICY)
    alive, dead = holder(), holder()
    assert not one.recover().changed
    dead.process.kill()
    dead.process.wait()
    done = recovered(one, dead.owner)
    assert [call.call_id for call in done.doubted] == [dead.call]
    assert done.paused == (dead.session,)
    assert not one.recover().changed
    said = alive.go_on()
    assert (said["result"], said["owner"], said["said"]) == (alive.call, alive.owner, [])
    assert kinds(one, alive.session)[-2:] == ["call_finished", "session_closed"]
    assert kinds(one, dead.session)[-2:] == ["call_doubted", "session_paused"]
    assert sound(one)


def test_stopped_for_longer_than_its_term(governor: Make, holder: Callable[[], Holder]) -> None:
    """Broken if a process that was given up, and wakes, writes anything about what it had begun, or can do no more."""
    one = governor(POLICY)
    stale = holder()
    stale.process.send_signal(signal.SIGSTOP)
    done = recovered(one, stale.owner)
    assert [call.call_id for call in done.doubted] == [stale.call]
    before = kinds(one, stale.session)
    stale.process.send_signal(signal.SIGCONT)
    said = stale.go_on()
    assert said["result"] == stale.call  # an error would invite a second run
    assert any(f"call {stale.call} is not this process's any more" in line for line in said["said"])
    assert (
        kinds(one, stale.session)
        == before
        == [
            "session_opened",
            "call_decided",
            "call_doubted",
            "session_paused",
        ]
    )
    assert said["owner"] != stale.owner
    assert kinds(one, said["session"]) == [
        "session_opened",
        "call_decided",
        "call_finished",
        "session_closed",
    ]
    assert sound(one)
