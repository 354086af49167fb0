"""Counting the commits of a store."""

from __future__ import annotations

from typing import Any

from interlock.store.engine import Store


def count_commits(store: Store) -> list[int]:
    """Return a list that grows by one at each commit of the writer of *store*."""
    seen: list[int] = []
    connect = store._writer._batches._connect

    def counted(link: Any) -> Any:
        commit = link.commit

        def commit_and_count() -> None:
            commit()
            seen.append(1)

        link.commit = commit_and_count
        return link

    store._writer._batches._connect = lambda: counted(connect())
    if store._writer._batches._link is not None:
        counted(store._writer._batches._link)
    return seen
