"""`interlock policy`: check, test, explain, lint and compare policies before they decide anything."""

from __future__ import annotations

import typer

from interlock.cli.policy import checking, comparing, explaining, linting, trying

app = typer.Typer(help="Check, test, explain and compare policies.", no_args_is_help=True)
app.command("check")(checking.check)
app.command("test")(trying.run)
app.command("explain")(explaining.explain)
app.command("lint")(linting.lint)
app.command("diff")(comparing.diff)
app.command("schema")(checking.schema)
