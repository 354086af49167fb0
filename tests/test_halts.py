"""The kill switch: what is halted stops, everywhere, and only that, until it is released."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from sqlalchemy import create_engine, make_url, text

from interlock import Governor, HaltedError, Verdict, governed
from interlock._clock import new_id
from interlock._decide import Counsel
from interlock.errors import Conflict, Misuse
from interlock.events import CallFinished, Outcome, SessionHalted, SessionReleased
from interlock.store import append_only, calls, entries, halts
from tests import postgres_server as server
from tests.callers import history
from tests.conftest import ALLOW_ALL
from tests.samples import call_of, opinion

WHO = {"agent": "bot", "user": "u-1", "team": "desk", "org": "acme"}
ELSE = {"agent": "clerk", "user": "u-2", "team": "sales", "org": "globex"}


@governed
def ping() -> str:
    """Answer."""
    return "pong"


@governed
def other() -> str:
    """Answer otherwise."""
    return "other"


def _halted(tool: Callable[[], Any]) -> bool:
    try:
        tool()
    except HaltedError:
        return True
    return False


@pytest.mark.promise(4)
@pytest.mark.parametrize("scope", ["system", "org", "team", "user", "agent", "session", "tool"])
def test_each_scope_stops_exactly_its_own(either: str, scope: str) -> None:
    """A halt that stopped less would not stop; one that stopped more would be feared, and so used too late."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        with governor.session("theirs", **ELSE) as theirs, governor.session("mine", **WHO) as mine:
            names = {**WHO, "session": mine.id, "tool": "ping", "system": True}
            done = governor.halt(**{scope: names[scope]}, reason="drill", by="ann")
            assert (done.durable, done.engaged, done.running) == (True, True, 0)
            with mine.attach():
                found = [_halted(ping), _halted(other)]
            with theirs.attach():
                found += [_halted(ping), _halted(other)]
            expected = {
                "system": [True, True, True, True],
                "tool": [True, False, True, False],
            }.get(scope, [True, True, False, False])
            assert expected == found
            governor.release(done.halt.id, reason="over", by="bea")
            with mine.attach():
                assert ping() == "pong"
        assert governor.halts() == []
        assert governor.verify_books() == {}
        assert [report.problem for report in governor.verify() if report.problem] == []


def test_the_refusal_says_what_was_halted_by_whom_and_why(
    governor: Callable[..., Governor],
) -> None:
    """A model that is not told why would try again; an operator needs the id to release it."""
    made = governor()
    with made.session("s", **WHO):
        halt = made.halt(org="acme", reason="leaking data", by="ann").halt
        with pytest.raises(HaltedError, match="leaking data") as caught:
            ping()
    assert (halt.id, "ann", False) == (caught.value.halt.id, caught.value.halt.by, caught.value.ran)
    assert tuple(one.author for one in caught.value.decision.because) == ("halt:org",)


def test_halts_bind_where_a_policy_only_observes(governor: Callable[..., Governor]) -> None:
    """Observing refuses nothing but what is halted: else there would be no way to stop it."""
    made = governor("observe")
    with made.session("s", **WHO):
        made.halt(system=True, reason="drill", by="ann")
        assert _halted(ping)


def test_halting_again_says_that_it_stands_and_releasing_again_is_a_conflict(either: str) -> None:
    """Two who halt at once must both be told that it is halted; a release of nothing must not look like one."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        first = governor.halt(org="acme", reason="drill", by="ann")
        again = governor.halt(org="acme", reason="another", by="bea")
        assert (False, first.halt) == (again.engaged, again.halt)
        assert [first.halt] == governor.halts()
        released = governor.release(first.halt.id, reason="over", by="bea")
        assert (
            released.released_by,
            released.release_reason,
            released.stands,
        ) == ("bea", "over", False)
        with pytest.raises(Conflict, match="no halt"):
            governor.release(first.halt.id, reason="over", by="bea")


@pytest.mark.parametrize(
    "wrong", [{}, {"org": "a", "system": True}, {"org": ""}, {"org": "a", "by": " "}]
)
def test_a_halt_names_one_target_and_somebody(
    governor: Callable[..., Governor], wrong: dict[str, Any]
) -> None:
    """A halt of nothing, or by nobody, must be refused loudly: someone believes that it works."""
    with pytest.raises(Misuse):
        governor().halt(**{"reason": "drill", "by": "ann", **wrong})


def test_an_unknown_session_is_not_said_to_be_halted(governor: Callable[..., Governor]) -> None:
    """A mistyped id that is answered with success would leave the right session running."""
    with pytest.raises(Conflict, match="no session"):
        governor().halt(session="nope", reason="drill", by="ann")


def test_a_halt_of_a_session_is_in_its_history(either: str) -> None:
    """Who reads a session's history must see that it was stopped, by whom, and that it was let go on."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        with governor.session("s", **WHO) as session:
            halt = session.halt(reason="drill", by="ann").halt
            governor.release(halt.id, reason="over", by="bea")
        told = [e for e in history(governor, session.id) if "Session" in type(e).__name__]
        assert [
            SessionHalted(halt_id=halt.id, reason="drill", by="ann"),
            SessionReleased(halt_id=halt.id, reason="over", by="bea"),
        ] == told[1:3]


