"""Inside a host: several governors in one database, tables in the host's MetaData, operations in its transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    make_url,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session as OrmSession

from interlock import ApprovalNeeded, BudgetExceeded, Governor, Misuse, governed
from interlock._ticket import TicketState
from interlock.errors import Conflict
from interlock.store import budgets, schema, sessions, tickets, usage
from interlock.store.engine import Store
from interlock.store.tables import Tables
from interlock.testing import Recorder
from tests.conftest import ALLOW_ALL

Make = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [
        {"id": "lookups", "tools": ["lookup"], "verdict": "allow"},
        {"id": "refunds", "tools": ["refund"], "verdict": "ask"},
    ],
    "budgets": [{"name": "all", "per": "org", "calls": 3}],
}

HOST = MetaData()
ORDERS = Table("orders", HOST, Column("id", Integer, primary_key=True), Column("what", String(40)))


@governed
def lookup(order: str) -> str:
    """Look an order up."""
    return order


@governed
def refund(order: str) -> str:
    """Pay money back."""
    return order


class Place(NamedTuple):
    """Where a governor keeps its tables."""

    table_prefix: str
    schema: str | None = None


def make_tables(url: str, place: Place) -> None:
    """Do what `interlock db upgrade` does."""
    store = Store(
        url, clock=None, prefix=place.table_prefix, schema_name=place.schema, ensure=False
    )
    store.write(schema.upgrade)
    store.close()


PAIRS = [
    pytest.param("sqlite", Place(""), Place("a_"), id="sqlite-plain-prefix"),
    pytest.param("sqlite", Place("a_"), Place("b_"), id="sqlite-prefixes"),
    pytest.param("postgres", Place(""), Place("a_"), id="postgres-plain-prefix"),
    pytest.param("postgres", Place("a_"), Place("b_"), id="postgres-prefixes"),
    pytest.param("postgres", Place(""), Place("", "gov"), id="postgres-plain-schema"),
    pytest.param("postgres", Place("", "one"), Place("", "two"), id="postgres-schemas"),
    pytest.param("postgres", Place("a_", "one"), Place("a_", "two"), id="postgres-both"),
]


def use(governor: Governor, name: str) -> None:
    """Leave a row in every table."""
    with governor.session(name, agent="bot", org="acme"):
        for _ in range(2):
            lookup(name)
        with pytest.raises(ApprovalNeeded) as asked:
            refund(name)
        governor.write(tickets.approve, asked.value.ticket.id, by="ann")
        governor.record_usage(model=name, cost_usd="0.25", input_tokens=7)  # the third call
        with pytest.raises(BudgetExceeded):
            lookup(name)


def everything(governor: Governor) -> dict[str, list[str]]:
    """Return what tells of whom, table by table."""

    def operation(connection: Connection) -> dict[str, list[str]]:
        tables = governor._machinery.store.tables
        columns = {
            "sessions": tables.sessions.c.name,
            "events": tables.events.c.session_id,
            "intents": tables.intents.c.session_id,
            "tickets": tables.tickets.c.arguments,
            "budgets": tables.windows.c.scope,
            "usage": tables.usage.c.model,
            "policies": tables.policies.c.document,
        }
        return {
            name: sorted(set(connection.execute(select(column)).scalars()))
            for name, column in columns.items()
        }

    return governor.read(operation)


@pytest.mark.promise(3)
@pytest.mark.parametrize(("either", "first", "second"), PAIRS, indirect=["either"])
def test_two_governors_in_one_database(
    either: str, first: Place, second: Place, governor: Make
) -> None:
    """Broken if a governor sees a row of another's, or a budget of the same name is shared with it."""
    for place in (first, second):
        make_tables(either, place)
    one = governor(POLICY, url=either, **first._asdict())
    two = governor({**POLICY, "name": "q"}, url=either, **second._asdict())

    use(one, "one")
    before = everything(one)
    assert set(map(len, everything(two).values())) <= {0, 1}
    use(two, "two")

    assert everything(one) == before
    for made, name in ((one, "one"), (two, "two")):
        found = everything(made)
        assert (found["sessions"], found["usage"]) == ([name], [name])
        assert found["tickets"] == [f'{{"order":"{name}"}}']
        assert len(found["events"]) == len(found["policies"]) == 1
        (report,) = made.verify()
        assert (report.name, report.problem) == (name, None)
        (account,) = made.read(budgets.standing)
        assert account.spent.calls == 3
        (total,) = made.read(usage.summary)
        assert (total.of, total.calls) == ((name,), 1)
        assert len(made.read(tickets.pending)) == 0


