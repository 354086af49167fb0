"""What the tests of evaluators share: hostile ones end with the test, and reviewers are named by a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interlock import Governor
from tests.callers import WAYS, Caller
from tests.hostile import released
from tests.judges import naming, reviewer
from tests.reviews import SECRET

Make = Callable[..., Governor]


@pytest.fixture(autouse=True)
def release() -> Iterator[None]:
    """End, with the test, whatever hangs; hostile ones behave from then on."""
    released.clear()
    yield
    released.set()


@pytest.fixture
def governor(governor: Make) -> Iterator[Make]:
    """Make governors that are closed when nothing hangs any more, so that closing them does not have to give up."""
    yield governor
    released.set()


@pytest.fixture(params=WAYS)
def caller(request: pytest.FixtureRequest) -> Caller:
    """One tool, which returns a secret, called by each kind of host."""
    return Caller(request.param, {"card": [SECRET]})


@pytest.fixture
def made(governor: Make) -> Callable[..., Governor]:
    """Make a governor whose policy names reviewers, given by name, in that order."""

    def make(timeout: str = "30s", options: Any = None, **reviews: Any) -> Governor:
        own = {name: reviewer(review) for name, review in reviews.items()}
        return governor(
            naming(*own, timeout=timeout), url="sqlite://", evaluators=own, **(options or {})
        )

    return make