@pytest.mark.promise(4)
def test_a_damaged_session_can_be_halted(either: str) -> None:
    """Damage to a session's row must not keep anybody from stopping it."""
    with Governor(either, policy=ALLOW_ALL) as governor, governor.session("s", **WHO) as session:
        governor.write(lambda c: c.execute(text("UPDATE sessions SET status = 'broken'")))
        done = session.halt(reason="drill", by="ann")
        assert (done.durable, done.engaged, done.recorded) == (True, True, None)
        governor.write(lambda c: c.execute(text("UPDATE sessions SET status = 'open'")))
        assert _halted(ping)


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE halts SET released_at = 5",
        "UPDATE halts SET by = 'eve'".replace("by", '"by"'),
        "UPDATE halt_log SET reason = 'x'",
        "DELETE FROM halt_log WHERE seq = 1",
    ],
)
def test_a_forged_halt_is_found(either: str, edit: str) -> None:
    """Who may write to the database could release a halt unseen, or blame another for it."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        governor.halt(org="acme", reason="drill", by="ann")
        governor.halt(org="globex", reason="drill", by="ann")
        assert governor.verify_books() == {}
        governor.write(append_only.unprotect)
        governor.write(lambda c: c.execute(text(edit)))
        assert list(governor.verify_books()) == ["halts"]


@pytest.mark.promise(4)
def test_more_halts_than_are_read_at_once_all_bind(either: str) -> None:
    """Halting has no limit and no page: the last of many stops as the first does."""
    with Governor(either, policy=ALLOW_ALL) as governor:
        for number in range(halts.FEW + 5):
            governor.halt(user=f"x-{number}", reason="drill", by="ann")
        for number in (0, halts.FEW + 4):
            with governor.session("s", agent="bot", user=f"x-{number}"):
                assert _halted(ping)
        with governor.session("s", agent="bot", user="u-1"):
            assert not _halted(ping)


@pytest.mark.promise(4)
def test_what_a_sync_tool_returns_after_the_halt_is_withheld(either: str) -> None:
    """A tool that cannot be interrupted must not hand what it found to an agent that was stopped."""

    @governed
    def slow() -> str:
        done.append(governor.halt(org="acme", reason="drill", by="ann"))
        return "secret"

    done: list[Any] = []
    with Governor(either, policy=ALLOW_ALL) as governor:
        with governor.session("s", **WHO) as session, pytest.raises(HaltedError) as caught:
            slow()
        assert (caught.value.ran, done[0].running) == (True, 1)
        (finished,) = (e for e in history(governor, session.id) if isinstance(e, CallFinished))
        assert (Outcome.RETURNED, done[0].halt.id) == (finished.outcome, finished.halt_id)


@pytest.mark.promise(4)
@pytest.mark.parametrize("who", ["same", "other"])
@pytest.mark.anyio
async def test_an_async_call_in_flight_is_cancelled(either: str, who: str) -> None:
    """A call that runs for an hour must not run for an hour after it was halted, wherever the halt was engaged."""
    started = anyio.Event()
    ended: list[str] = []

    @governed
    async def endless() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    with Governor(either, policy=ALLOW_ALL) as governor, Governor(either) as another:
        async with governor.session("s", **WHO) as session, anyio.create_task_group() as group:

            async def run() -> None:
                with pytest.raises(HaltedError) as caught:
                    await endless()
                assert "was cancelled while it ran, and may have had its effect" in str(
                    caught.value
                )
                assert caught.value.ran
                ended.append(caught.value.halt.by)

            group.start_soon(run)
            await started.wait()
            one = governor if who == "same" else another
            done = await one.ahalt(org="acme", reason="drill", by="ann")
            assert done.running == 1
        assert ended == ["cancelled", "ann"]
        (finished,) = (e for e in history(governor, session.id) if isinstance(e, CallFinished))
        assert (Outcome.CANCELLED, done.halt.id) == (finished.outcome, finished.halt_id)


@pytest.mark.promise(4)
def test_no_body_starts_after_halt_returns(either: str) -> None:
    """Were the admission's read of the halts not locked, a call could start after everybody was told it is over."""
    ran = [0]

    @governed
    def work() -> None:
        ran[0] += 1

    def call(governor: Governor, barrier: threading.Barrier) -> None:
        with governor.session("s", **WHO):
            barrier.wait()
            while not _halted(work):
                pass

    with Governor(either, policy=ALLOW_ALL) as one, Governor(either, policy=ALLOW_ALL) as two:
        for _ in range(8):
            ran[0] = 0
            barrier = threading.Barrier(5)
            threads = [
                threading.Thread(target=call, args=(governor, barrier))
                for governor in (one, two, one, two)
            ]
            for thread in threads:
                thread.start()
            barrier.wait()
            while ran[0] < 8:
                pass
            done = one.halt(org="acme", reason="drill", by="ann")
            decided = one.read(_admitted)
            for thread in threads:
                thread.join()
            assert decided == one.read(_admitted)  # none was admitted that the halt had not seen
            one.release(done.halt.id, reason="over", by="ann")


