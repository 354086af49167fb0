"""@governed refuses, when it is applied, what it could not govern as it says."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import Any

import pytest

from interlock import Misuse, governed


class Desk:
    """A class with a method, to be governed."""

    def tool(self, order: str) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"resource": "ordr"}, r"refund: resource='ordr' names no argument; it has: order, amount"),
        ({"cost": "amont"}, r"refund: cost='amont' names no argument"),
        ({"secrets": ["order", "card"]}, r"refund: secrets='card' names no argument"),
        ({"risk": "huge"}, r"refund: risk='huge' is none of low, medium, high, critical"),
        (
            {"cost": "amount", "secrets": ["amount"]},
            "refund: argument 'amount' is a secret, and what cost= names is recorded",
        ),
        (
            {"kind": "model", "model": "order", "secrets": ["amount", "order"]},
            "refund: argument 'order' is a secret, and what model= names is recorded",
        ),
        ({"cost": -1}, "negative"),
        ({"cost": Decimal("NaN")}, "not finite"),
    ],
    ids=["resource", "cost", "secrets", "risk", "secret cost", "secret model", "negative", "nan"],
)
def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    """Broken if a misspelt option is found only at a call, or never."""

    def refund(order: str, amount: int) -> None:
        pass

    with pytest.raises((Misuse, ValueError), match=complaint):
        governed(**options)(refund)


def test_a_methods_object_is_no_argument() -> None:
    """Broken if an option may name what is never among the arguments."""
    with pytest.raises(Misuse, match="resource='self' names no argument; it has: order"):
        governed(resource="self")(Desk.tool)


@pytest.mark.parametrize(
    ("thing", "complaint"),
    [
        (Desk, "Desk is no function"),
        (int, "int is no function"),
        (Desk(), "Desk is no function"),
        ("refund", "str is no function"),
        (property(lambda self: None), "is no function"),
        (max, "max has no signature to bind arguments by"),
    ],
    ids=["class", "type", "object", "text", "property", "builtin"],
)
def test_what_is_no_function_is_refused(thing: Any, complaint: str) -> None:
    """Broken if something is taken for governed that cannot be."""
    with pytest.raises(Misuse, match=complaint):
        governed(thing)


def test_applied_twice_is_refused_through_other_decorators() -> None:
    """Broken if a decorator in between hides that a function is governed already."""

    @governed
    def refund(order: str) -> None:
        pass

    @functools.wraps(refund)
    def outer(order: str) -> None:
        refund(order)

    class Shop:
        method = refund
        static = staticmethod(refund)

    for again in (
        refund,
        outer,
        classmethod(refund),
        staticmethod(refund),
        functools.partial(refund, "o-1"),
        Shop().method,
        Shop.method,
        Shop.static,
    ):
        with pytest.raises(Misuse, match="governed already; remove one of the two"):
            governed(again)
