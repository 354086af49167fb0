"""
agent-control-plane's gateway as a cell of `governed.py`, in a virtual environment of its own.

It is installed from its repository; the index has another project under the same name. INTERLOCK_BENCH_SEED may name
another requirement, such as the directory of a checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

from _harness import Cell, Sample
from _peers import Worker

WORKER = Path(__file__).with_name("_seed_worker.py")

REQUIREMENT = (
    os.environ.get("INTERLOCK_BENCH_SEED")
    or "agent-control-plane @ git+https://github.com/ryanwi/agent-control-plane@v0.15.0"
)
NEEDED = "greenlet"
"""It imports SQLAlchemy's asyncio without saying that it needs this."""


class Seed(Worker):
    """The gateway, on an SQLite file of its own as it comes: a rollback journal, four commits for each call."""

    def __init__(self, directory: Path) -> None:
        """
        Install it if it was not, and make one call.

        Raises:
            Unavailable: it cannot be had here, or does not work.
        """
        super().__init__(WORKER, "seed", str(directory), requirements=(REQUIREMENT, NEEDED))
        self.ask({"callers": 1, "seconds": 0}, within_s=60)

    def calling(self, callers: int) -> Cell:
        """Return the cell in which it is called from so many threads."""

        def cell(seconds: float) -> Sample:
            answer = self.ask({"callers": callers, "seconds": seconds}, within_s=seconds + 120)
            return Sample([answer["typical_s"]], 1 / answer["rate"])

        return cell
