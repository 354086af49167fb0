"""A projection: each tool's refusals in a table of the host's own, brought up to date, stopped, and gone on with."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from interlock import Governor, Refused, governed
from interlock.events import CallDecided

POLICY = {
    "version": 1,
    "name": "desk",
    "rules": [
        {"id": "lookups", "tools": ["look_up"], "verdict": "allow"},
        {
            "id": "small",
            "tools": ["refund"],
            "when": {"argument": "amount", "at_most": 50},
            "verdict": "allow",
        },
    ],
}


@governed
def look_up(order: str) -> str:
    """Return an order."""
    return order


@governed
def refund(order: str, amount: int) -> str:
    """Pay money back."""
    return f"{amount} for {order}"


class Refusals:
    """How often which tool was refused; and, beside it, how far the feed was read."""

    def __init__(self, path: Path) -> None:
        self.mine = sqlite3.connect(path)
        self.mine.execute(
            "CREATE TABLE IF NOT EXISTS refusals (tool TEXT PRIMARY KEY, times INTEGER)"
        )
        self.mine.execute("CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY, cursor TEXT)")

    def catch_up(self, governor: Governor, most: int | None = None) -> int:
        """Take what is new, or stop after so many events, as a process that is killed does; return how many."""
        row = self.mine.execute("SELECT cursor FROM place").fetchone()
        feed = governor.feed(after=row[0] if row else None, kinds=["call_decided"])
        taken = 0
        for recorded in feed:
            with self.mine:  # one transaction: the event counts, and is not given again
                if isinstance(recorded.event, CallDecided) and not recorded.event.admitted:
                    self.mine.execute(
                        "INSERT INTO refusals VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
                        [recorded.event.tool],
                    )
                self.mine.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", [feed.cursor])
            taken += 1
            if taken == most:
                break
        return taken

    def shown(self) -> str:
        """Return the table."""
        rows = self.mine.execute("SELECT tool, times FROM refusals ORDER BY tool").fetchall()
        return ", ".join(f"{tool} {times}" for tool, times in rows) or "nothing"


def work(governor: Governor, *calls: Callable[[], str]) -> None:
    """Make some calls in a session of their own, refused or not."""
    with governor.session("desk", agent="bot"):
        for call in calls:
            with suppress(Refused):
                call()


with (
    tempfile.TemporaryDirectory() as directory,
    Governor(f"sqlite:///{directory}/interlock.db", policy=POLICY) as governor,
):
    work(governor, lambda: look_up("o-1"), lambda: refund("o-1", 900), lambda: refund("o-1", 20))
    refusals = Refusals(Path(directory, "mine.db"))
    print(f"took {refusals.catch_up(governor, most=2)}: {refusals.shown()}")
    refusals.mine.close()

    work(governor, lambda: refund("o-2", 70), lambda: refund("o-2", 80))
    again = Refusals(Path(directory, "mine.db"))
    print(f"took {again.catch_up(governor)}: {again.shown()}")
    print(f"took {again.catch_up(governor)}: {again.shown()}")
    again.mine.close()
