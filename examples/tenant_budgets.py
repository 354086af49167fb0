"""Tier 1, cost tracking: what each tenant may spend in a month, held by several processes; no policy and no session."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

from interlock import BudgetExceeded, Governor, Identity
from interlock.store import budgets, usage

BUDGETS = [{"name": "tenant-month", "per": "org", "window": "month", "cost_usd": "1.50"}]

# What tenants have used before anybody kept books, in dollars.
BEFORE = {"acme": "1.20", "globex": "0.15", "initech": "0.70"}

QUESTIONS = 10
MODEL = {"model": "claude-haiku-4-5", "input_tokens": 40_000, "output_tokens": 2_000}  # 5 cents


def seed(governor: Governor) -> None:
    """Bring in what was used before; each with an id, so that doing it again changes nothing."""
    for org, dollars in BEFORE.items():
        governor.record_usage(
            command=f"before-{org}",
            model="claude-haiku-4-5",
            cost_usd=dollars,
            identity=Identity(agent="import", org=org),
        )


def work(url: str, org: str, user: str) -> None:
    """Answer questions for one tenant until its budget is spent: a process of its own."""
    who = Identity(agent="assistant", user=user, org=org)
    with Governor(url, budgets=BUDGETS) as governor:
        for answered in range(1, QUESTIONS + 1):
            try:
                governor.record_usage(**MODEL, identity=who)
            except BudgetExceeded as error:
                print(f"{org:8} {user:4} stops at answer {answered}: {error}")
                return
        print(f"{org:8} {user:4} has answered {QUESTIONS} questions")


def report(url: str) -> None:
    """Say where everybody stands; another process again, which has nothing but the store."""
    with Governor(url, budgets=BUDGETS) as governor:
        for one in governor.read(usage.summary, by=("org",)):
            print(f"{one.of[0]:8} {one.calls:3} calls {one.cost_usd:8.4f} dollars")
        for account in governor.read(budgets.standing):
            spent, limit = account.spent.cost, account.limits.cost
            if limit is not None:
                filled = min(20, 20 * spent // limit)
                left = Decimal(limit - spent).scaleb(-9)
                print(f"{account.key.scope:12} {'#' * filled:.<20} {left:7.4f} left")


def main() -> None:
    """Seed twice, let four processes spend at once, and report."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'usage.db'}"
        with Governor(url, budgets=BUDGETS) as governor:
            seed(governor)
            seed(governor)
            seeded = len(governor.read(usage.summary, by=("org",)))
            print(seeded, "tenants, each seeded once", flush=True)
        tenants = [("acme", "ann"), ("acme", "joe"), ("globex", "bob"), ("initech", "eve")]
        workers = [
            subprocess.Popen([sys.executable, __file__, url, *tenant])  # noqa: S603 - this very file
            for tenant in tenants
        ]
        for worker in workers:
            worker.wait()
        report(url)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(*sys.argv[1:])
    else:
        main()
