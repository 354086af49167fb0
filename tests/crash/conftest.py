"""What every crash test can ask for: a nursery, started once for all of them."""

from collections.abc import Iterator

import pytest

from tests.crash._lives import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that forks children."""
    with Nursery() as process:
        yield process