@pytest.mark.promise(4)
def test_halt_waits_for_an_admission_that_has_not_seen_it(postgres: str) -> None:
    """Else an admission that looked before the halt could commit after everybody was told that it is over."""
    inside, gate, finished = threading.Event(), threading.Event(), threading.Event()

    def admit(connection: Any, session_id: str, policy: str) -> bool:
        entry = entries.Admit(
            call=call_of(session_id=session_id, call_id=new_id()),
            counsel=Counsel(opinions=(opinion(Verdict.ALLOW),)),
            policy=policy,
            trace=None,
        )
        (admission,) = calls.post(connection, [entry])
        inside.set()
        gate.wait(30)
        return bool(admission.decision.admits)

    def halt() -> None:
        two.halt(system=True, reason="drill", by="ann")
        finished.set()

    with (
        Governor(postgres, policy=ALLOW_ALL) as one,
        Governor(postgres) as two,
        one.session("s", **WHO) as session,
        ThreadPoolExecutor(2) as pool,
    ):
        assert one.policy is not None
        admitted = pool.submit(one.write, admit, session.id, one.policy.digest)
        inside.wait(30)
        halting = pool.submit(halt)
        while not (waits := one.read(_waits)) and not finished.is_set():
            pass
        found = (waits > 0, finished.is_set())
        gate.set()
        halting.result()
        assert found == (True, False)
        assert admitted.result()
        assert _halted(ping)


@pytest.mark.promise(4)
def test_a_halt_binds_this_process_where_the_store_is_down(
    postgres_server: str, postgres_template: str
) -> None:
    """Whoever halts during an outage must be told what was done and what was not, and have it written down later."""
    with server.database(postgres_server, template=postgres_template) as url:
        governor = Governor(url, policy=ALLOW_ALL)
        session = governor.session("s", **WHO)
        with governor, session:
            with _nobody_connects(postgres_server, server.name_of(url)):
                done = governor.halt(org="acme", reason="drill", by="ann")
                assert (done.durable, done.engaged, done.running) == (False, True, None)
                assert _halted(ping)
            while not governor.halts():
                pass
            assert [(one.by, one.reason) for one in governor.halts()] == [("ann", "drill")]
            assert _halted(ping)


@contextmanager
def _nobody_connects(admin: str, name: str) -> Iterator[None]:
    engine = create_engine(
        make_url(admin).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        yield
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    engine.dispose()


def _waits(connection: Any) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock'"
    return int(connection.execute(text(query)).scalar_one())


def _admitted(connection: Any) -> int:
    query = "SELECT count(*) FROM events WHERE kind = 'call_decided' AND body LIKE '%\"admitted\"_true%'"
    return int(connection.execute(text(query)).scalar_one())


@pytest.mark.promise(4)
@pytest.mark.parametrize("named", [{}, {"org": "a", "team": "b"}, {"orgs": "acme"}, {"org": ""}])
def test_a_target_that_is_not_clear_halts_nothing(database: str, named: dict[str, str]) -> None:
    """A misspelt or doubled target must not halt something else, or pass for a halt."""
    with Governor(database, policy=ALLOW_ALL) as governor:
        with pytest.raises(Misuse):
            governor.halt(reason="drill", by="ann", **named)  # type: ignore[arg-type]
        assert governor.halts() == []
