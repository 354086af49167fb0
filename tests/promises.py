"""
The promise marker: which tests prove which promise of docs/explanation/guarantees.md.

In: `@pytest.mark.promise(3)`, or several numbers where one test proves several. A number that is
no promise is an error at collection. Out: with `--promises`, one line for each promise at the end
of the run. A test counts as passed only if no phase of it failed.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

PROMISES = range(1, 10)

_NUMBERS = pytest.StashKey[dict[str, frozenset[int]]]()
_TALLY = pytest.StashKey[dict[int, Counter[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer `--promises`."""
    parser.addoption(
        "--promises",
        action="store_true",
        help="count, for each promise of docs/explanation/guarantees.md, the tests that prove it",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which promises each test proves, before any selection."""
    config.stash[_NUMBERS] = {item.nodeid: frozenset(_numbers(item)) for item in items}


def _numbers(item: pytest.Item) -> Iterator[int]:
    for mark in item.iter_markers("promise"):
        if not mark.args or mark.kwargs or not all(number in PROMISES for number in mark.args):
            raise pytest.UsageError(
                f"{item.nodeid}: a promise is a number from {PROMISES[0]} to {PROMISES[-1]}, "
                f"not {mark.args or mark.kwargs}"
            )
        yield from mark.args


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the count, if asked for."""
    if not config.getoption("--promises"):
        return
    tally = _tally(terminalreporter, config.stash.get(_NUMBERS, {}))
    terminalreporter.section("promises")
    for promise in PROMISES:
        outcomes = tally[promise]
        line = f"promise {promise}: {outcomes['passed']} passed"
        line += "".join(f", {n} {name}" for name, n in outcomes.items() if name != "passed")
        if not outcomes:
            line += " (no test yet)"
        terminalreporter.line(line, red="failed" in outcomes, yellow=not outcomes["passed"])


def _tally(
    terminalreporter: pytest.TerminalReporter, numbers: dict[str, frozenset[int]]
) -> dict[int, Counter[str]]:
    outcomes: dict[str, str] = {}
    for category, reports in terminalreporter.stats.items():
        # Without a category come set-ups and tear-downs that passed.
        for report in reports if category else ():
            # Deselected items and warnings are in there too, and have no outcome.
            outcome, test = getattr(report, "outcome", None), getattr(report, "nodeid", "")
            if test in numbers and outcome and outcomes.get(test) != "failed":
                outcomes[test] = outcome
    tally = {promise: Counter[str]() for promise in PROMISES}
    for test, outcome in outcomes.items():
        for promise in numbers[test]:
            tally[promise][outcome] += 1
    return tally