# The same file that docs/how-to/use-postgres.md shows.
ENV = """
from alembic import context
from sqlalchemy import create_engine

from host_models import metadata
from interlock.store.tables import Tables, render_item

Tables(metadata, prefix="gov_")

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_item=render_item)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
engine.dispose()
"""
MODELS = """
from sqlalchemy import Column, Integer, MetaData, Table

metadata = MetaData(naming_convention={
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
})
orders = Table("orders", metadata, Column("id", Integer, primary_key=True))
"""


@pytest.fixture
def empty(either: str, request: pytest.FixtureRequest) -> str:
    """A database of each kind with nothing in it."""
    if either.startswith("sqlite"):
        return either
    url: str = request.getfixturevalue("empty_postgres")
    return url


def test_the_hosts_alembic_makes_our_tables(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, governor: Make
) -> None:
    """Broken if Alembic's autogenerate in the host's project writes a migration that does not run, or never settles."""
    project = tmp_path / "project"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "host_models.py").write_text(MODELS, "utf-8")
    config = Config()
    config.set_main_option("script_location", str(project))
    config.set_main_option("path_separator", "os")
    url = make_url(empty)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    shown = url.render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", shown.replace("%", "%%"))
    (project / "versions").mkdir(parents=True)
    (project / "env.py").write_text(ENV, "utf-8")
    (project / "script.py.mako").write_text(_MAKO, "utf-8")

    command.revision(config, "ours", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)  # raises where there is still something to be done

    import host_models  # noqa: PLC0415 - just written

    made = governor(POLICY, url=empty, table_prefix="gov_", metadata=host_models.metadata)
    use(made, "one")
    (report,) = made.verify()
    assert report.problem is None
    monkeypatch.delitem(__import__("sys").modules, "host_models")


_MAKO = '''"""${message}"""
from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}
'''


class Desk(NamedTuple):
    """A governor whose database a host has a table in, with a ticket to be answered."""

    governor: Governor
    url: str
    engine: Engine
    ticket: str
    recorder: Recorder

    def orders(self) -> list[str]:
        """Return what is in the host's table."""
        with self.engine.connect() as connection:
            return [row.what for row in connection.execute(select(ORDERS))]

    def state(self) -> TicketState:
        """Where the ticket stands."""
        return self.governor.read(tickets.get, self.ticket).state

    def used(self) -> int:
        """How often usage was recorded."""
        return sum(found.calls for found in self.governor.read(usage.summary))

    def problems(self) -> list[str | None]:
        """What verification finds."""
        return [report.problem for report in self.governor.verify()]


@pytest.fixture(params=["plain", "prefixed"])
def desk(
    request: pytest.FixtureRequest, either: str, governor: Make, recorder: Recorder
) -> Iterator[Desk]:
    """A desk on each database, with and without a prefix."""
    place = Place("gov_" if request.param == "prefixed" else "")
    make_tables(either, place)
    made = governor(POLICY, url=either, plugins=[recorder], **place._asdict())
    driver = "sqlite" if either.startswith("sqlite") else "postgresql+psycopg"
    engine = create_engine(make_url(either).set(drivername=driver))
    HOST.create_all(engine)
    with made.session("s", agent="bot", org="acme"):
        with pytest.raises(ApprovalNeeded) as asked:
            refund("o-1")
        yield Desk(made, either, engine, asked.value.ticket.id, recorder)
    engine.dispose()


class _Undone(Exception):
    """The host changed its mind."""


def work(desk: Desk, transaction: Connection | OrmSession) -> None:
    """Write a row of the host's, answer a ticket, record usage: what a host would do as one thing."""
    transaction.execute(insert(ORDERS).values(what="o-1 refunded"))
    recorded = desk.governor.join(transaction, tickets.approve, desk.ticket, by="ann")
    assert recorded.kind == "ticket_resolved"
    receipt = desk.governor.record_usage(within=transaction, model="m-1", cost_usd="0.25")
    assert receipt.priced.cost_usd == Decimal("0.25")
    # Seen inside, and by nobody else yet.
    inside = desk.governor.join(transaction, tickets.get, desk.ticket)
    assert (inside.state, desk.state()) == (TicketState.APPROVED, TicketState.PENDING)


def in_connection(desk: Desk, *, keep: bool) -> None:
    """In a transaction of Core."""
    with desk.engine.connect() as connection, suppress(_Undone), connection.begin():
        work(desk, connection)
        if not keep:
            raise _Undone


def in_session(desk: Desk, *, keep: bool) -> None:
    """In a transaction of the ORM."""
    with OrmSession(desk.engine) as session:
        work(desk, session)
        session.commit() if keep else session.rollback()


