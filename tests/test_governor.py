"""The governor: built whole or not at all, used from anywhere, closed once, the process's default, never shared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection

import interlock
from interlock import Denied, Governor, Misuse, Policy, Verdict, configure, governed
from interlock._state import SessionStatus
from interlock.errors import NotConfigured, PluginError, PolicyError, StoreUnavailable
from interlock.events import CallDecided
from interlock.store import calls, sessions
from interlock.store.tables import DEFAULT as TABLES
from interlock.testing import ManualClock, Recorder
from tests.conftest import ALLOW_ALL
from tests.shapes import BASIC, Shape

MakeGovernor = Callable[..., Governor]
DENY_ALL = {"version": 1, "name": "deny-all", "default": "deny"}


@governed
def refund(order: str) -> str:
    """Refund an order."""
    return f"refunded {order}"


@pytest.fixture
def database(either: str) -> str:
    """Run every test here on both databases."""
    return either


@pytest.fixture(params=["sync", "asyncio", "trio"])
def within(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a function in the governor's block, `with` or `async with`."""

    async def arun(governor: Governor, function: Callable[[], Any]) -> Any:
        async with governor as entered:
            assert entered is governor
            return function()

    def run(governor: Governor, function: Callable[[], Any]) -> Any:
        with governor as entered:
            assert entered is governor
            return function()

    if request.param == "sync":
        return run
    return lambda governor, function: anyio.run(arun, governor, function, backend=request.param)


@pytest.fixture
def no_default() -> Iterator[None]:
    """No default governor, before and after."""
    configure(None)
    yield
    configure(None)


@pytest.mark.promise(1)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_without_a_policy_nothing_governed_runs(
    shape: Shape, governor: MakeGovernor, recorder: Recorder
) -> None:
    """Broken if leaving the policy out allows everything."""
    ran: list[Any] = []
    tool = shape.make(lambda order, amount: ran.append(order))
    books = governor(None, plugins=[recorder])

    with books.session("s", agent="bot") as session:
        with pytest.raises(NotConfigured, match=r"no policy, so it did not run.*policy\.yaml"):
            shape.run(tool, "o-1")
        with pytest.raises(NotConfigured, match="no policy"):
            session.call(interlock.Tool(name="t"), {}, ran.append)
        with pytest.raises(NotConfigured, match="no policy"):
            session.ticket(interlock.Tool(name="t"), {})

    assert ran == []
    assert [recorded.kind for recorded in recorder.recorded] == ["session_opened", "session_closed"]
    assert session.state().opened.policy is None


@pytest.mark.promise(1)
def test_an_empty_policy_allows_nothing(governor: MakeGovernor) -> None:
    """Broken if a policy that says nothing lets something through."""
    empty = {"version": 1, "name": "empty"}

    with governor(empty).session("s", agent="bot"), pytest.raises(Denied):
        refund("o-1")


