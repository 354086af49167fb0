"""
Memory: what a session remembers of its calls, as far as its policy asks.

A policy that looks back ("three refunds so far", "after it read the CRM") names trackers. Each is a number, folded
from the session's `CallDecided` and `HaltOrdered` events and nothing else, so it survives restarts, is shared by all
workers, and can be recomputed by whoever doubts it. It is kept beside the head of the session's chain and moved in the
same transaction, so that what is decided with it is exact however many calls are made at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TypeAlias

import msgspec

from interlock._call import Risk
from interlock._halt_scope import HaltScope
from interlock._verdict import Mode, Verdict
from interlock.events import CallDecided, HaltOrdered

Memory: TypeAlias = Mapping[str, int]
"""The number of each tracker, by its key."""


class _Tracker(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="of"):
    @property
    def key(self) -> str:
        """The tracker as JSON: what it is kept under, and read back from."""
        return _key(self)

    def ordered(self, number: int) -> int:
        """Return the number after the halt was ordered that it stands for."""
        return number


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


class Refused(_Tracker, frozen=True, tag="refused"):
    """
    How many calls in a row were refused since that last led to a halt; at so many `times`, `halt` is due.

    A refusal is a DENY or a STEER that counted. What is none, and ends no row either: a call that waits for a human's
    yes, one that failed to be judged, and one in a session that is halted, paused or closed.
    """

    times: int
    halt: HaltScope

    @property
    def reason(self) -> str:
        """Why there is a halt."""
        return (
            f"{self.times} calls in a row were refused" if self.times > 1 else "a call was refused"
        )

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        if decided.mode is not Mode.ENFORCE or is_stopped(decided):
            return number
        if decided.admitted:
            return 0
        return number + (decided.verdict >= Verdict.STEER and not _is_fault(decided))

    def ordered(self, number: int) -> int:  # noqa: ARG002 - of others it may matter
        """Return the number after the halt was ordered: the row begins anew."""
        return 0

    def is_due(self, number: int) -> bool:
        """Whether the halt is to be ordered."""
        return number >= self.times

    def objects(self, number: int, risk: Risk) -> bool:  # noqa: ARG002 - of others it may matter
        """Whether a call is refused because the halt was due before it, and was never engaged."""
        return self.is_due(number)


class Reached(_Tracker, frozen=True, tag="reached"):
    """
    Whether the risk of the last call reached `risk`, at which `halt` is due: 1; 2 once it was ordered; else 0.

    So where the halt was released, calls go on; it is due again once the risk has fallen below and come back.
    """

    risk: str
    halt: HaltScope

    @property
    def reason(self) -> str:
        """Why there is a halt."""
        return f"the risk reached {self.risk}"

    def after(self, number: int, decided: CallDecided) -> int:
        """Return the number after *decided*."""
        if decided.mode is not Mode.ENFORCE or is_stopped(decided):
            return number
        return max(number, 1) if decided.risk >= Risk(self.risk) else 0

    def ordered(self, number: int) -> int:
        """Return the number after the halt was ordered."""
        return 2 if number else 0

    def is_due(self, number: int) -> bool:
        """Whether the halt is to be ordered."""
        return number == 1

    def objects(self, number: int, risk: Risk) -> bool:
        """Whether a call of that *risk* is refused: the halt is due with it, or was never engaged."""
        return risk >= Risk(self.risk) and number != 2  # noqa: PLR2004 - see the class


HaltTracker: TypeAlias = Refused | Reached
"""What says when a policy halts."""

Tracker: TypeAlias = Calls | Steps | Points | Steered | Refused | Reached

Fact: TypeAlias = CallDecided | HaltOrdered
"""An event that sessions remember."""

HALTED = "halt:"
"""How the author of the opinion begins that a halt gives."""

STOPPED = "session"
"""The author of the opinion that the session is not open."""

_decoder: msgspec.json.Decoder[Tracker] = msgspec.json.Decoder(Tracker)
_memories = msgspec.json.Decoder(dict[str, int])


def got_in(decided: CallDecided) -> bool:
    """Whether the call counts as made: admitted, or simulated in a dry run, which is to show what would happen."""
    is_dry = decided.mode is Mode.DRY_RUN and decided.verdict <= Verdict.ASK
    return decided.admitted or is_dry


def is_stopped(decided: CallDecided) -> bool:
    """Whether the call was refused whatever it was: because of a halt, or because its session is not open."""
    authors = (one.author for one in decided.opinions if one.verdict is Verdict.DENY)
    return not decided.admitted and any(
        author == STOPPED or author.startswith(HALTED) for author in authors
    )


def remembering(memory: Memory, fact: Fact) -> dict[str, int]:
    """Return *memory* after *fact*."""
    if isinstance(fact, HaltOrdered):
        return {
            key: tracker_of(key).ordered(number) if key == fact.rule else number
            for key, number in memory.items()
        }
    return {key: tracker_of(key).after(number, fact) for key, number in memory.items()}


def recalled(trackers: Iterable[Tracker], history: Iterable[Fact]) -> dict[str, int]:
    """Return what *trackers* remember of the whole *history* of a session."""
    memory = {tracker.key: 0 for tracker in trackers}
    for fact in history:
        memory = remembering(memory, fact)
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


def _is_fault(decided: CallDecided) -> bool:
    against = [one for one in decided.opinions if one.verdict is decided.verdict]
    return all(one.fault for one in against if not one.observed)


@lru_cache(maxsize=4096)
def _key(tracker: Tracker) -> str:
    return msgspec.json.encode(tracker).decode()
