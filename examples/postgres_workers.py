"""Several workers on Postgres: one budget and one lease among four processes, and a halt that stops them all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

from interlock import Governor, HaltedError, LeaseTaken, Refused, governed
from interlock.store import budgets

WORKERS, LOOKUPS = 4, 50
PREFIX = "example_"
POLICY = {
    "version": 1,
    "name": "fleet",
    "default": "allow",
    "budgets": [{"name": "lookups", "per": "org", "tools": ["look_up"], "calls": LOOKUPS}],
    "leases": [{"name": "one-press", "tools": ["print_label"], "max_concurrent": 1}],
}


@governed
def look_up(order: int) -> str:
    """Look an order up: all workers together may do so fifty times."""
    return f"order {order}"


@governed
def print_label(order: int) -> str:
    """Use the one press that there is."""
    time.sleep(0.02)
    return f"label {order}"


def work(url: str, name: str) -> None:
    """Go on until somebody halts it: a process of its own."""
    seen: Counter[str] = Counter()
    with (
        Governor(url, policy=POLICY, table_prefix=PREFIX) as governor,
        governor.session(name, agent="packer", org="acme"),
    ):
        for order in range(100_000):
            for tool in (look_up, print_label):
                try:
                    tool(order)
                except HaltedError:
                    print(name, *(f"{what}: {count}" for what, count in sorted(seen.items())))
                    return
                except LeaseTaken:
                    seen["the press was taken"] += 1
                except Refused:
                    seen["over budget"] += 1
                else:
                    seen[tool.__name__] += 1


def main(url: str) -> None:
    """Make the tables, let four workers run for a second, halt them, and look at the books."""
    upgrade = [sys.executable, "-m", "interlock", "db", "upgrade", "--db", url, "--prefix", PREFIX]
    subprocess.run(upgrade, check=True)  # noqa: S603 - made here
    with Governor(url, policy=POLICY, table_prefix=PREFIX) as governor:
        workers = [
            subprocess.Popen([sys.executable, __file__, url, f"worker-{number}"])  # noqa: S603 - this very file
            for number in range(WORKERS)
        ]
        while sum(one.spent.calls for one in governor.read(budgets.standing)) < LOOKUPS:
            time.sleep(0.05)
        time.sleep(0.5)  # in which they only print, one at a time
        governor.halt(org="acme", reason="the shift is over", by="ann")
        print("halted: what was admitted before goes on, and nothing after", flush=True)
        for worker in workers:
            worker.wait()
        [account] = governor.read(budgets.standing)
        print(f"looked up by all of them: {account.spent.calls} of {LOOKUPS}")
        sound = not governor.verify_books() and not any(one.problem for one in governor.verify())
        print("the books agree:", sound)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [url]:
            main(url)
        case [url, name]:
            work(url, name)
        case _:
            sys.exit(f"usage: {sys.argv[0]} postgresql://user:password@host/database")
