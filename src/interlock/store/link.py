"""Link: one connection that the writer holds, and what differs between databases about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Connection

Parameters: TypeAlias = Sequence[Mapping[str, object]]
"""One mapping of values by name for each execution of a statement."""


class Statement:
    """
    A statement, compiled for a driver.

    Attributes:
        text: What the driver is given.
        values: Makes what the driver wants out of values by name: they, or a tuple in the order of the text.
    """

    __slots__ = ("text", "values")

    def __init__(
        self, text: str, names: Sequence[str] | None, *, fixed: Mapping[str, object]
    ) -> None:
        """Take *text*, with parameters *names* in this order or, if None, by name; *fixed* are in every execution."""
        self.text = text
        placed: Callable[[Mapping[str, object]], Any]
        if names is None:
            placed = _as_they_are
        elif len(names) > 1:
            placed = itemgetter(*names)
        else:
            placed = lambda one: tuple(one[name] for name in names)  # noqa: E731
        self.values = placed if not fixed else lambda one: placed({**fixed, **one})


def _as_they_are(values: Mapping[str, object]) -> Mapping[str, object]:
    return values


Request: TypeAlias = tuple[Statement, Parameters]
"""A statement, and what it is executed with."""


class Link(Protocol):
    """
    A connection in which the writer begins and ends transactions itself.

    Statements of the hot path go to the driver directly: SQLAlchemy's execution of one costs several times what the
    database needs for it. Everything else uses `connection`, in the same transaction.
    """

    connection: Connection

    def begin(self) -> None:
        """Begin a transaction that may write."""
        ...

    def read(self, requests: Sequence[Request]) -> list[list[list[Any]]]:
        """Execute each statement with each of its parameters, in order; return the rows of each, request by request."""
        ...

    def run(self, statement: Statement, parameters: Parameters) -> None:
        """Execute *statement* with each of *parameters* in order. A failure may show only at the end."""
        ...

    def plain(self) -> Connection:
        """Return `connection`, ready for SQLAlchemy, inside the transaction that was begun."""
        ...

    def commit(self) -> None:
        """Return once the transaction is durable."""
        ...

    def was_committed(self) -> bool | None:
        """
        Whether the transaction is durable whose commit failed because the connection was lost.

        None: nobody can say.
        """
        ...

    def rollback(self) -> None:
        """End the transaction without a trace of it; whatever fails here is raised."""
        ...

    def close(self) -> None:
        """Let go of the connection, whatever state it is in; never raises."""
        ...
