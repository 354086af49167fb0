"""
Memory: what a session remembers of its calls, as far as its policy asks.

A policy that looks back ("three refunds so far", "after it read the CRM") names trackers. Each is a number, folded
from the session's `CallDecided` events and nothing else, so it survives restarts, is shared by all workers, and can be
recomputed by whoever doubts it. It is kept beside the head of the session's chain and moved in the same transaction,
so that what is decided with it is exact however many calls are made at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TypeAlias

import msgspec

from interlock._verdict import Mode, Verdict
from interlock.events import CallDecided

Memory: TypeAlias = Mapping[str, int]
"""The number of each tracker, by its key."""


class _Tracker(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="of"):
    @property
    def key(self) -> str:
        """The tracker as JSON: what it is kept under, and read back from."""
        return _key(self)


class Calls(_Tracker, frozen=True, tag="calls"):
    """How many calls of `tools` got in (`outcome` is `admitted`), were refused, or got the verdict that it names."""

    tools: tuple[str, ...]
    outcome: str = "admitted"

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        return number + (self._counts(decided) and named(self.tools, decided.tool))

    def _counts(self, decided: CallDecided) -> bool:
        if self.outcome == "admitted":
            return got_in(decided)
        if self.outcome == "refused":
            return not got_in(decided)
        return str(decided.verdict) == self.outcome


class Steps(_Tracker, frozen=True, tag="steps"):
    """How many of `steps` were taken, in their order; other calls may lie between. One call takes one step at most."""

    steps: tuple[str, ...]

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        return self.next(number, decided.tool) if got_in(decided) else number

    def next(self, number: int, tool: str) -> int:
        """Return the number after a call of *tool* that got in."""
        return number + (number < len(self.steps) and fnmatchcase(tool, self.steps[number]))


class Points(_Tracker, frozen=True, tag="points"):
    """The points of risk of all calls that got in."""

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        return number + (decided.points if got_in(decided) else 0)


class Steered(_Tracker, frozen=True, tag="steered"):
    """How many calls were steered elsewhere: by `rule`, or by whomever where it is None."""

    rule: str | None = None

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        if decided.admitted or decided.verdict is not Verdict.STEER:
            return number
        rules = {one.rule for one in decided.opinions if one.verdict is Verdict.STEER}
        return number + (self.rule is None or self.rule in rules)


class Refusals(_Tracker, frozen=True, tag="refusals"):
    """How many calls in a row were refused up to the last."""

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        return 0 if got_in(decided) else number + 1


Tracker: TypeAlias = Calls | Steps | Points | Steered | Refusals

_decoder: msgspec.json.Decoder[Tracker] = msgspec.json.Decoder(Tracker)
_memories = msgspec.json.Decoder(dict[str, int])


def got_in(decided: CallDecided) -> bool:
    """Whether the call counts as made: admitted, or simulated in a dry run, which is to show what would happen."""
    is_dry = decided.mode is Mode.DRY_RUN and decided.verdict <= Verdict.ASK
    return decided.admitted or is_dry


def remembering(memory: Memory, decided: CallDecided) -> dict[str, int]:
    """Return *memory* after *decided*."""
    return {key: tracker_of(key).after(number, decided) for key, number in memory.items()}


def recalled(trackers: Iterable[Tracker], history: Iterable[CallDecided]) -> dict[str, int]:
    """Return what *trackers* remember of the whole *history* of a session."""
    memory = {tracker.key: 0 for tracker in trackers}
    for decided in history:
        memory = remembering(memory, decided)
    return memory


@lru_cache(maxsize=4096)
def tracker_of(key: str) -> Tracker:
    """
    Return the tracker that is kept under *key*.

    Raises:
        msgspec.DecodeError: it is no key of one.
    """
    return _decoder.decode(key)


def text_of(memory: Memory) -> str | None:
    """Return *memory* as it is stored: canonical JSON; None for an empty one."""
    return msgspec.json.encode(memory, order="sorted").decode() if memory else None


def memory_of(text: str | None) -> dict[str, int]:
    """
    Return the memory that `text_of` wrote.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return {} if text is None else _memories.decode(text)


def named(patterns: Iterable[str], name: str) -> bool:
    """Whether one of *patterns*, exact or with `*`, `?` and `[…]`, matches *name*; case counts."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@lru_cache(maxsize=4096)
def _key(tracker: Tracker) -> str:
    return msgspec.json.encode(tracker).decode()