def test_the_policy_may_be_given_in_every_form(governor: MakeGovernor, tmp_path: Path) -> None:
    """Broken if a file, its name, a mapping or a `Policy` of the same content make different policies."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nname: allow-all\ndefault: allow\n", "utf-8")

    forms: list[Any] = [path, str(path), ALLOW_ALL, Policy.build(ALLOW_ALL)]
    made = [governor(form, url="sqlite://") for form in forms]

    assert len({one.policy.digest for one in made if one.policy is not None}) == 1
    for one in made:
        with one.session("s", agent="bot"):
            assert refund("o-1") == "refunded o-1"


def test_the_policy_is_kept_with_the_books(governor: MakeGovernor, recorder: Recorder) -> None:
    """Broken if nobody can find out later what the policy said that a decision names."""
    books = governor(plugins=[recorder])
    with books.session("s", agent="bot"):
        refund("o-1")

    (decided,) = [event for event in recorder.events if isinstance(event, CallDecided)]
    assert decided.policy == books.policy.digest
    row = books.read(lambda connection: connection.execute(_kept(decided.policy)).one())
    assert (row.name, row.document) == ("allow-all", books.policy.text)


def _kept(digest: str) -> Any:
    table = TABLES.policies
    return table.select().where(table.c.digest == digest)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"policy": {"version": 1, "name": "x", "rulez": []}}, PolicyError, "rulez"),
        ({"policy": "missing.yaml"}, PolicyError, r"missing\.yaml"),
        (
            {"policy": {**ALLOW_ALL, "evaluators": [{"use": "nobody"}]}},
            PluginError,
            "nothing installed offers 'nobody'",
        ),
        ({"plugins": ["nobody"]}, PluginError, "nothing installed offers 'nobody'"),
        ({"url": "not a url"}, Misuse, "no database URL|not a database URL"),
        ({"url": "sqlite:////missing/directory/x.db"}, StoreUnavailable, "cannot be used"),
    ],
    ids=["key", "file", "evaluator", "plugin", "url", "directory"],
)
def test_what_is_wrong_is_said_at_once(
    options: dict[str, Any], error: type[Exception], complaint: str, governor: MakeGovernor
) -> None:
    """Broken if a governor is built with something missing, and calls find out, or worse, do not."""
    with pytest.raises(error, match=complaint):
        governor(**{"policy": ALLOW_ALL, "url": "sqlite://", **options})


def test_closed_by_its_block_and_once(within: Callable[..., Any], governor: MakeGovernor) -> None:
    """Broken if a governor is not closed by its block, or closing it again fails."""
    books = governor()
    within(books, lambda: None)

    with pytest.raises(StoreUnavailable, match="closed"):
        books.write(lambda _: None)
    books.close()
    books.close()


@pytest.mark.promise(1)
@pytest.mark.parametrize("shape", BASIC, ids=str)
def test_closed_it_runs_nothing(shape: Shape, governor: MakeGovernor) -> None:
    """Broken if a tool runs where nothing can be recorded any more."""
    ran: list[Any] = []
    tool = shape.make(lambda order, amount: ran.append(order))
    books = governor()
    session = books.session("s", agent="bot")
    session.__enter__()
    books.close()

    with pytest.raises(StoreUnavailable, match="nothing was written"):
        shape.run(tool, "o-1")
    with pytest.raises(StoreUnavailable):
        session.__exit__(None, None, None)

    assert ran == []


async def test_operations(governor: MakeGovernor) -> None:
    """Broken if operations do not get their arguments, give their results, or raise what they raise."""
    books = governor()

    def operation(connection: Connection, first: int, *, second: int) -> tuple[int, int, int]:
        return connection.exec_driver_sql("SELECT 7").scalar_one(), first, second

    def failing(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO policies VALUES ('d', 'n', '{}', 0)")
        raise ZeroDivisionError

    assert books.write(operation, 1, second=2) == (7, 1, 2)
    assert books.read(operation, 1, second=2) == (7, 1, 2)
    assert await books.awrite(operation, 1, second=2) == (7, 1, 2)
    with pytest.raises(ZeroDivisionError):
        books.write(failing)
    with pytest.raises(ZeroDivisionError):
        await books.awrite(failing)
    kept = books.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM policies").scalar_one())
    assert kept == 1


def test_what_is_read_is_not_written(governor: MakeGovernor) -> None:
    """Broken if a read can change the books."""
    books = governor()

    with pytest.raises(StoreUnavailable):
        books.read(lambda connection: connection.exec_driver_sql("DELETE FROM policies"))

    kept = books.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM policies").scalar_one())
    assert kept == 1


def test_two_governors_share_nothing(governor: MakeGovernor) -> None:
    """Broken if what one governor of a process decides or records shows in another's."""
    recorders = Recorder(), Recorder()
    allowing = governor(ALLOW_ALL, url="sqlite://", plugins=[recorders[0]])
    denying = governor(DENY_ALL, url="sqlite://", plugins=[recorders[1]])
    barrier = threading.Barrier(2)

    def run(books: Governor) -> str:
        with books.session("s", agent="bot") as session:
            for number in range(30):
                barrier.wait(30)
                if books is allowing:
                    assert refund(f"o-{number}") == f"refunded o-{number}"
                else:
                    with pytest.raises(Denied):
                        refund(f"o-{number}")
            return session.id

    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(run, (allowing, denying)))

    for books, recorder, session_id, verdict in zip(
        (allowing, denying), recorders, ids, (Verdict.ALLOW, Verdict.DENY), strict=True
    ):
        (report,) = books.verify()
        assert (report.session_id, report.problem) == (session_id, None)
        assert report.state.verdicts == {verdict: 30}
        assert {recorded.session_id for recorded in recorder.recorded} == {session_id}
    with (
        allowing.session("outer", agent="bot"),
        denying.session("inner", agent="bot"),
        pytest.raises(Denied),
    ):
        refund("o-1")


