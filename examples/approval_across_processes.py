"""
A worker asks and waits; a person answers from another process; the worker goes on.

The person approves the first call, denies the second, and approves the third with another amount. The fourth is asked
for and left: the person, who approves it when the worker has gone, has it resumed by its ticket.

Run it with `python examples/approval_across_processes.py`. Both processes share an SQLite file in .interlock.
"""

import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import interlock
from interlock import ApprovalNeeded, Governor, Refused, governed
from interlock.errors import Conflict
from interlock.store import tickets

STORE = Path(".interlock/approvals.db")
URL = f"sqlite:///{STORE}"
POLICY = {
    "version": 1,
    "name": "payments",
    "rules": [
        {
            "id": "payments",
            "tools": ["pay"],
            "verdict": "ask",
            "approvers": ["payments-oncall"],
            "reason": "money leaves",
        }
    ],
}


@governed(cost="amount")
def pay(to: str, amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


def work() -> None:
    """Be the worker: make calls, and wait for the answer to each but the last."""
    wait = interlock.wait(timeout=timedelta(minutes=5))
    with (
        Governor(URL, policy=POLICY, on_ask=wait) as governor,
        governor.session("invoices", agent="payer", user="u-17"),
    ):
        for to, amount in (("acme", 900), ("globex", 90_000), ("initech", 9_000)):
            try:
                print("worker:  ", pay(to, amount), flush=True)
            except Refused as refusal:
                print("worker:  ", refusal, flush=True)
    with (
        suppress(ApprovalNeeded),  # which leaves the session paused, and the ticket waiting
        Governor(URL, policy=POLICY) as governor,
        governor.session("invoices", agent="payer", user="u-17"),
    ):
        print("worker:  ", pay("hooli", 400), flush=True)


def answer() -> None:
    """Be the person: approve what is small, deny what is large, change what is between, as each request comes."""
    with Governor(URL) as governor:
        for _ in range(3):
            while not (waiting := governor.read(tickets.pending)):
                time.sleep(0.05)
            ticket = waiting[0]
            print("approver:", ticket.tool, ticket.arguments, f"({ticket.reason})", flush=True)
            if "90000" in ticket.arguments:
                governor.write(tickets.deny, ticket.id, by="ann", comment="ask Finance")
            elif "9000" in ticket.arguments:
                changed = {"amount": 900}
                governor.write(tickets.approve, ticket.id, by="ann", arguments=changed)
            else:
                governor.write(tickets.approve, ticket.id, by="ann", comment="invoice seen")


def answer_later() -> None:
    """Be the person again, once the worker has gone: approve what it has left, and have it run."""
    with Governor(URL) as governor:
        [ticket] = governor.read(tickets.pending)
        governor.write(tickets.approve, ticket.id, by="ann")
        print("resumed: ", governor.resume(ticket, tool=pay))
        try:
            governor.resume(ticket, tool=pay)
        except Conflict as conflict:
            print("resumed: ", str(conflict).replace(ticket.id, "…"))


def main() -> None:
    """Start the worker as another process, and answer what it asks."""
    STORE.parent.mkdir(exist_ok=True)
    for old in STORE.parent.glob(f"{STORE.name}*"):
        old.unlink()
    Governor(URL).close()
    with subprocess.Popen([sys.executable, __file__, "work"]) as worker:  # noqa: S603 - this very file
        answer()
    answer_later()
    sys.exit(worker.returncode)


if __name__ == "__main__":
    work() if "work" in sys.argv else main()
