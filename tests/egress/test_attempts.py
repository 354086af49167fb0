"""Five hundred attempts to get a guarded client to an internal server, of every kind at once."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import httpx
import pytest

from interlock import Denied
from tests.egress._servers import INTERNAL, MODES, PUBLIC, Job, Names, Pair, outcome, send

SPELLINGS = (
    INTERNAL, "internal.test", "localhost", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "127.0.0.02",
    "[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "[64:ff9b::7f00:2]", "[2002:7f00:2::]", "[::127.0.0.2]", "127.0.0.2.",
    "api.example.com.", "api.example.com.internal.test", "internal.test.", "\uff11\uff12\uff17.0.0.2",
    "127\u30020\u30020\u30022", "api.example.com@127.0.0.2", "api.example.com%40127.0.0.2", "127.0.0.2%23",
    "api.example.com\\@127.0.0.2", "127.0.0.2\\@api.example.com", "127.0.0.2#@api.example.com",
    "127.0.0.2?@api.example.com", "api.example.com:80@127.0.0.2", "%31%32%37.0.0.2", "127.0.0.2%00.example.com",
    "b.a.example.com", "xn--127-0-0-2.example.com",
)  # fmt: skip
FLIPS = (
    [[PUBLIC], [INTERNAL]], [[INTERNAL], [PUBLIC]], [[PUBLIC, INTERNAL]], [[INTERNAL, PUBLIC]],
    [["::ffff:127.0.0.2"]], [["64:ff9b::7f00:2"]], [["127.0.0.2%lo"]], [["2002:7f00:2::1"]], [["127.2"]],
    [["internal.test"]], [[PUBLIC], [PUBLIC], [INTERNAL]],
)  # fmt: skip


class Attempts:
    """
    Makes attempts, all different, from one seed.

    Attributes:
        kinds: How many of each kind there are.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._port = port
        self._flips: list[list[list[str]]] = []
        self.kinds: Counter[str] = Counter()

    def flipping(self) -> list[str]:
        """Answer for the name `flip.example.com`: what the current attempt has it resolve to, in turn."""
        answers = self._flips[0]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def next_attempt(self) -> Job:
        """Make one: an address or name, behind any number of redirects, with options that lead elsewhere."""
        rng = self._rng
        kind = rng.choice(["direct", "redirect", "redirect", "flip", "flip", "option"])
        self.kinds[kind] += 1
        options: dict[str, Any] = {"follow_redirects": True}
        url = f"http://{rng.choice(SPELLINGS)}:{self._port}/{rng.choice(['', 'x', 'x?y'])}"
        if kind == "flip":
            self._flips = [[list(answer) for answer in rng.choice(FLIPS)]]
            url = f"http://flip.example.com:{self._port}/"
        if kind == "option":
            url = f"http://api.example.com:{self._port}/"
            internal = f"{INTERNAL}:{self._port}"
            options |= rng.choice(
                [
                    {"headers": {"host": internal}},
                    {"headers": {"Host": "internal.test"}},
                    {"extensions": {"target": f"http://{internal}/".encode()}},
                    {"extensions": {"sni_hostname": "internal.test"}},
                ]
            )
            if rng.random() < 0.3:
                return "CONNECT", f"http://{internal}/", options
        hops = rng.randrange(1, 5) if kind == "redirect" else rng.randrange(2)
        for _ in range(hops):
            query = httpx.QueryParams({"url": url, "status": rng.choice([301, 302, 303, 307, 308])})
            url = f"http://api.example.com:{self._port}/to?{query}"
        if rng.random() < 0.3:
            options["headers"] = {**options.get("headers", {}), "connection": "close"}
        return "GET", url, options


def _attempt(mode: str, pair: Pair) -> tuple[Counter[str], Counter[str]]:
    fields = {
        "capabilities": ["read"],
        "schemes": ["http"],
        "ports": [pair.port],
        "addresses": [PUBLIC],
    }
    grants = [{"host": host, **fields} for host in ("api.example.com", "*.example.com")]
    attempts = Attempts(pair.port, seed=500)
    names = Names({"api.example.com": [PUBLIC], "flip.example.com": attempts.flipping})
    # Ten to a client, so that connections are used again; each has a new answer to look up.
    ended: Counter[str] = Counter()
    for _ in range(50):
        jobs = [attempts.next_attempt() for _ in range(10)]
        for answer in send(mode, grants, jobs, resolver=names):
            ended[outcome(answer)] += 1
            if isinstance(answer, Denied):
                assert INTERNAL not in str(answer)
    return ended, attempts.kinds


@pytest.mark.promise(1)
@pytest.mark.parametrize("mode", MODES)
def test_no_attempt_reaches_the_internal_server(mode: str, pair: Pair) -> None:
    """Broken if any of the ways round the guard gets so much as a connection to a server that is not granted."""
    ended, kinds = _attempt(mode, pair)
    assert (pair.internal.connections, pair.internal.seen) == (0, [])
    assert sum(ended.values()) == sum(kinds.values()) == 500
    # It was attempted: granted hosts were reached, redirects were followed, and most ended in a refusal.
    assert ended[PUBLIC] >= 20
    assert ended["Denied"] >= 200
    assert ended[INTERNAL] == 0
    assert sum(seen.target.startswith("/to?") for seen in pair.public.seen) >= 100
    assert min(kinds.values()) >= 50


@pytest.mark.parametrize(
    "spelling", [INTERNAL, "2130706434", "0x7f000002", "127.2", f"x@{INTERNAL}"]
)
def test_the_attempts_would_succeed(pair: Pair, spelling: str) -> None:
    """Broken if the attempts are none: without the guard, the internal server has to be reached."""
    target = f"http://{spelling}:{pair.port}/"
    redirect = f"http://{PUBLIC}:{pair.port}/to?{httpx.QueryParams({'url': target})}"
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert [client.get(url).text for url in (target, redirect)] == [INTERNAL, INTERNAL]
    assert len(pair.internal.seen) == 2
