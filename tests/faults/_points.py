"""The points at which a store can fail: every request that a governor's writer makes of the database's driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from interlock import Governor

_REQUESTS = ("do_execute", "do_executemany", "do_execute_no_params", "do_commit", "do_rollback")


class Points:
    """
    Counts the requests of the writer of *governor* to its driver, and interferes with one of them.

    The border is SQLAlchemy's dialect, so that what is raised there meets the same handling as what the driver raises.
    """

    def __init__(self, governor: Governor) -> None:
        self._dialect = governor._machinery.store._writing.dialect
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
        for name in _REQUESTS:
            setattr(self._dialect, name, self._wrapped(name, at, fault, after, lasting))
        try:
            yield self.seen
        finally:
            for name in _REQUESTS:
                delattr(self._dialect, name)

    def _wrapped(
        self, name: str, at: int | None, fault: Callable[[], object], after: bool, lasting: bool
    ) -> Callable[..., Any]:
        request = getattr(self._dialect, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            statement = str(args[1]).split()[0] if name.startswith("do_execute") else ""
            self.seen.append(f"{name} {statement}".strip())
            number = len(self.seen)
            hit = at is not None and (number == at or (lasting and number > at))
            if hit and not after:
                fault()
            result = request(*args, **kwargs)
            if hit and after:
                fault()
            return result

        return wrapper
