"""Kill a process that makes governed calls, at a random moment, and audit what it leaves behind."""

import json
import random
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from interlock import Governor
from tests.crash._lives import Kill, Life, Nursery, effects
from tests.races._audit import Books, audit

LIVES = 10
"""How many of them share a database: enough to follow a crash with another, few enough to audit after each."""

MODES = ["call_alone", "call_streams", "call_in_threads", "call_in_tasks"]


def kill_many(nursery: Nursery, tmp_path: Path, mode: str, kills: int) -> None:
    """Kill that many children, audit after each, and see that the interesting moments were hit."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    moments: Counter[str] = Counter()
    for number in range(kills // LIVES):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        side_file = tmp_path / f"{number}.effects"
        returned: set[str] = set()
        with ExitStack() as stack:
            if (
                number % 2
            ):  # an onlooker keeps the write-ahead log alive; without one the next to open recovers it
                stack.enter_context(Governor(url))
            for _ in range(LIVES):
                life = nursery.life(
                    do="live",
                    url=url,
                    side_file=str(side_file),
                    mode=mode,
                    kill=some_kill(chance),
                )
                assert life.status == -signal.SIGKILL, f"seed {seed}: the child ended by itself"
                returned.update(life.acknowledged)
                try:
                    with Governor(url) as governor:
                        moments += judge(audit(governor), returned, effects(side_file), life)
                except AssertionError as error:
                    error.add_note(f"seed {seed}")
                    raise
    # Or else the kills came at other moments than they were meant to.
    for moment in ("killed while opening", "returned", "in doubt", "effect without outcome"):
        assert moments[moment] > 0, f"seed {seed}: {moments}"


def some_kill(chance: random.Random) -> Kill:
    """Return a kill that comes while the database is being opened, or in the midst of calls."""
    if chance.random() < 0.3:
        return Kill(chance.uniform(0, 0.01))
    return Kill(chance.uniform(0, 0.003), calls=chance.randrange(1, 20))


def judge(
    books: Books, returned: set[str], side_effects: list[list[str]], life: Life
) -> Counter[str]:
    """Assert what must hold however a process ended, and return which moments this end hit."""
    decided = {
        json.loads(f.body["arguments"])["key"]: f.body["call_id"]
        for f in books.of_kind("call_decided")
    }
    finished = {key for key, call in decided.items() if call in books.finished}
    happened = [key for key, _ in side_effects]
    assert returned <= finished, "an acknowledged call was lost"
    assert set(happened) <= set(decided), "an effect without an intent"
    assert len(happened) == len(set(happened)), "an effect that came about twice"
    assert finished <= set(happened), "a call that finished without its effect"
    assert all(call in (decided[key], "-") for key, call in side_effects)
    last = books.reports[0].in_doubt if life.opened else ()
    return +Counter(
        {
            "killed while opening": int(not life.opened),
            "returned": int(bool(life.acknowledged)),
            "in doubt": int(bool(last)),
            "effect without outcome": int(
                any(decided[key] in last for key in happened if key not in finished)
            ),
        }
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.promise(6, 7)
def test_fifty_kills(nursery: Nursery, tmp_path: Path, mode: str) -> None:
    """Broken if a kill loses an acknowledged call, hides an effect, forgets an open intent or breaks a chain."""
    kill_many(nursery, tmp_path, mode, 50)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.promise(6, 7)
def test_very_many_kills(nursery: Nursery, tmp_path: Path, mode: str) -> None:
    """Broken as above, if more rarely."""
    kill_many(nursery, tmp_path, mode, 250)
