"""The two servers, running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.egress._servers import Pair, serving


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The granted server and the internal one."""
    with serving() as running:
        yield running
