"""`interlock policy check` and `schema`: whether a policy can be used, and what policies may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock import Policy
from interlock._trial import Trial
from interlock.cli.output import Json, print_json, safe, show
from interlock.policy import PolicyDocument

File = Annotated[Path, typer.Argument(help="The policy's file.")]


def check(path: File, *, json: Json = False) -> None:
    """Say whether a policy can be used: it parses, and the evaluators that it names can be built."""
    policy = Policy.load(path)
    Trial(policy).close()
    document = policy.document
    counts = {
        "rules": len(document.rules),
        "evaluators": len(document.evaluators) + len(policy.questions),
        "budgets": len(document.budgets),
        "trackers": len(policy.trackers),
        "examples": len(document.expect),
    }
    if json:
        return print_json(
            [
                {
                    "name": policy.name,
                    "digest": policy.digest,
                    "mode": str(policy.mode),
                    "default": str(document.default),
                    **counts,
                }
            ]
        )
    parts = ", ".join(_counted(count, name) for name, count in counts.items() if count)
    return show(
        safe(f"{path}: policy {policy.name}, {parts or '0 rules'}, digest {policy.digest}", "green")
    )


def schema() -> None:
    """Print the JSON Schema of policies, for editors that complete and check."""
    print_json([PolicyDocument.model_json_schema()])


def _counted(count: int, name: str) -> str:
    return f"{count} {name if count != 1 else name[:-1]}"
