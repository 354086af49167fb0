"""
The hooks that a plugin may implement, with `interlock.hookimpl`.

Each takes one frozen object, which can gain fields without breaking anybody. A plugin is asked only when it is
named in `Governor(plugins=…)`; nothing is loaded because it is installed. Hook wrappers and `firstresult` are
refused: with either, one plugin could silence another.
"""

from __future__ import annotations

from decimal import Decimal

import pluggy

from interlock._call import Call
from interlock._usage import ModelUsage
from interlock._verdict import Opinion
from interlock.events import Recorded

__all__ = [
    "PROJECT",
    "ModelUsage",
    "hookimpl",
    "hookspec",
    "interlock_opinion",
    "interlock_price",
    "interlock_recorded",
]

PROJECT = "interlock"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function or method of a plugin as the implementation of the hook of that name."""


@hookspec
def interlock_opinion(call: Call) -> Opinion | None:
    """
    Give an opinion on a call, or None for no view.

    It can make the decision stricter, never looser. Raising, or returning anything else, is a DENY with the
    plugin's name and the cause. Called before every decision, in the caller's thread or event loop, so it must
    not block; an evaluator is the place for slow judgement.
    """


@hookspec
def interlock_price(used: ModelUsage) -> Decimal | None:
    """
    Return what usage of a model costs, in US dollars, or None for no price of one's own.

    Asked where the caller does not say the cost, before the built-in list of prices is. Where several plugins name a
    price, the dearest counts. Raising, or returning anything else, makes the price unknown, which a budget refuses
    unless it says otherwise.
    """


@hookspec
def interlock_recorded(recorded: Recorded) -> None:
    """
    See an event after its commit.

    What it returns is ignored; what it raises is logged and changes nothing. Called in the caller's thread or
    event loop, in the order of each session's events as far as its calls are made one after the other.
    """
