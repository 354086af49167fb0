"""What every race can ask for: a crew of processes, started once for all of them."""

from collections.abc import Iterator

import pytest

from tests.races._crew import Crew


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    """Eight processes."""
    with Crew(8) as processes:
        yield processes
