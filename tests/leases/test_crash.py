"""A holder that is killed: its slot comes back when its term is over by the store's clock, and not earlier."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from interlock import Governor, LeaseTaken
from interlock.testing import ManualClock
from tests.leases._desk import deploy, held, outcome, policy, sound

pytestmark = pytest.mark.promise(3, 6)

Make = Callable[..., Governor]
ROOT = Path(__file__).parents[2]
POLICY = policy({"expires": "1h"})
HOLDER = """
import json, sys
from interlock import Governor
from tests.leases._desk import deploy

url, policy = json.loads(sys.argv[1])

def inside():
    print("inside", flush=True)
    sys.stdin.readline()

with Governor(url, policy=policy) as governor, governor.session("dead", agent="bot"):
    deploy("api", inside)
"""


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


def test_killed_while_it_holds(governor: Make, database: str) -> None:
    """Broken if what a killed process held is free before its term is over, or held a moment longer."""
    order = json.dumps([database, POLICY])
    holder = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOLDER, order],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "inside\n"
    holder.kill()
    holder.communicate()
    assert holder.returncode == -signal.SIGKILL

    with governor(POLICY).session("now", agent="bot"), pytest.raises(LeaseTaken) as refused:
        deploy()
    [left] = refused.value.leases[0].holders
    late = ManualClock(left.expires_at - timedelta(microseconds=1))
    made = governor(POLICY, clock=late)
    with made.session("late", agent="bot"):
        assert outcome(deploy) == "LeaseTaken"
        late.advance(timedelta(microseconds=1))
        assert deploy("api", lambda: held(made)) == [("one", 2, "api")]
        assert held(made) == []
    [dead] = [report for report in made.verify() if report.session_id == left.session_id]
    assert dead.in_doubt == (left.call_id,)
    assert sound(made)
