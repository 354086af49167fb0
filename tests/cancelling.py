"""The ways to cancel what runs in a task, and what holds the moments to do it in, for the tests of cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import Call, Governor, Opinion, hookimpl

Run = Callable[[], Awaitable[object]]
Release = Callable[[], object]


class Announces:
    """A plugin that says when it is asked, which is just before the call is admitted."""

    def __init__(self, asked: anyio.Event) -> None:
        """Set *asked* then."""
        self.asked = asked

    @hookimpl
    def interlock_opinion(self, call: Call) -> Opinion | None:
        """Have no opinion."""
        self.asked.set()
        return None


class SiblingFailed(Exception):
    """What a sibling task raises, so that its group cancels the others."""


async def by_task(run: Run, ready: anyio.Event, release: Release) -> None:
    """Cancel the task."""
    task = asyncio.ensure_future(_coroutine(run))
    await ready.wait()
    task.cancel("enough")
    release()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert task.cancelled()


async def by_asyncio_timeout(run: Run, ready: anyio.Event, release: Release) -> None:
    """Let `asyncio.timeout` expire, which must be able to tell its own cancellation from others."""
    with pytest.raises(TimeoutError):  # noqa: PT012 - the scope is what raises it
        async with asyncio.timeout(None) as timeout:

            async def expire() -> None:
                await ready.wait()
                timeout.reschedule(asyncio.get_running_loop().time())
                await anyio.sleep(0.005)
                assert timeout.expired()
                release()

            expiring = asyncio.ensure_future(expire())
            await run()
    await expiring
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def by_asyncio_group(run: Run, ready: anyio.Event, release: Release) -> None:
    """Fail beside it in an `asyncio.TaskGroup`."""

    async def fail() -> None:
        await ready.wait()
        raise SiblingFailed

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises it
        async with asyncio.TaskGroup() as group:
            group.create_task(_coroutine(run))
            group.create_task(fail())
            group.create_task(_when_cancelled(release))
    assert [type(error) for error in caught.value.exceptions] == [SiblingFailed]


async def by_scope(run: Run, ready: anyio.Event, release: Release) -> None:
    """Cancel an anyio scope around it."""
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await ready.wait()
                scope.cancel()
                await anyio.lowlevel.checkpoint()
                release()

            group.start_soon(cancel)
            await run()
    assert scope.cancelled_caught


async def by_deadline(run: Run, ready: anyio.Event, release: Release) -> None:
    """Let the deadline of `anyio.fail_after` pass."""
    async with anyio.create_task_group() as group:
        with pytest.raises(TimeoutError), anyio.fail_after(1_000) as scope:  # noqa: PT012 - likewise

            async def expire() -> None:
                await ready.wait()
                scope.deadline = anyio.current_time()
                while not scope.cancel_called:
                    await anyio.lowlevel.checkpoint()
                release()

            group.start_soon(expire)
            await run()


async def by_group(run: Run, ready: anyio.Event, release: Release) -> None:
    """Fail beside it in an anyio task group."""

    async def fail() -> None:
        await ready.wait()
        raise SiblingFailed

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises it
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(fail)
            group.start_soon(_when_cancelled, release)
    assert [type(error) for error in caught.value.exceptions] == [SiblingFailed]


async def _when_cancelled(release: Release) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        release()


async def _coroutine(run: Run) -> None:
    await run()


WAYS: list[Any] = [
    *(
        pytest.param("asyncio", way, id=f"asyncio-{way.__name__}")
        for way in (
            by_task,
            by_asyncio_timeout,
            by_asyncio_group,
            by_scope,
            by_deadline,
            by_group,
        )
    ),
    *(
        pytest.param("trio", way, id=f"trio-{way.__name__}")
        for way in (by_scope, by_deadline, by_group)
    ),
]
"""Parameters `anyio_backend, cancelled`: call it with what to run, when to cancel it, and what to do after that."""


class Hold:
    """Holds a governor's writer: what is written waits until it is let go of."""

    def __init__(self, governor: Governor) -> None:
        """Hold nothing yet."""
        self._governor = governor
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._held = threading.Event()

    def take(self) -> None:
        """Return when the writer is held."""
        self._thread.start()
        assert self._held.wait(30)

    def release(self) -> None:
        """Let the writer go on."""
        self._released.set()

    def end(self) -> None:
        """Let go, and wait for the thread."""
        self.release()
        if self._thread.ident is not None:
            self._thread.join()

    def _write(self) -> None:
        self._governor.write(lambda _: (self._held.set(), self._released.wait(30)))


@contextmanager
def holding(governor: Governor) -> Iterator[Hold]:
    """Give a `Hold`, and see to it that it ends."""
    hold = Hold(governor)
    try:
        yield hold
    finally:
        hold.end()
