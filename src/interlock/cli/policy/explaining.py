"""`interlock policy explain`: why a call gets its verdict, rule by rule."""

from __future__ import annotations

import json as plain_json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from interlock import Policy
from interlock._trial import Ruling, Trial, call_again, call_of
from interlock.cli.output import (
    DEFAULT,
    STYLES,
    Database,
    Json,
    moment,
    opened,
    print_json,
    safe,
    show,
)
from interlock.errors import Misuse
from interlock.events import CallDecided, HaltOrdered
from interlock.policy.compile import Step
from interlock.policy.document import ExpectedCallDocument, parsed
from interlock.policy.reasons import Branch, about, branches, plain_answer
from interlock.policy.situation import Fault
from interlock.store import events, policies, sessions

Past = tuple[Policy, Ruling, CallDecided]


def explain(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="The policy's file; policy.yaml.", show_default=False
        ),
    ] = None,
    *,
    call: Annotated[
        str | None, typer.Option(help="The call in JSON, with the keys of `expect:`.")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="The tool's name, instead of --call.")] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", metavar="NAME=VALUE", help="An argument: JSON, or else text; repeatable."
        ),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Which agent calls.")] = None,
    user: Annotated[str | None, typer.Option(help="For which user.")] = None,
    team: Annotated[str | None, typer.Option(help="For which team.")] = None,
    org: Annotated[str | None, typer.Option(help="For which organisation.")] = None,
    risk: Annotated[str | None, typer.Option(help="The risk that the tool declares.")] = None,
    resource: Annotated[str | None, typer.Option(help="What the call acts on.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="When, in ISO 8601; now."),
    ] = None,
    event: Annotated[
        tuple[str, int] | None,
        typer.Option(metavar="SESSION SEQ", help="A recorded decision, instead of a call."),
    ] = None,
    db: Database = DEFAULT,
    json: Json = False,
) -> None:
    """Explain why a call gets its verdict: every rule and condition, opinions, risk, budgets, leases."""
    options = {
        "tool": tool,
        "agent": agent,
        "user": user,
        "team": team,
        "org": org,
        "risk": risk,
        "resource": resource,
    }
    given = {key: value for key, value in options.items() if value is not None}
    recorded: CallDecided | None = None
    if event is not None:
        if call is not None or given or arg:
            raise Misuse("--event is a call already; leave --call, --tool and the like out")
        policy, ruling, recorded = _past(db, *event, path)
    else:
        if (call is None) == (tool is None):
            raise Misuse(
                "say which call: with --call or with --tool, or a recorded one with --event"
            )
        data: dict[str, Any] = given if call is None else {**_object(call), **given}
        if arg:
            data["arguments"] = {**data.get("arguments", {}), **dict(map(_argument, arg))}
        policy = Policy.load(path or "policy.yaml")
        with Trial(policy) as trial:
            document = parsed(ExpectedCallDocument, data, path="--call")
            ruling = trial.ruling(call_of(document), at=at or datetime.now(UTC))
    if json:
        return print_json([_as_json(policy, ruling, recorded)])
    return show(_tree(policy, ruling, recorded))


def _past(db: str, session: str, seq: int, path: Path | None) -> Past:
    with opened(db) as governor:
        row = governor.read(sessions.get, session)
        past = governor.read(lambda connection: [*events.whole_history(connection, session)])
        target = next((one for one in past if one.seq == seq), None)
        decided = None if target is None else target.event
        if target is None or not isinstance(decided, CallDecided):
            raise Misuse(f"event {seq} of session {session} is no decision; see `interlock events`")
        text = None if path else governor.read(policies.document, decided.policy)
    policy = Policy.load(path) if path else Policy.parse(text or "", path=decided.policy)
    with Trial(policy) as trial:
        memory = trial.memory()
        before = [one.event for one in past if one.seq < seq]
        for one in before:
            if isinstance(one, CallDecided | HaltOrdered):
                memory = trial.remembering(memory, one)
        ruling = trial.ruling(call_again(decided, row.identity), memory, target.at)
    return policy, ruling, decided


