"""Recovery: a process is killed in the middle of two payments; one can be looked up, the other needs a human."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from interlock import Governor, Interrupted, current_call, governed
from interlock.store import recovery

POLICY = {
    "version": 1,
    "name": "payments",
    "default": "allow",
    "budgets": [{"name": "all", "per": "org", "cost_usd": 1_000}],
}
BEAT = timedelta(milliseconds=500)


def bank() -> Path:
    """Where the bank writes down what it has paid, outside of our store."""
    return Path(os.environ["BANK"])


def was_paid(call: Interrupted) -> bool:
    """Ask the bank whether it has paid for a call."""
    return call.call_id in bank().read_text()


@governed(cost="amount", probe=was_paid)
def pay(to: str, amount: int) -> None:
    """Pay by a bank that can be asked later."""
    call = current_call()
    assert call is not None
    with bank().open("a") as book:
        book.write(f"{call.id} {to} {amount}\n")
    threading.Event().wait()  # the bank's answer never arrives


@governed(cost="amount")
def wire(to: str, amount: int) -> None:
    """Pay by a bank that cannot be asked, and get no further."""
    with bank().open("a") as book:
        book.write(f"- {to} {amount}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def die(url: str) -> None:
    """Begin two payments, and be killed."""
    with (
        Governor(url, policy=POLICY, heartbeat=BEAT) as governor,
        governor.session("payroll", agent="pay-bot", org="acme") as session,
    ):

        def first() -> None:
            with session.attach():
                pay("ann", 300)

        threading.Thread(target=first, daemon=True).start()
        while "ann" not in bank().read_text():
            time.sleep(0.01)
        wire("bob", 200)


def main() -> None:
    """Have a process killed, wait until nobody hears of it any more, and bring the books in order."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'interlock.db'}"
        os.environ["BANK"] = str(Path(directory) / "bank")
        bank().touch()
        child = subprocess.run([sys.executable, __file__, url], check=False)  # noqa: S603 - this very file
        print("the process ended with", signal.Signals(-child.returncode).name)
        with Governor(url, policy=POLICY) as governor:
            print("calls running, for all that is known:", governor.health().running)
            while not (done := governor.recover(tools=[pay, wire])).lost:
                time.sleep(0.1)  # it may still live
            print("happened, as the bank says:", [call.tool for call in done.happened])
            print("in doubt:", [call.tool for call in done.doubted])
            for call in done.doubted:  # ann has looked at the bank's statement
                governor.write(
                    recovery.resolve,
                    call.call_id,
                    happened=True,
                    by="ann",
                    comment="on the statement",
                )
            health = governor.health()
            print("running:", health.running, "in doubt:", health.in_doubt)
            print("a second run changes something:", governor.recover(tools=[pay]).changed)
            with governor.resume_session(done.paused[0]):
                print("the session goes on")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        die(sys.argv[1])
    else:
        main()
