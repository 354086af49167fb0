"""Tools in a module of their own, governed and plain in pairs, to be imported, pickled and read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from decimal import Decimal

from interlock import governed


@governed(resource="order", cost="amount")
def refund(
    order: str, amount: Decimal = Decimal(1), *lines: int, note: str = "", **more: int
) -> str:
    """Refund an order."""
    return order


def plain_refund(
    order: str, amount: Decimal = Decimal(1), *lines: int, note: str = "", **more: int
) -> str:
    """Refund an order."""
    return order


@governed
async def fetch(order: str) -> str:
    """Fetch an order."""
    return order


async def plain_fetch(order: str) -> str:
    """Fetch an order."""
    return order


@governed
def lines(order: str, count: int = 2) -> Generator[int, str, Decimal]:
    """Go through the lines of an order."""
    yield from range(count)
    return Decimal(count)


def plain_lines(order: str, count: int = 2) -> Generator[int, str, Decimal]:
    """Go through the lines of an order."""
    yield from range(count)
    return Decimal(count)


@governed
async def alines(order: str, count: int = 2) -> AsyncGenerator[int, str]:
    """Go through the lines of an order."""
    for number in range(count):
        yield number


async def plain_alines(order: str, count: int = 2) -> AsyncGenerator[int, str]:
    """Go through the lines of an order."""
    for number in range(count):
        yield number


class Desk:
    """Where orders are refunded."""

    def __init__(self, name: str = "front") -> None:
        """Open the desk."""
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Desk) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __len__(self) -> int:
        return 0  # so that the desk is falsy

    @governed
    def refund(self, order: str) -> str:
        """Refund an order at this desk."""
        return f"{self.name} {order}"

    @governed
    @classmethod
    def named(cls, order: str) -> str:
        """Refund an order at some desk."""
        return f"{cls.__name__} {order}"

    @governed
    @staticmethod
    def anywhere(order: str) -> str:
        """Refund an order anywhere."""
        return order

    def plain_refund(self, order: str) -> str:
        """Refund an order at this desk."""
        return f"{self.name} {order}"

    @classmethod
    def plain_named(cls, order: str) -> str:
        """Refund an order at some desk."""
        return f"{cls.__name__} {order}"

    @staticmethod
    def plain_anywhere(order: str) -> str:
        """Refund an order anywhere."""
        return order
