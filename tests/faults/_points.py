"""The points at which a store can fail: every request that a governor's writer makes of its database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from interlock import Governor

_OF_LINK = ("begin", "read", "run", "commit", "rollback")
_OF_DIALECT = ("do_execute", "do_executemany", "do_execute_no_params")


class Points:
    """
    Counts the requests of the writer of *governor* to its database, and interferes with one of them.

    The border is where the store hands over to the driver: its link, and for statements that are not prepared
    SQLAlchemy's dialect. What is raised there meets the same handling as what the driver raises.
    """

    def __init__(self, governor: Governor) -> None:
        database = governor._machinery.store.database
        self._engine = database.writing
        self._dialect: Any = database.writing.dialect
        governor.write(lambda _: None)  # so that there is a link
        self._link: Any = type(governor._machinery.store._writer._batches._link)
        self.seen: list[str] = []

    @contextmanager
    def failing(
        self,
        at: int | None,
        fault: Callable[[], object],
        *,
        after: bool = False,
        lasting: bool = False,
    ) -> Iterator[list[str]]:
        """
        Call *fault* instead of request number *at*, from 1, or *after* it has been done; None only counts.

        Args:
            at: Which request; the list that is yielded has all of them, by name.
            fault: What happens there; it raises.
            after: The request is carried out first, and only then fails.
            lasting: Every later request fails, too.
        """
        self.seen = []

        def interfered(name: str, statement: str, request: Callable[[], Any]) -> Any:
            self.seen.append(f"{name} {statement}".strip())
            number = len(self.seen)
            hit = at is not None and (number == at or (lasting and number > at))
            if hit and not after:
                fault()
            result = request()
            if hit and after:
                fault()
            return result

        places = [(self._link, name) for name in _OF_LINK]
        places += [(self._dialect, name) for name in _OF_DIALECT]
        kept = [getattr(owner, name) for owner, name in places]
        for (owner, name), request in zip(places, kept, strict=True):
            wrap = self._of_link if owner is self._link else self._of_dialect
            setattr(owner, name, wrap(name, request, interfered))
        try:
            yield self.seen
        finally:
            for (owner, name), request in zip(places, kept, strict=True):
                if owner is self._link:
                    setattr(owner, name, request)
                else:
                    delattr(owner, name)

    def _of_link(self, name: str, request: Callable[..., Any], interfered: Any) -> Any:
        def wrapper(link: Any, *args: Any) -> Any:
            if link.connection.engine is not self._engine:
                return request(link, *args)
            if not args:
                return interfered(name, "", lambda: request(link, *args))
            statement = args[0][0][0] if isinstance(args[0], list) else args[0]
            return interfered(name, statement.text.split()[0], lambda: request(link, *args))

        return wrapper

    @staticmethod
    def _of_dialect(name: str, request: Callable[..., Any], interfered: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            statement = str(args[1]).split()[0]
            return interfered(name, statement, lambda: request(*args, **kwargs))

        return wrapper
