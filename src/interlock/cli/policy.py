"""`interlock policy`: check a policy before it decides anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock import Policy
from interlock.cli.output import Json, print_json, safe, show
from interlock.evaluators import Panel
from interlock.policy import PolicyDocument

app = typer.Typer(help="Check policies.", no_args_is_help=True)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="The policy's file.")], *, json: Json = False
) -> None:
    """Say whether a policy can be used: it parses, and the evaluators that it names are installed."""
    policy = Policy.load(path)
    Panel(policy)
    if json:
        return print_json(
            [{"name": policy.name, "digest": policy.digest, "rules": len(policy.document.rules)}]
        )
    count = len(policy.document.rules)
    return show(
        safe(
            f"{path}: policy {policy.name}, {count} rule{'s' * (count != 1)}, digest {policy.digest}",
            "green",
        )
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of policies, for editors that complete and check."""
    print_json([PolicyDocument.model_json_schema()])
