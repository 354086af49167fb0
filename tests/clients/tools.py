"""The tools of an answer: two of them, and both ways to run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def pay(amount: int) -> str:
    """Pay."""
    return f"{amount} paid"


def drop() -> str:
    """Drop."""
    return "dropped"


TOOLS: list[Any] = [pay, drop]
RULES = [{"tools": ["drop"], "verdict": "deny", "reason": "never"}]
CALLS = (("a", "pay", '{"amount": 5}'), ("b", "drop", "{}"))


class ToolSuite:
    """
    What the tests of tools share.

    Attributes:
        plain: The plugin's `run_tools`.
        awaited: Its `arun_tools`.
    """

    plain: Callable[..., Any]
    awaited: Callable[..., Any]

    @pytest.fixture(params=["plain", "awaited"])
    def run(self, request: pytest.FixtureRequest) -> Any:
        """Run the tools of an answer, in both ways."""

        async def ran(answer: Any, **options: Any) -> list[dict[str, Any]]:
            found = getattr(self, request.param)(answer, **options)
            return await found if request.param == "awaited" else found

        return ran