def test_two_governors_on_one_database_share_the_books(governor: MakeGovernor) -> None:
    """Broken if a second governor, as in another worker, does not find what the first recorded."""
    first, second = governor(), governor(DENY_ALL)
    with first.session("s", agent="bot") as session:
        refund("o-1")
        row = second.read(sessions.get, session.id)
        assert (row.status, row.head) == (SessionStatus.OPEN, 3)

    (report,) = second.verify()
    assert (report.session_id, report.problem) == (session.id, None)


def test_its_clock_is_the_only_one(governor: MakeGovernor, recorder: Recorder) -> None:
    """Broken if a time is read elsewhere than at the governor's clock."""
    clock = ManualClock()
    with governor(plugins=[recorder], clock=clock).session("s", agent="bot"):
        refund("o-1")

    assert {recorded.at for recorded in recorder.recorded} == {clock.start}


def test_plugins_see_the_events_in_order(governor: MakeGovernor, recorder: Recorder) -> None:
    """Broken if what plugins are shown is not what is recorded, in the order of the session."""
    books = governor(plugins=[recorder])
    with books.session("s", agent="bot") as session:
        refund("o-1")
        books.read(calls.in_doubt)

    history = books.read(sessions.get, session.id)
    assert [recorded.seq for recorded in recorder.recorded] == [1, 2, 3, 4]
    assert recorder.recorded[-1].hash == history.head_hash


@pytest.mark.promise(1)
def test_no_default_governor(no_default: None) -> None:
    """Broken if there is a governor that nobody configured."""
    with pytest.raises(NotConfigured, match=r"interlock\.configure"):
        interlock.session("s", agent="bot")


def test_the_default_governor(
    no_default: None, governor: MakeGovernor, within: Callable[..., Any]
) -> None:
    """Broken if `interlock.session` does not open sessions of the configured governor."""
    books = governor()
    configure(books)

    with interlock.session("s", agent="bot", user="u", team="t", org="o") as session:
        assert refund("o-1") == "refunded o-1"

    assert books.read(sessions.get, session.id).identity == interlock.Identity(
        agent="bot", user="u", team="t", org="o"
    )


def test_the_default_governor_is_set_once(no_default: None, governor: MakeGovernor) -> None:
    """Broken if one library of a process can take another's governor away."""
    books, other = governor(url="sqlite://"), governor(url="sqlite://")
    configure(books)
    configure(books)

    with pytest.raises(Misuse, match=r"take it away first with configure\(None\)"):
        configure(other)
    with interlock.session("s", agent="bot") as session:
        assert books.read(sessions.get, session.id).name == "s"

    configure(None)
    configure(other)
    with interlock.session("s", agent="bot") as session:
        assert other.read(sessions.get, session.id).name == "s"


def test_the_default_governor_is_every_threads(no_default: None, governor: MakeGovernor) -> None:
    """Broken if threads, which inherit no session, do not find the default governor either."""
    configure(governor(url="sqlite://"))

    def run() -> str:
        with interlock.session("s", agent="bot"):
            return refund("o-1")

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result() == "refunded o-1"


@pytest.mark.promise(1)
def test_a_default_governor_is_no_session(no_default: None, governor: MakeGovernor) -> None:
    """Broken if a call outside any session runs because the process has a governor."""
    configure(governor(url="sqlite://"))

    with pytest.raises(NotConfigured, match="outside any session"):
        refund("o-1")
