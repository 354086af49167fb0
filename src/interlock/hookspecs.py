"""
The hooks that a plugin may implement, with `interlock.hookimpl`.

Each takes one frozen object, which can gain fields without breaking anybody. A plugin is asked only when it is
named in `Governor(plugins=…)`; nothing is loaded because it is installed. Hook wrappers and `firstresult` are
refused: with either, one plugin could silence another.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pluggy

from interlock._call import Call, Risk
from interlock._redaction import Content
from interlock._ticket import Ticket
from interlock._usage import ModelUsage
from interlock._verdict import Opinion
from interlock.events import Recorded

__all__ = [
    "PROJECT",
    "Content",
    "ModelUsage",
    "hookimpl",
    "hookspec",
    "interlock_approval_requested",
    "interlock_closing",
    "interlock_evaluators",
    "interlock_opinion",
    "interlock_price",
    "interlock_recorded",
    "interlock_redact",
    "interlock_risk",
    "interlock_session_closed",
    "interlock_session_opened",
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
def interlock_risk(call: Call) -> Risk | None:
    """
    Say how risky a call is, or None for no view.

    It can make a call riskier than its tool declares, never less. Raising, or returning anything else, is a DENY with
    the plugin's name and the cause. Called before every decision, as `interlock_opinion` is, so it must not block.
    """


@hookspec
def interlock_redact(content: Content) -> str | None:
    """
    Return what to record instead of one text within the arguments of a call, or None to leave it as it is.

    Shown each text before the call is recorded, and each of what a host notes by `Session.record`; keys of mappings
    too, but not what is declared a secret. It changes what is recorded, never what is judged, what runs, or the
    digest. Each plugin sees what the one before has left.
    Raising, or returning what is no text that can be recorded, withholds the whole text: `{"$redacted": "<plugin>"}`.
    """


@hookspec
def interlock_evaluators() -> Mapping[str, type]:
    """
    Return evaluators by the names that policies use, as `Governor(evaluators=…)` takes them.

    Asked once, when the governor is built. Raising, returning anything else, or a name that somebody else offers too,
    is a `PluginError`. The plugin's version is recorded with their opinions.
    """
    raise NotImplementedError  # pluggy calls implementations, never what they implement


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


@hookspec
def interlock_approval_requested(ticket: Ticket) -> None:
    """
    See a ticket that was opened: a human is asked. Called once for each ticket, after its commit.

    What it returns is ignored; what it raises is logged and changes nothing. It must not block.
    """


@hookspec
def interlock_closing() -> None:
    """
    See that the governor is being closed: finish what is under way, and let go of what is held.

    The store is still open. It must come to an end within a few seconds, since the host waits for it. What it raises is
    logged and changes nothing.
    """


@hookspec
def interlock_session_opened(recorded: Recorded) -> None:
    """See the `SessionOpened` of a session, after its commit, before `interlock_recorded`; otherwise as that."""


@hookspec
def interlock_session_closed(recorded: Recorded) -> None:
    """See the `SessionClosed` of a session, after its commit, before `interlock_recorded`; otherwise as that."""
