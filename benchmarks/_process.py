"""One process of a crowd: it makes governed calls, or those of the floor, on the store that it is told of."""

from __future__ import annotations

import sys

from _crowds import serve
from _floor import Queue, floor_of
from _tools import POLICY, refund

from interlock import Governor


def main() -> None:
    """Do what the first argument says, on the store at the URL that is the second."""
    kind, url = sys.argv[1:]
    if kind == "floor":
        queue = Queue(floor_of(url))
        serve(queue.call)
        queue.close()
        return
    with (
        Governor(url, policy=POLICY) as governor,
        governor.session("bench", agent="bench") as session,
    ):

        def once() -> None:
            with session.attach():
                refund("o-1", 20)

        serve(once)


if __name__ == "__main__":
    main()
