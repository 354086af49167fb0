"""`interlock policy test`: run the examples beside policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from interlock import Policy
from interlock._trial import Result, Trial
from interlock.cli.output import STYLES, Json, print_json, safe, show
from interlock.policy.source import examples_in


def run(
    path: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="The policies' files.", show_default=False),
    ] = None,
    *,
    examples: Annotated[
        list[Path] | None,
        typer.Option("--examples", help="A file with more examples, in `expect:`; repeatable."),
    ] = None,
    require_coverage: Annotated[
        bool, typer.Option("--require-coverage", help="Fail where no example reaches a rule.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the examples beside policies, policy.yaml if none is named; exit with 1 if one does not hold."""
    failed = False
    for one in path or [Path("policy.yaml")]:
        policy = Policy.load(one)
        wanted = [*policy.document.expect]
        for more in examples or ():
            wanted += examples_in(more)
        with Trial(policy) as trial:
            results = trial.results(wanted)
            uncovered = trial.uncovered(results)
        failures = sum(bool(result.failures) for result in results)
        failed = failed or failures > 0 or (require_coverage and bool(uncovered))
        if json:
            print_json(_as_json(one, result) for result in results)
            print_json(
                [
                    {
                        "path": str(one),
                        "examples": len(results),
                        "failed": failures,
                        "uncovered": uncovered,
                    }
                ]
            )
            continue
        for result in results:
            show(_told(result))
        show(_summary(one, len(results), failures, uncovered))
    raise typer.Exit(code=1 if failed else 0)


def _told(result: Result) -> Text:
    decision = result.ruling.decision
    line = Text.assemble(
        ("fail  ", "red") if result.failures else ("pass  ", "green"),
        (f"{decision.verdict!s:<6}", STYLES[decision.verdict]),
        safe(result.name, "bold"),
        safe(f"  {', '.join(decision.authors)}", "dim"),
    )
    for told in result.explained if result.failures else ():
        line.append("\n      ")
        line.append_text(safe(told))
    return line


def _summary(path: Path, examples: int, failures: int, uncovered: tuple[str, ...]) -> Text:
    if not examples:
        said = safe(f"{path}: it has no examples; add `expect:` to it", "yellow")
    elif failures:
        said = safe(f"{path}: {failures} of {examples} examples failed", "red")
    else:
        said = safe(f"{path}: {examples} example{'s' * (examples != 1)} passed", "green")
    if uncovered:
        said.append("\n")
        said.append_text(safe(f"no example reaches: {', '.join(uncovered)}", "yellow"))
    return said


def _as_json(path: Path, result: Result) -> dict[str, Any]:
    decision = result.ruling.decision
    return {
        "path": str(path),
        "example": result.number,
        "name": result.name,
        "passed": not result.failures,
        "verdict": str(decision.verdict),
        "reason": decision.reason,
        "rules": result.rules,
        "authors": decision.authors,
        "failures": result.failures,
    }
