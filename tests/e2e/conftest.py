"""What the end-to-end tests can be told, and the time that they may take."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the page be left unseen where there is no browser."""
    parser.addoption(
        "--no-browser", action="store_true", help="end-to-end tests: do not look at pages"
    )
