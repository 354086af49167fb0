"""
The command line: `interlock …`.

Pretty for people; `--json` prints one JSON object a line, for programs. Exit codes: 0, all is well; 1, the command
worked and what it found is not well; 2, it could not be done, and standard error says why and what to do.
"""

from __future__ import annotations

import sys

import typer

from interlock.cli import (
    approvals,
    budgets,
    checkpoints,
    database,
    doctor,
    events,
    halts,
    health,
    leases,
    plugins,
    policy,
    recover,
    replay,
    sessions,
    usage,
    verify,
)
from interlock.cli.extensions import Commands
from interlock.errors import InterlockError

app = typer.Typer(
    name="interlock",
    cls=Commands,
    help="Look into the books of Interlock, and answer what it asks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(events.events)
app.command()(verify.verify)
app.command()(checkpoints.checkpoint)
app.command()(replay.replay)
app.command()(health.health)
app.command()(health.scorecard)
app.command()(budgets.budgets)
app.command()(usage.usage)
app.command()(halts.halt)
app.command()(halts.release)
app.command()(halts.halts)
app.command()(leases.leases)
app.command()(plugins.plugins)
app.command()(doctor.doctor)
app.add_typer(sessions.app, name="sessions")
app.add_typer(approvals.app, name="approvals")
app.add_typer(recover.app, name="recover")
app.add_typer(policy.app, name="policy")
app.add_typer(database.app, name="db")


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        app()
    except InterlockError as error:
        sys.stderr.write(f"interlock: {error}\n")
        sys.exit(2)
    except BrokenPipeError:  # `interlock events … | head`
        sys.stderr.close()
        sys.exit(1)
