"""Situation: what a policy is asked about: a call, and what is known around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeAlias

import msgspec
from immutabledict import immutabledict

from interlock._call import Call, Risk
from interlock._memory import Memory
from interlock._verdict import Mode, Opinion

_NOTHING: Mapping[str, int] = immutabledict()
_UNASKED: Mapping[str, Opinion | None] = immutabledict()


class Situation(msgspec.Struct, frozen=True):
    """
    A call and what is known around it; nothing else counts, so the same situation gets the same answer for ever.

    Attributes:
        call: What is attempted.
        risk: How risky it is, all told.
        mode: What becomes of the answer.
        at: The store's time; None while it has not been read.
        memory: What the session remembers; of trackers that are not in it nothing is known.
        answers: What the evaluators think that conditions ask, by their key.
    """

    call: Call
    risk: Risk
    mode: Mode = Mode.ENFORCE
    at: datetime | None = None
    memory: Memory = _NOTHING
    answers: Mapping[str, Opinion | None] = _UNASKED


class Fault(msgspec.Struct, frozen=True):
    """Why a condition cannot be told; a sentence without argument values."""

    reason: str


Answer: TypeAlias = bool | Fault
Predicate: TypeAlias = Callable[[Situation], Answer]
