"""Evaluators for the tests: made out of a function, and policies that name them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator


class Config(BaseModel, extra="forbid"):
    """What the evaluators of these tests are told."""

    word: str = Field(default="", max_length=5)

    @field_validator("word")
    @classmethod
    def _is_no_curse(cls, word: str) -> str:
        if word == "darn":
            raise ValueError("not this word")
        return word


def judge(evaluate: Any) -> type:
    """Make an evaluator out of a function of itself and a call."""

    class Judge:
        def __init__(self, config: Config) -> None:
            self.config = config

    Judge.Config = Config  # type: ignore[attr-defined]
    Judge.evaluate = evaluate  # type: ignore[attr-defined]
    return Judge


def reviewer(review: Any) -> type:
    """Make an evaluator of the stage `after` out of a function of itself, a call and a result."""
    made = judge(None)
    del made.evaluate  # type: ignore[attr-defined]
    made.stage = "after"  # type: ignore[attr-defined]
    made.review = review  # type: ignore[attr-defined]
    return made


def naming(*names: str, timeout: str = "30s", default: str = "allow") -> dict[str, Any]:
    """Make a policy that names those evaluators for every tool."""
    evaluators = [{"use": name, "timeout": timeout} for name in names]
    return {"version": 1, "name": "p", "default": default, "evaluators": evaluators}
