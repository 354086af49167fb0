"""
Queries and what they use: each is a model call, judged before a model is asked and charged what Claude Code reports.

Claude Code asks models as often as it likes between a prompt and its result, and tells only then what that took, for
each model and in total since the run began.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage

from interlock import HaltedError, Session, Tool, Usage
from interlock_claude_agent_sdk.ongoing import Ongoing
from interlock_claude_agent_sdk.refusals import Ungoverned

MODEL_CALL = "chat"
"""What a query is called, as model calls are everywhere in Interlock."""

_COUNTS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")

_COST_STATE = '"cost-state"'

_SMALLEST = Decimal("1e-9")
"""Dollars are counted in parts of this: a token costs a hundred times as much at least."""


class Query(Ongoing):
    """
    A query that is being answered.

    Attributes:
        model: Which model is asked.
    """

    def __init__(
        self,
        session: Session,
        model: str,
        prompt: str,
        *,
        estimate: Usage | None,
        on_halt: Callable[[HaltedError], None],
    ) -> None:
        """Describe the query; nothing is judged yet."""
        self.model = model
        super().__init__(
            session,
            Tool(name=MODEL_CALL, kind="model", model="model", provider="anthropic"),
            {"model": model, "prompt": prompt},
            estimate=estimate,
            on_halt=on_halt,
        )

    async def begin(self) -> dict[str, Any]:
        """
        Have the query judged.

        Raises:
            InterlockError: it may not be asked.
            Ungoverned: a person has changed it, and Claude Code asks what it was given.
            NotRun: this is a dry run.
        """
        asked = self.arguments
        if await super().begin() == asked:
            return asked
        await self.raised("changed")
        raise Ungoverned(
            "the query was not asked: a person has changed it, and a query cannot be changed. Ask it in their words."
        )


class Spending:
    """What a run has used, and which of its queries are under way."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.is_asked = False
        self._open: list[Query] = []
        self._known: dict[str, dict[str, Decimal]] = {}

    @property
    def is_open(self) -> bool:
        """Whether a query is under way."""
        return bool(self._open)

    def add(self, query: Query) -> None:
        """Remember a query that was begun."""
        self.is_asked = True
        self._open.append(query)

    def take(self) -> list[Query]:
        """Return the queries that are under way, the oldest first, and forget them."""
        found, self._open = self._open, []
        return found

    def resume(self, before: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what earlier runs of a conversation have used for known: its results go on counting from there."""
        self._known = {model: _row(said) for model, said in before.items()}

    def used(self, message: ResultMessage) -> dict[str, dict[str, Decimal]]:
        """Return what each model has used since the result before *message*: tokens, and `costUSD`."""
        found: dict[str, dict[str, Decimal]] = {}
        for model, said in (message.model_usage or {}).items():
            total = _row({**said})
            before = self._known.get(model, {})
            more = {key: max(total[key] - before.get(key, Decimal(0)), Decimal(0)) for key in total}
            self._known[model] = total
            if any(more.values()):
                found[model] = more
        return found


def shared(queries: list[Query], used: Mapping[str, Mapping[str, Decimal]]) -> list[Usage]:
    """
    Return what each of *queries* is charged, so that all that was *used* is charged once.

    What a model has used goes to the first query that asked for it, and of a model that nobody asked for to the first
    of all.
    """
    shares: list[dict[str, Decimal]] = [
        dict.fromkeys((*_COUNTS, "costUSD"), Decimal(0)) for _ in queries
    ]
    for model, more in used.items():
        place = next((at for at, one in enumerate(queries) if _is(one.model, model)), 0)
        for key, count in more.items():
            shares[place][key] += count
    return [_usage(share) for share in shares]


def spent_before(transcript: Path, options: ClaudeAgentOptions) -> dict[str, dict[str, Any]]:
    """
    Return what a conversation had used, by model, when this run of it began.

    Claude Code notes it in the transcript, and a run that goes on with one counts on from there.

    Args:
        transcript: Where that of this run is, or will be.
        options: The host's.
    """
    if options.resume is None and not options.continue_conversation:
        return {}
    found = transcript
    if not found.exists():  # a fork, which has written nothing yet
        others = sorted(transcript.parent.glob("*.jsonl"), key=lambda one: one.stat().st_mtime)
        named = [one for one in others if one.stem == options.resume]
        if not others:
            return {}
        found = (named or others)[-1]
    before: dict[str, dict[str, Any]] = {}
    with found.open(encoding="utf-8") as lines:
        for line in lines:
            if _COST_STATE in line:
                entry = json.loads(line)
                if entry.get("type") == "cost-state":
                    before = entry.get("modelUsage") or {}
    return before


def _row(said: Mapping[str, Any]) -> dict[str, Decimal]:
    return {key: _exact(said.get(key)) for key in (*_COUNTS, "costUSD")}


def _exact(said: float | None) -> Decimal:
    """Return a number that was said, without what binary fractions have added to it."""
    return Decimal(str(said or 0)).quantize(_SMALLEST)


def _is(asked: str, model: str) -> bool:
    """Whether *model* is what was *asked* for, by its name, an alias such as `opus`, or its name without a date."""
    return asked == model or model.startswith(f"{asked}-") or asked in model.split("-")


def _usage(share: Mapping[str, Decimal]) -> Usage:
    read, written = int(share["cacheReadInputTokens"]), int(share["cacheCreationInputTokens"])
    return Usage(
        input_tokens=int(share["inputTokens"]) + read + written,
        output_tokens=int(share["outputTokens"]),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cost_usd=share["costUSD"],
    )