def in_async_session(desk: Desk, *, keep: bool) -> None:
    """In a transaction of the ORM, on an event loop."""
    sqlite = desk.url.startswith("sqlite")
    driver = "sqlite+aiosqlite" if sqlite else "postgresql+psycopg"

    async def main() -> None:
        engine = create_async_engine(make_url(desk.url).set(drivername=driver))
        async with AsyncSession(engine) as session:
            await session.run_sync(lambda inner: work(desk, inner))
            await (session.commit() if keep else session.rollback())
        await engine.dispose()

    asyncio.run(main())


WAYS = pytest.mark.parametrize(
    "way", [in_connection, in_session, in_async_session], ids=lambda way: way.__name__
)


@WAYS
@pytest.mark.parametrize("keep", [True, False], ids=["committed", "rolled-back"])
def test_the_hosts_transaction_is_the_books(
    desk: Desk, way: Callable[..., None], *, keep: bool
) -> None:
    """Broken if a business row and its governance record can be committed one without the other."""
    shown = list(desk.recorder.recorded)

    way(desk, keep=keep)

    assert desk.orders() == (["o-1 refunded"] if keep else [])
    assert desk.state() is (TicketState.APPROVED if keep else TicketState.PENDING)
    assert desk.used() == int(keep)
    assert desk.problems() == [None]
    assert desk.recorder.recorded == shown, "plugins were shown what might yet be rolled back"
    if keep:
        assert refund("o-1") == "o-1"
    else:
        with pytest.raises(ApprovalNeeded):
            refund("o-1")


def test_what_is_refused_spoils_nothing(desk: Desk) -> None:
    """Broken if a refusal of ours takes the host's own work down with it, or commits something by itself."""
    with desk.engine.begin() as connection:
        connection.execute(insert(ORDERS).values(what="first"))
        with pytest.raises(Conflict, match="there is no ticket x"):
            desk.governor.join(connection, tickets.approve, "x", by="ann")
        with pytest.raises(Misuse):
            desk.governor.record_usage(within=connection, model="m-1", cost_usd=-1)
        connection.execute(insert(ORDERS).values(what="second"))

    assert (desk.orders(), desk.used()) == (["first", "second"], 0)
    assert desk.problems() == [None]


def test_one_transaction_for_two_governors(desk: Desk, governor: Make) -> None:
    """Broken if a connection that one governor has worked on leads another's work into the first one's tables."""
    make_tables(desk.url, Place("other_"))
    other = governor(POLICY, url=desk.url, table_prefix="other_")

    with desk.engine.begin() as connection:
        for each, model in ((desk.governor, "m-1"), (other, "m-2"), (desk.governor, "m-3")):
            each.record_usage(within=connection, model=model, cost_usd=1)

    models = [
        sorted(found.of[0] or "" for found in each.read(usage.summary))
        for each in (desk.governor, other)
    ]
    assert models == [["m-1", "m-3"], ["m-2"]]


@pytest.mark.parametrize("mixed", [False, True], ids=["own", "anothers"])
def test_joining_the_governors_own_transaction(desk: Desk, governor: Make, *, mixed: bool) -> None:
    """Broken if an operation that joins in an operation spoils the connection that the store writes with."""
    make_tables(desk.url, Place("other_"))
    other = governor(ALLOW_ALL, url=desk.url, table_prefix="other_")
    joined = other if mixed else desk.governor

    def operation(connection: Connection) -> Any:
        return joined.join(connection, tickets.approve, desk.ticket, by="ann")

    if mixed:
        with pytest.raises(Misuse, match="cannot be joined by one on another store"):
            desk.governor.write(operation)
        assert desk.state() is TicketState.PENDING
    else:
        assert desk.governor.write(operation).kind == "ticket_resolved"
        assert refund("o-1") == "o-1"

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(desk.governor.arecord_usage(model=f"m-{number}", cost_usd=0))

    asyncio.run(many())
    assert desk.used() == 2
    assert lookup("o-2") == "o-2" if mixed else True
    assert desk.problems() == [None]


def test_bound_connections_use_the_plain_tables(either: str, governor: Make) -> None:
    """Broken if an operation on a connection that no governor has bound does not find the plain tables."""
    made = governor(ALLOW_ALL, url=either)
    driver = "sqlite" if either.startswith("sqlite") else "postgresql+psycopg"
    engine = create_engine(make_url(either).set(drivername=driver))
    with made.session("s", agent="bot") as session, engine.connect() as connection:
        assert sessions.get(connection, session.id).name == "s"
    engine.dispose()


def test_tables_have_what_they_are_asked_for() -> None:
    """Broken if a host's MetaData with a schema of its own leads to tables that are looked for elsewhere."""
    tables = Tables(MetaData(schema="app"), prefix="gov_")
    assert {"app"} == {table.schema for table in tables.all()} | {tables.schema}
