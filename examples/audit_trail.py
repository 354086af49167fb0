"""Tier 2, an audit trail: an agent's run is wrapped, nothing is blocked, and afterwards everything is known."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from interlock import Governor, Usage, governed

INVOICES = {"i-1": 120, "i-2": 80, "i-3": None}


@governed
def read_invoice(number: str) -> int:
    """Look up what is owed."""
    amount = INVOICES[number]
    if amount is None:
        raise LookupError(f"{number} was never scanned")
    return amount


@governed(risk="high", cost="amount", secrets=["iban"])
def pay(iban: str, amount: int) -> str:
    """Send money; in production nobody would let this pass unasked."""
    return f"sent {amount} to the account that ends with {iban[-2:]}"


def run(governor: Governor) -> str:
    """Let an agent pay invoices; return its session's id."""
    with governor.session("invoices of May", agent="clerk", user="ann", org="acme") as session:
        for number in INVOICES:
            with session.model_call(model="gpt-5-mini") as call:
                call.record(Usage(input_tokens=900, output_tokens=60))  # what the model's API said
            try:
                owed = read_invoice(number)
            except LookupError as error:
                session.record("gave_up", {"invoice": number, "why": str(error)})
            else:
                pay("DE02 1203 0000 0000 2020 51", owed)
        return session.id


def main() -> None:
    """Run, and read the books: in this process, and from the command line."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'audit.db'}"
        with Governor(url, policy="observe") as governor:
            session_id = run(governor)
            kinds = Counter(one.kind for one in governor.feed(session=session_id))
            print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
        for command in (["replay", session_id], ["sessions", "show", session_id], ["verify"]):
            print(f"\n$ interlock {' '.join(command)}", flush=True)
            program = [sys.executable, "-m", "interlock", *command, "--db", url]
            subprocess.run(program, check=True)  # noqa: S603 - made here


if __name__ == "__main__":
    main()
