"""
Threads of our own, and whether a thread may wait for the store.

The garbage collector runs the end of a stream that was dropped in whatever thread it interrupts, and that end waits
until the store has written it down. It must not do so in a thread for which somebody waits who keeps the store from
writing: one that is inside a writer, or one that is being started, for which its starter waits with a lock held.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_here = threading.local()
_starting: set[object] = set()


class _InWriter:
    """Marks this thread as one that is inside a writer, for a `with` block."""

    def __enter__(self) -> None:
        _here.depth = getattr(_here, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        _here.depth -= 1


in_writer = _InWriter()


def is_inside() -> bool:
    """Whether this thread is inside a writer, so that it cannot wait for one."""
    return getattr(_here, "depth", 0) > 0


def may_wait() -> bool:
    """Whether what the collector runs in this thread may wait for a writer: not inside, nor while a thread begins."""
    return not _starting and not is_inside()


def begin(
    target: Callable[..., object],
    *args: Any,
    name: str,
    within: AbstractContextManager[object] | None = None,
) -> threading.Thread:
    """
    Start a daemon thread that runs *target*, and return it; the caller may hold a lock.

    Args:
        target: What it runs, with *args*.
        *args: Positional arguments.
        name: What debuggers call it.
        within: Is entered around *target*, before anybody takes the thread for one that runs; None: nothing is.

    Raises:
        RuntimeError: the system has no thread left.
    """
    mark = object()

    def run() -> None:
        with within or nullcontext():
            _starting.discard(mark)
            target(*args)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _starting.add(mark)
    try:
        thread.start()
    except BaseException:
        _starting.discard(mark)
        raise
    return thread


os.register_at_fork(after_in_child=_starting.clear)  # no thread is being started in a child
