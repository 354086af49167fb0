"""Reload: another policy for the sessions to come, and the last good one while the file is broken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from interlock import Governor, governed
from interlock.errors import Denied, Misuse, PluginError, PolicyError
from interlock.policy import Policy, PolicyFile
from interlock.store.statements import tables_of
from tests.judges import judge
from tests.language._joining import decisions

CLOSED = "version: 1\nname: closed\n"
OPEN = "version: 1\nname: open\ndefault: allow\n"
ASYNC = [False, True]


@governed(name="pay")
def pay() -> str:
    """Pay."""
    return "paid"


def pays() -> bool:
    """Whether a call gets in."""
    try:
        return pay() == "paid"
    except Denied:
        return False


def opened(governor: Governor, *, is_async: bool = False) -> bool:
    """Whether a call gets in, in a new session."""
    if not is_async:
        with governor.session("s", agent="bot"):
            return pays()

    async def main() -> bool:
        async with governor.session("s", agent="bot"):
            return pays()

    return asyncio.run(main())


def stored(connection: Connection) -> set[str]:
    """The digests of all policies in the store."""
    return {*connection.execute(select(tables_of(connection).policies.c.digest)).scalars()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A policy's file."""
    found = tmp_path / "policy.yaml"
    found.write_text(CLOSED, encoding="utf-8")
    return found


@pytest.mark.parametrize("is_async", ASYNC)
def test_sessions_to_come_have_the_other_policy(governor: Any, path: Path, is_async: bool) -> None:
    """Broken if a reload reaches into a session that was made before, or not those made after."""
    its = governor(path)
    with its.session("before", agent="bot") as before:
        assert not pays()
        path.write_text(OPEN, encoding="utf-8")
        assert not opened(its, is_async=is_async)
        assert its.reload().name == "open"
        assert opened(its, is_async=is_async)
        assert not pays()
        policies = {one.policy for one in decisions(its, before.id)}
    assert policies == {Policy.parse(CLOSED).digest}
    assert its.policy.digest == Policy.parse(OPEN).digest
    assert [report.problem for report in its.verify()] == [None] * 3


def test_a_session_has_the_policy_of_when_it_was_made(governor: Any) -> None:
    """Broken if a session is opened under another policy than `session()` was called under."""
    its = governor(Policy.parse(CLOSED))
    session = its.session("s", agent="bot")
    its.reload(Policy.parse(OPEN))
    with session:
        assert not pays()
        assert {one.policy for one in decisions(its, session.id)} == {Policy.parse(CLOSED).digest}


@pytest.mark.parametrize("is_async", ASYNC)
def test_every_policy_that_decided_is_stored(either: str, is_async: bool) -> None:
    """Broken if a decision names a policy that nobody can look up any more."""
    texts = [OPEN.replace("open", f"p{number}") for number in range(3)]
    with Governor(either, policy=Policy.parse(texts[0])) as its:
        for text in texts:
            its.reload(Policy.parse(text))
            assert opened(its, is_async=is_async)
        assert {Policy.parse(text).digest for text in texts} == its.read(stored)
        assert [report.problem for report in its.verify()] == [None] * 3


@pytest.mark.promise(1)
def test_the_last_good_policy_stays(governor: Any, path: Path) -> None:
    """Broken if a mistake in a file opens a governor, or leaves it without a policy."""
    its = governor(path)
    for text, error in (
        ("version: 1\nname: p\ndefault: alow", PolicyError),
        ("", PolicyError),
        (OPEN + "evaluators: [{use: nobody}]\n", PluginError),
        (None, PolicyError),
    ):
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(error):
            its.reload()
        assert its.policy.name == "closed"
        assert not opened(its)


def test_reload_may_bring_what_came_from_no_file(governor: Any, path: Path) -> None:
    """Broken if another policy needs a file, or an old file comes back later."""
    its = governor({"version": 1, "name": "built"})
    with pytest.raises(Misuse, match="did not come from a file"):
        its.reload()
    assert its.reload(str(path)).name == "closed"
    assert its.reload({"version": 1, "name": "again"}).name == "again"
    with pytest.raises(Misuse, match="did not come from a file"):
        its.reload()
    assert its.reload("observe").mode == "observe"
    assert opened(its)


def test_a_governor_without_a_policy_may_be_given_one(governor: Any, path: Path) -> None:
    """Broken if whoever began with the books alone has to begin anew to govern."""
    its = governor(None)
    its.reload(Policy.parse(OPEN))
    assert opened(its)


def test_only_files_are_watched(governor: Any) -> None:
    """Broken if somebody believes that a policy is watched which cannot change."""
    for policy in ({"version": 1, "name": "p"}, "observe", None):
        with pytest.raises(Misuse, match="watch_policy"):
            governor(policy, watch_policy=True)


@pytest.mark.parametrize("is_async", ASYNC)
def test_a_watched_file_is_followed(
    governor: Any, path: Path, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    """Broken if a change is missed, or a file that is broken, half written or gone does anything but be told."""
    its = governor(path, watch_policy=True)
    first = its.policy
    assert not opened(its, is_async=is_async)
    assert its.policy is first  # not read anew for nothing
    path.write_text(OPEN, encoding="utf-8")
    assert opened(its, is_async=is_async)
    for broken in ("version: 1\nname: clo", OPEN + "rules:\n  - id: a\n    to", ""):
        caplog.clear()
        if broken.endswith("clo"):
            broken += "sed\nrules: ["  # noqa: PLW2901
        path.write_text(broken, encoding="utf-8")
        assert [opened(its, is_async=is_async) for _ in range(3)] == [True] * 3
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert "stays in force" in caplog.text
        assert "open" in caplog.text
    caplog.clear()
    path.unlink()
    assert [opened(its, is_async=is_async) for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1
    path.write_text(CLOSED, encoding="utf-8")
    assert not opened(its, is_async=is_async)
    other = path.with_suffix(".new")
    other.write_text(OPEN, encoding="utf-8")
    other.replace(path)
    assert opened(its, is_async=is_async)


@pytest.mark.parametrize("half", [OPEN + "rules: [", CLOSED], ids=["broken", "a policy"])
def test_a_file_that_is_finished_while_it_is_read_is_read_again(path: Path, half: str) -> None:
    """Broken if the half of a file that was seen while it was written is what stays in force."""
    file = PolicyFile(path)
    path.write_text(half, encoding="utf-8")
    load = Policy.load

    def slowly(found: Path) -> Policy:
        try:
            return load(found)
        finally:
            path.write_text(OPEN, encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "load", slowly)
        with contextlib.suppress(PolicyError):
            file.read()
    assert file.is_changed()
    assert file.read().name == "open"
    assert not file.is_changed()


def test_a_file_that_is_not_watched_is_left_alone(governor: Any, path: Path) -> None:
    """Broken if a governor follows a file that it was not told to follow."""
    its = governor(path)
    path.write_text(OPEN, encoding="utf-8")
    assert not opened(its)


def test_evaluators_of_the_policy_before_still_judge(governor: Any) -> None:
    """Broken if a reload closes what a session that is open still asks."""
    asked: list[str] = []

    def evaluate(_self: Any, call: Any) -> None:
        asked.append(call.session_id)

    named = {"version": 1, "name": "p", "default": "allow", "evaluators": [{"use": "e"}]}
    its = governor(named, evaluators={"e": judge(evaluate)})
    with its.session("s", agent="bot") as session:
        its.reload({"version": 1, "name": "q"})
        assert pays()
    assert asked == [session.id]
