"""
Binding and Prepared: which tables and which clock a connection works with, and statements compiled once for them.

Operations are functions of a `Connection` and find all else through it, so that the same function works in the
store's own transactions and in those of a host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Table,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.base import Executable

from interlock._clock import Clock, SystemClock
from interlock.store.link import Link, Statement
from interlock.store.owner import NOBODY, Owner
from interlock.store.tables import DEFAULT, Tables, UtcMicroseconds, from_microseconds
from interlock.store.worker import Worker

OPTION = "interlock"
"""The execution option in which a connection carries its `Binding`."""


class Binding:
    """What a connection is bound to."""

    def __init__(
        self,
        tables: Tables = DEFAULT,
        *,
        clock: Clock | None = None,
        link: Link | None = None,
        worker: Worker | None = None,
        shard: int = 0,
        owner: Owner | None = None,
        compiled: dict[Prepared, Statement] | None = None,
    ) -> None:
        """
        Bind a connection.

        Args:
            tables: Where its store keeps things.
            clock: Where operations read the time; None means the database's own clock.
            link: What executes prepared statements; None means SQLAlchemy does.
            worker: Who writes over that link, where budgets can be leased to it.
            shard: Of the counters, the part that is counted in over that link.
            owner: As whom this process opens sessions and calls; None: as nobody.
            compiled: Statements compiled already for the same tables and dialect.
        """
        self.tables = tables
        self.clock = clock
        self.link = link
        self.worker = worker
        self.shard = shard
        self.owner = owner
        self._compiled: dict[Prepared, Statement] = {} if compiled is None else compiled

    @property
    def me(self) -> str:
        """The id of the owner."""
        return NOBODY if self.owner is None else self.owner.id

    def over(self, link: Link) -> Binding:
        """Return the same binding for the connection of *link*."""
        return Binding(
            self.tables,
            clock=self.clock,
            link=link,
            worker=self.worker,
            shard=self.shard,
            owner=self.owner,
            compiled=self._compiled,
        )

    def statement(self, prepared: Prepared, dialect: Dialect) -> Statement:
        """Return *prepared*, compiled for this binding's tables."""
        found = self._compiled.get(prepared)
        if found is None:
            compiled = prepared.build(self.tables).compile(dialect=dialect)
            # Such as the number of a LIMIT, which SQLAlchemy makes a parameter of its own.
            fixed = {name: given for name, given in compiled.params.items() if given is not None}
            found = Statement(str(compiled), compiled.positiontup, fixed=fixed)
            self._compiled[prepared] = found
        return found


_UNBOUND = Binding()
_machine = SystemClock()


def binding(connection: Connection) -> Binding:
    """Return what *connection* is bound to: the plain tables when nothing has been said."""
    found: Binding = connection.get_execution_options().get(OPTION, _UNBOUND)
    return found


def tables_of(connection: Connection) -> Tables:
    """Return the tables that *connection* works with."""
    return binding(connection).tables


def now(connection: Connection) -> datetime:
    """
    Return the store's time, aware and in UTC.

    It is the clock that the host gave its governor, else the database server's, so that workers on several machines
    agree; SQLite's is this machine's.
    """
    return told(connection, read(connection, ask_time(connection))[0])


def ask_time(connection: Connection) -> tuple[Prepared, list[dict[str, object]]]:
    """Return the request that `told` needs the rows of, to ask for the time together with other things."""
    is_server = binding(connection).clock is None and connection.dialect.name == "postgresql"
    return _SERVER_TIME, [{}] if is_server else []


def told(connection: Connection, rows: list[list[Any]]) -> datetime:
    """Return the store's time, given what came of `ask_time`."""
    if rows:
        return from_microseconds(rows[0][0][0])
    clock = binding(connection).clock
    return _machine.now() if clock is None else clock.now()