def _object(text: str) -> dict[str, Any]:
    try:
        found = plain_json.loads(text)
    except ValueError as error:
        raise Misuse(f"--call is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Misuse("--call is an object with `tool` and what else is known of the call")
    return found


def _argument(pair: str) -> tuple[str, object]:
    name, equals, value = pair.partition("=")
    if not (name and equals):
        raise Misuse(f"--arg {pair!r} is no NAME=VALUE")
    try:
        return name, plain_json.loads(value)
    except ValueError:
        return name, value


def _tree(policy: Policy, ruling: Ruling, recorded: CallDecided | None) -> Tree:
    decision = ruling.decision
    tree = Tree(
        Text.assemble(
            (str(decision.verdict), STYLES[decision.verdict]),
            safe(f" {ruling.call.tool.name}", "bold"),
            safe(f": {decision.reason}"),
        )
    )
    tree.add(safe(f"policy {policy.name}, {policy.digest[:12]}, mode {policy.mode}", "dim"))
    tree.add(safe(f"risk {ruling.situation.risk}"))
    rules = tree.add(Text("rules", style="bold"))
    for step in ruling.steps:
        node = rules.add(_told(step))
        for branch in branches(step.rule, ruling.situation) if step.answer is not None else ():
            _grow(node, branch)
    if ruling.speaks is None:
        rules.add(safe(f"the default speaks: {policy.document.default}"))
    opinions = tree.add(Text("opinions", style="bold"))
    for opinion in decision.opinions:
        author = f"{opinion.author}/{opinion.rule}" if opinion.rule else opinion.author
        only = " (observed)" if opinion.observed else ""
        opinions.add(
            Text.assemble(
                (str(opinion.verdict), STYLES[opinion.verdict]),
                safe(f" {author}: {opinion.reason}{only}"),
            )
        )
    if ruling.counted_by:
        tree.add(safe(f"budgets that count it: {', '.join(ruling.counted_by)}"))
    if ruling.leases:
        tree.add(safe(f"leases that it needs: {', '.join(ruling.leases)}"))
    if recorded is not None:
        tree.add(safe(f"recorded: {recorded.verdict}: {recorded.reason}"))
    return tree


def _told(step: Step) -> Text:
    rule = step.rule
    if step.answer is None:
        return safe(f"- {rule.id}: not about this call ({about(rule)})", "dim")
    if isinstance(step.answer, Fault):
        said = Text.assemble(safe(f"! {rule.id}: cannot be told: {step.answer.reason}", "red"))
    elif step.answer:
        said = safe(f"{_signs()[0]} {rule.id}: matches")
    else:
        said = safe(f"{_signs()[1]} {rule.id}: its condition does not hold", "dim")
    if step.speaks:
        verdict = "deny" if isinstance(step.answer, Fault) else rule.verdict
        said = Text.assemble(said, safe(f", so it speaks: {verdict}", "bold"))
    elif step.answer is not False:
        why = "it only observes" if rule.mode == "observe" else "an earlier rule speaks"
        said = Text.assemble(said, safe(f" ({why})", "dim"))
    return said


def _grow(tree: Tree, branch: Branch) -> None:
    if isinstance(branch.answer, Fault):
        mark, style, why = "!", "red", f": {branch.answer.reason}"
    else:
        mark, style, why = (_signs()[0], "green", "") if branch.answer else (_signs()[1], "dim", "")
    node = tree.add(safe(f"{mark} {branch.text}{why}", style))
    for inner in branch.branches:
        _grow(node, inner)


def _signs() -> str:
    return "+x" if Console().options.ascii_only else "✔✘"


def _as_json(policy: Policy, ruling: Ruling, recorded: CallDecided | None) -> dict[str, Any]:
    decision = ruling.decision
    return {
        "policy": {"name": policy.name, "digest": policy.digest, "mode": str(policy.mode)},
        "tool": ruling.call.tool.name,
        "verdict": str(decision.verdict),
        "reason": decision.reason,
        "authors": decision.authors,
        "risk": str(ruling.situation.risk),
        "rules": [
            {
                "id": step.rule.id,
                "verdict": step.rule.verdict,
                "about": step.answer is not None,
                "answer": plain_answer(step.answer),
                "speaks": step.speaks,
                "conditions": [
                    branch.data
                    for branch in (
                        branches(step.rule, ruling.situation) if step.answer is not None else ()
                    )
                ],
            }
            for step in ruling.steps
        ],
        "opinions": msgspec.to_builtins(decision.opinions),
        "budgets": ruling.counted_by,
        "leases": ruling.leases,
        "recorded": None
        if recorded is None
        else {"verdict": str(recorded.verdict), "reason": recorded.reason},
    }
