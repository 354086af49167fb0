"""`interlock policy diff`: what changed in meaning between two policies, and which calls would notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text
from sqlalchemy import Connection

from interlock import Governor, Policy, Verdict
from interlock._trial import Trial, call_again
from interlock.cli.output import (
    DEFAULT,
    STYLES,
    Database,
    Json,
    opened,
    print_json,
    safe,
    show,
    table,
)
from interlock.cli.policy.linting import Modules, tools_in
from interlock.events import CallDecided, HaltOrdered, Recorded
from interlock.policy.differences import Change, changes
from interlock.policy.document import ExampleDocument
from interlock.store import events, policies, sessions

_SAMPLES = 3
_MARKS = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "moved": (">", "cyan"),
}


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """A call that gets another verdict: where it is from, and what each policy says of it."""

    tool: str
    where: str
    before: Verdict
    after: Verdict
    reason_before: str
    reason_after: str


def diff(
    old: Annotated[
        str, typer.Argument(help="The policy that was: a file, or a digest in the store.")
    ],
    new: Annotated[str, typer.Argument(help="The policy that is to be, likewise.")],
    *,
    calls: Annotated[
        int | None,
        typer.Option(min=1, help="So many of the newest recorded calls are tried, too."),
    ] = None,
    modules: Modules = None,
    fail_on: Annotated[
        Literal["loosened", "changed"] | None,
        typer.Option(
            help="Exit with 1 where a call tried is let further than before, or judged otherwise."
        ),
    ] = None,
    db: Database = DEFAULT,
    json: Json = False,
) -> None:
    """Show what changed between two policies, and which of their examples and of recorded calls get another verdict."""
    before, after = (_policy(name, db) for name in (old, new))
    found = changes(before.document, after.document)
    with Trial(before) as first, Trial(after) as second:
        tried, others = 0, []
        for where, verdicts in _verdicts(first, second, db, calls, modules):
            tried += 1
            if verdicts.before is not verdicts.after:
                others.append(msgspec.structs.replace(verdicts, where=where))
    loosened = [one for one in others if one.after < one.before]
    if json:
        print_json({"change": _change(one)} for one in found)
        print_json({"call": one} for one in others)
        print_json([{"tried": tried, "changed": len(others), "loosened": len(loosened)}])
    else:
        for change in found:
            show(_told(change))
        if others:
            show(_table(others))
        show(_summary(before, after, tried, others, loosened))
    fails = {"loosened": bool(loosened), "changed": bool(others), None: False}[fail_on]
    raise typer.Exit(code=1 if fails else 0)


def _policy(name: str, db: str) -> Policy:
    is_digest = len(name) == 64 and set(name) <= set("0123456789abcdef")  # noqa: PLR2004 - SHA-256 in hexadecimal
    if not is_digest or Path(name).exists():
        return Policy.load(name)
    with opened(db) as governor:
        return Policy.parse(governor.read(policies.document, name), path=name)


def _verdicts(
    first: Trial, second: Trial, db: str, calls: int | None, modules: list[str] | None
) -> Iterator[tuple[str, Other]]:
    seen: list[ExampleDocument] = []
    for trial in (first, second):
        for number, example in enumerate(trial.policy.document.expect):
            if example in seen:
                continue
            seen.append(example)
            one, two = (each.result(number, example).ruling.decision for each in (first, second))
            where = f"example {example.name or number} of {trial.policy.name}"
            yield where, _pair(example.call.tool, one, two)
    if calls is None:
        return
    tools = None if modules is None else tools_in(modules)
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    with opened(db) as governor, progress:
        task = progress.add_task("Deciding", total=calls)
        for where, identity, at, decided, memories in _history(governor, first, second, calls):
            call = call_again(decided, identity, tools)
            one, two = (
                trial.ruling(call, memory, at).decision
                for trial, memory in zip((first, second), memories, strict=True)
            )
            yield where, _pair(decided.tool, one, two)
            progress.advance(task)


def _history(governor: Governor, first: Trial, second: Trial, calls: int) -> Iterator[Any]:
    """Yield the newest recorded calls, session by session, each with what either policy would remember by then."""
    left, before = calls, None
    while left and (page := governor.read(sessions.newest, before=before)):
        for row in page:
            memories = [trial.memory() for trial in (first, second)]
            found = []
            past = governor.read(_whole_history, row.id)
            for recorded in past:
                decided = recorded.event
                if isinstance(decided, CallDecided):
                    found.append(
                        (
                            f"{row.id} {recorded.seq}",
                            row.identity,
                            recorded.at,
                            decided,
                            list(memories),
                        )
                    )
                if isinstance(decided, CallDecided | HaltOrdered):
                    memories = [
                        trial.remembering(memory, decided)
                        for trial, memory in zip((first, second), memories, strict=True)
                    ]
            yield from found[-left:]
            left -= min(left, len(found))
            if not left:
                return
        before = page[-1].id


def _whole_history(connection: Connection, session_id: str) -> list[Recorded]:
    return [*events.whole_history(connection, session_id)]


def _pair(tool: str, one: Any, two: Any) -> Other:
    return Other(
        tool=tool,
        where="",
        before=one.verdict,
        after=two.verdict,
        reason_before=one.reason,
        reason_after=two.reason,
    )


def _told(change: Change) -> Text:
    mark, style = _MARKS[change.kind]
    name = "" if change.name == change.what else f" {change.name}"
    if change.what == change.name or not change.keys:
        detail = (
            f": {_short(change.before)} -> {_short(change.after)}"
            if change.kind == "changed"
            else ""
        )
    else:
        pairs = (
            f"{key} {_short(change.before.get(key))} -> {_short(change.after.get(key))}"
            for key in change.keys
        )
        detail = f": {'; '.join(pairs)}"
    return Text.assemble(safe(f"{mark} {change.kind} {change.what}{name}", style), safe(detail))


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _table(others: list[Other]) -> Any:
    listed = table("before", "after", "calls", "tool", "such as")
    counts = Counter((one.before, one.after, one.tool) for one in others)
    for (before, after, tool), count in sorted(
        counts.items(), key=lambda item: (item[0][1] >= item[0][0], -item[1], item[0][2])
    ):
        samples = [
            one for one in others if (one.before, one.after, one.tool) == (before, after, tool)
        ]
        listed.add_row(
            Text(str(before), style=STYLES[before]),
            Text(str(after), style=STYLES[after]),
            f"{count:,}",
            safe(tool),
            Text("\n").join(safe(f"{one.where}: {one.reason_after}") for one in samples[:_SAMPLES]),
        )
    return listed


def _summary(
    before: Policy, after: Policy, tried: int, others: list[Other], loosened: list[Other]
) -> Text:
    if before.digest == after.digest:
        return Text("The policies say the same.", style="green")
    if not tried:
        return Text("No call was tried: add `expect:` to a policy, or --calls.", style="dim")
    said = f"{len(others)} of {tried} calls get another verdict, {len(loosened)} a looser one."
    return Text(said, style="red" if loosened else "yellow" if others else "green")


def _change(change: Change) -> dict[str, Any]:
    return {**msgspec.structs.asdict(change), "keys": change.keys}