class Prepared:
    """
    A statement of the hot path: built once for each set of tables, and executed by the driver itself where it can be.

    Times are whole microseconds here, as they are stored.
    """

    def __init__(self, build: Callable[[Tables], Executable]) -> None:
        """Remember how the statement is built; all its values are parameters by name."""
        self._build = build

    def build(self, tables: Tables) -> Any:
        """Return the statement over *tables*."""
        return self._build(tables)

    def rows(
        self, connection: Connection, parameters: Sequence[Mapping[str, object]]
    ) -> list[list[Any]]:
        """Execute with each of *parameters*, in order; return the rows of each."""
        return read(connection, (self, parameters))[0]

    def row(self, connection: Connection, **parameters: object) -> Any | None:
        """Execute once; return the first row, or None."""
        (found,) = self.rows(connection, [parameters])
        return found[0] if found else None

    def run(self, connection: Connection, parameters: Sequence[Mapping[str, object]]) -> None:
        """Execute with each of *parameters*, in order; nothing is done for none."""
        if not parameters:
            return
        bound = binding(connection)
        if bound.link is not None:
            bound.link.run(bound.statement(self, connection.dialect), parameters)
        else:
            connection.execute(self.build(bound.tables), [dict(one) for one in parameters])


def read(
    connection: Connection, *requests: tuple[Prepared, Sequence[Mapping[str, object]]]
) -> list[list[list[Any]]]:
    """Execute statements, each with each of its parameters, in order and at once; return the rows of each."""
    bound = binding(connection)
    if bound.link is not None:
        dialect = connection.dialect
        return bound.link.read(
            [(bound.statement(prepared, dialect), parameters) for prepared, parameters in requests]
        )
    return [
        [
            list(connection.execute(statement, dict(one)))
            for statement in [prepared.build(bound.tables)]
            for one in parameters
        ]
        for prepared, parameters in requests
    ]


def raw(column: Any) -> Any:
    """Return *column* for a prepared statement: a time as the integer that is stored."""
    return type_coerce(column, BigInteger) if isinstance(column.type, UtcMicroseconds) else column


def as_stored(table: Table) -> Any:
    """Return the query of whole rows of *table*, times as the integers that are stored: it reads whatever is there."""
    return select(*(raw(column).label(column.name) for column in table.columns))


def value(column: Any, name: str | None = None) -> Any:
    """Return the parameter of a prepared statement that goes into, or is compared with, *column*."""
    kind = BigInteger() if isinstance(column.type, UtcMicroseconds) else column.type
    return bindparam(name or column.name, type_=kind)


def insertion(table: Table, build: Callable[[Table], Any] = insert) -> Any:
    """
    Return the insertion of a row of *table*, its parameters named like its columns, as *build* begins it.

    What the database numbers is left to it.
    """
    row = {column.name: value(column) for column in table.columns if column.identity is None}
    return build(table).values(row).inline()


class Unless:
    """A prepared insertion that does nothing where the row's key is taken, by another worker too."""

    def __init__(self, table: Callable[[Tables], Table]) -> None:
        """Insert whole rows of a table."""
        self._by_dialect = {
            "sqlite": Prepared(lambda tables: _unless_there(sqlite.insert, table(tables))),
            "postgresql": Prepared(lambda tables: _unless_there(postgresql.insert, table(tables))),
        }

    def run(self, connection: Connection, parameters: Sequence[Mapping[str, object]]) -> None:
        """Execute with each of *parameters*, in order."""
        self._by_dialect[connection.dialect.name].run(connection, parameters)


def plain(connection: Connection) -> Connection:
    """Return *connection*, ready for statements that are not prepared, inside the same transaction."""
    link = binding(connection).link
    return connection if link is None else link.plain()


def _unless_there(build: Any, table: Table) -> Any:
    return insertion(table, build).on_conflict_do_nothing()


_SERVER_TIME = Prepared(
    lambda _: select(
        cast(func.extract("epoch", func.clock_timestamp()) * literal_column("1000000"), BigInteger)
    )
)
