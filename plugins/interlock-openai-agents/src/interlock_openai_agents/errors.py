"""Interlock's errors in the one form that the SDK lets through; the run ends with them."""

from __future__ import annotations

from typing import NoReturn

from agents import AgentsException

from interlock import errors


class StoreUnavailable(errors.StoreUnavailable, AgentsException):
    """`interlock.errors.StoreUnavailable` in the one form that the SDK lets through; the run ends with it."""


class NotConfigured(errors.NotConfigured, AgentsException):
    """`interlock.errors.NotConfigured`, likewise."""


class Misuse(errors.Misuse, AgentsException):
    """Any other `interlock.Misuse`, likewise."""


def stop(error: Exception) -> NoReturn:
    """Raise *error*, in a form that ends the run as itself: the SDK would wrap any other in its UserError."""
    for kind in (StoreUnavailable, NotConfigured, Misuse):
        if isinstance(error, kind.__mro__[1]):
            raise kind(*error.args) from error
    raise error
