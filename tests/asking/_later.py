"""
The process that comes later: it knows the store, the tool and the ticket, and nothing of the session that asked.

`python -m tests.asking._later URL TICKET TIME EFFECTS` resumes the ticket at that time of a manual clock, and prints
what came of it. The tool's effect is a line in the file EFFECTS.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from interlock import Governor, InterlockError, governed
from interlock.testing import ManualClock

LATER = {"version": 1, "name": "another", "default": "deny"}
"""What is in force by then for new sessions: it says no to all."""


@governed(resource="order", secrets=["card"])
def refund(
    order: str,
    amount: Decimal,
    /,
    *lines: int,
    card: str = "4111",
    key: UUID | None = None,
    **more: object,
) -> str:
    """Pay money back."""
    with Path(os.environ["EFFECTS"]).open("a", encoding="utf-8") as effects:
        effects.write(f"{order} {amount!r} {lines} {key!r} {more} {card}\n")
    return f"{order}: {amount}"


def main(url: str, ticket: str, at: str, effects: str) -> None:
    """Resume one ticket."""
    os.environ["EFFECTS"] = effects
    clock = ManualClock(datetime.fromisoformat(at))
    with Governor(url, policy=LATER, clock=clock) as governor:
        try:
            said = governor.resume(ticket, tool=refund, arguments={"card": "4242"})
        except InterlockError as error:
            said = f"{type(error).__name__} {error}"
    sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
