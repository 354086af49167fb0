"""One of several processes that want the same exclusive session, again and again: `python -m …_rival URL TIMES`."""

from __future__ import annotations

import sys
import time

from interlock import Governor, governed
from interlock.errors import SessionTaken


@governed
def act() -> None:
    """Run."""


def main(url: str, times: int) -> None:
    """Get the session so often, and print how often that was refused."""
    refused = 0
    with Governor(url, policy="observe") as governor:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for _ in range(times):
            while True:
                try:
                    with governor.session("nightly", agent="bot", org="acme", exclusive=True):
                        act()
                    break
                except SessionTaken:
                    refused += 1
                    time.sleep(0.001)
    sys.stdout.write(f"{refused}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
