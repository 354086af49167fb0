"""
The evaluators that look back: `rate` and `sequence`.

They are named like any evaluator. But what they judge by is the books, so they speak in the transaction that decides,
where what they say is exact however many calls are made at once: a rate is a budget of calls, and a sequence is
remembered by the session.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, ValidationError, model_validator

from interlock import _canonical
from interlock._budget import Budget, Dimension, Limits
from interlock._calendar import Period
from interlock._memory import Memory, Steps, Tracker
from interlock._verdict import Opinion, Verdict
from interlock.policy.names import matcher
from interlock.policy.questions import EvaluatorDocument
from interlock.policy.values import Duration, Misplaced, Name, OneOrMore, Strict
from interlock.policy.wording import further, sentence


class _Speaker(Strict):
    verdict: Literal["ask", "steer", "deny"] = "deny"
    guidance: str | None = None
    suggest: tuple[Name, ...] = ()
    approvers: tuple[Name, ...] = ()
    expires: Duration | None = None

    @model_validator(mode="after")
    def _fits(self) -> _Speaker:
        for verdict, keys in {
            "steer": ("guidance", "suggest"),
            "ask": ("approvers", "expires"),
        }.items():
            for key in keys:
                if key in self.model_fields_set and self.verdict != verdict:
                    raise Misplaced(
                        f"{key!r} goes with verdict {verdict!r}, not {self.verdict!r}", key
                    )
        if self.verdict == "steer" and not (self.guidance or self.suggest):
            raise ValueError(
                "verdict 'steer' needs 'guidance' or 'suggest': where should the model go?"
            )
        return self


class RateConfig(_Speaker):
    """How many calls there may be in each window of time, for each session, user and so on by itself."""

    calls: Annotated[StrictInt, Field(ge=0, lt=2**62)]
    window: Literal["second", "minute", "hour", "day"]
    per: OneOrMore[Literal["session", "user", "team", "org", "agent", "tool", "model"]]


class SequenceConfig(_Speaker):
    """Calls that must not follow one another: the one that would complete them, in this order, is judged."""

    calls: tuple[Name, ...] = Field(min_length=2)
    reason: str | None = None


CONFIGS: dict[str, type[_Speaker]] = {"rate": RateConfig, "sequence": SequenceConfig}
"""The evaluators that look back, by name, and what `with:` holds for each."""


class Sequence:
    """
    The evaluator `sequence`, made ready.

    Attributes:
        tracker: What a session has to remember for it.
    """

    def __init__(self, item: EvaluatorDocument, config: SequenceConfig) -> None:
        """Make ready what *item* names, with its configuration."""
        self.tracker: Tracker = Steps(config.calls)
        self._judges = matcher(item.tools)
        self._completes = matcher(config.calls[-1:])
        self._least = len(config.calls) - 1
        self._opinion = Opinion(
            verdict=Verdict(config.verdict),
            reason=config.reason or f"it would complete the sequence {' → '.join(config.calls)}",
            author="evaluator:sequence",
            guidance=config.guidance,
            suggestions=config.suggest,
            approvers=config.approvers,
            expires=config.expires,
        )

    def opinion(self, tool: str, memory: Memory) -> Opinion | None:
        """Return what is said to a call of *tool*; None: it completes nothing."""
        if not (self._judges(tool) and self._completes(tool)):
            return None
        return self._opinion if memory[self.tracker.key] >= self._least else None


def sequences(items: tuple[EvaluatorDocument, ...]) -> tuple[Sequence, ...]:
    """Return those of *items* that are sequences, made ready."""
    found = ((item, config_of(item)) for item in items if item.use == "sequence")
    return tuple(
        Sequence(item, config) for item, config in found if isinstance(config, SequenceConfig)
    )


def rates(items: tuple[EvaluatorDocument, ...]) -> tuple[Budget, ...]:
    """Return those of *items* that are rates, as the budgets that they are."""
    found = ((item, config_of(item)) for item in items if item.use == "rate")
    return tuple(_budget(item, config) for item, config in found if isinstance(config, RateConfig))


def config_of(item: EvaluatorDocument) -> _Speaker:
    """
    Return the configuration of an evaluator that looks back.

    Raises:
        Misplaced: it is wrong.
    """
    try:
        return CONFIGS[item.use].model_validate(dict(item.with_))
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        said = sentence(first, sorted(CONFIGS[item.use].model_fields))
        raise Misplaced(said, "with", *first["loc"], *further(first)) from None


def _budget(item: EvaluatorDocument, config: RateConfig) -> Budget:
    # What identifies the books is what is counted, so that another limit does not begin at nothing.
    counted: Any = {"per": list(config.per), "tools": list(item.tools), "window": config.window}
    return Budget(
        name=f"rate:{_canonical.digest(_canonical.encode(counted))[:12]}",
        per=tuple(Dimension(one) for one in config.per),
        period=Period(config.window),
        limits=Limits(calls=config.calls),
        tools=item.tools,
        on_exceed=Verdict(config.verdict),
        guidance=config.guidance,
        suggestions=config.suggest,
        approvers=config.approvers,
        expires=config.expires,
    )
