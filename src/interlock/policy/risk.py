"""Risk: how risky a policy takes calls to be: by their tools, and by what their session has already done."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, TypeAlias

from pydantic import Field, StrictInt, model_validator

from interlock._call import Risk
from interlock._memory import Memory, Points, Steps, Tracker, named
from interlock._verdict import Opinion, Verdict
from interlock.policy.values import Level, Name, Strict

_Points: TypeAlias = Annotated[StrictInt, Field(ge=0, le=1_000_000)]

MAX_NAMES = 4096
"""For so many names of tools what judges them is remembered; names may come from a model."""


class ToolRiskDocument(Strict):
    """The least risk of some tools, whatever they declare."""

    tools: tuple[Name, ...] = Field(min_length=1)
    risk: Level


class PointsDocument(Strict):
    """How many points a call adds to its session's score that gets in, by its own risk."""

    low: _Points = 0
    medium: _Points = 1
    high: _Points = 5
    critical: _Points = 20


class ThresholdsDocument(Strict):
    """From which score on, this call's points included, a call is at least so risky."""

    _needs_one_of = ("medium", "high", "critical")

    medium: _Points | None = None
    high: _Points | None = None
    critical: _Points | None = None

    @model_validator(mode="after")
    def _ascends(self) -> ThresholdsDocument:
        given = [score for score in (self.medium, self.high, self.critical) if score is not None]
        if not given:
            raise ValueError("no threshold is given; add medium, high or critical")
        if given != sorted(set(given)):
            raise ValueError("a higher risk needs a higher score")
        return self


class SequenceDocument(Strict):
    """
    Calls that together are riskier than each.

    The call that completes them, in this order and with others in between or not, and every later one of the session
    is at least as risky as `escalate_to` says.
    """

    name: Name
    calls: tuple[Name, ...] = Field(min_length=2)
    escalate_to: Level


class RiskDocument(Strict):
    """
    How risky calls are beyond what their tools declare, and from which risk on a human is asked or a call denied.

    Nothing here lowers a risk.
    """

    tools: tuple[ToolRiskDocument, ...] = ()
    points: PointsDocument = PointsDocument()
    thresholds: ThresholdsDocument | None = None
    sequences: tuple[SequenceDocument, ...] = ()
    ask_at: Level | None = None
    deny_at: Level | None = None
    approvers: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _is_sound(self) -> RiskDocument:
        names = [sequence.name for sequence in self.sequences]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names of sequences must be unique; repeated: {', '.join(repeated)}")
        if self.approvers and self.ask_at is None:
            raise ValueError("'approvers' goes with 'ask_at'")
        if self.ask_at and self.deny_at and Risk(self.ask_at) >= Risk(self.deny_at):
            raise ValueError("'ask_at' must be lower than 'deny_at', or nobody would be asked")
        if "points" in self.model_fields_set and self.thresholds is None:
            raise ValueError("'points' are counted for 'thresholds', and there are none")
        return self


class Risks:
    """
    The risk section of a policy, made ready.

    Attributes:
        trackers: What a session has to remember for it.
    """

    def __init__(self, document: RiskDocument) -> None:
        """Make ready what *document* says."""
        self._tools = tuple((item.tools, Risk(item.risk)) for item in document.tools)
        self._points = {risk: int(getattr(document.points, risk.value)) for risk in Risk}
        self._thresholds = tuple(
            (score, Risk(level))
            for level in ("critical", "high", "medium")
            if document.thresholds and (score := getattr(document.thresholds, level)) is not None
        )
        self._sequences = tuple(
            (Steps(item.calls), Risk(item.escalate_to)) for item in document.sequences
        )
        self._score = Points().key
        self.trackers: tuple[Tracker, ...] = (
            *((Points(),) if self._thresholds else ()),
            *(steps for steps, _ in self._sequences),
        )
        self._at = tuple(
            (Risk(level), verdict)
            for level, verdict in ((document.deny_at, Verdict.DENY), (document.ask_at, Verdict.ASK))
            if level is not None
        )
        self._approvers = document.approvers
        self.of_tool = lru_cache(maxsize=MAX_NAMES)(self._find)

    def points(self, risk: Risk) -> int:
        """Return how many points a call of that risk of its own adds to its session's score."""
        return self._points[risk] if self._thresholds else 0

    def of_session(self, tool: str, risk: Risk, memory: Memory) -> Risk:
        """Return how risky a call of *tool*, of so much *risk* of its own, is after what its session has done."""
        found = risk
        if self._thresholds:
            score = memory[self._score] + self._points[risk]
            found = max(
                found, next((level for least, level in self._thresholds if score >= least), found)
            )
        for steps, level in self._sequences:
            if level > found and steps.next(memory[steps.key], tool) == len(steps.steps):
                found = level
        return found

    def opinion(self, risk: Risk) -> Opinion | None:
        """Return what the policy thinks of any call of that *risk*."""
        for least, verdict in self._at:
            if risk >= least:
                asks = verdict is Verdict.ASK
                return Opinion(
                    verdict=verdict,
                    reason=f"its risk is {risk}",
                    author="risk",
                    approvers=self._approvers if asks else (),
                )
        return None

    def _find(self, tool: str) -> Risk:
        return max((risk for tools, risk in self._tools if named(tools, tool)), default=Risk.LOW)
