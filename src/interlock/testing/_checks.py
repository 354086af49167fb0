"""What a test of the suite finds fault with, and the sentence that says what to do."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock._verdict import Verdict
from interlock.testing._stand import Outcome
from interlock.testing.examples import Result


def check(holds: object, problem: str) -> None:
    """Fail with *problem* unless it *holds*: an `assert` would be gone under `python -O`."""
    if not holds:
        raise AssertionError(problem)


def check_same(first: Any, found: Any, label: str, when: str) -> None:
    check(
        first == found,
        f"{label}: the answer was {first} at first, and {found} when {when}; "
        "judge by the call and the configuration alone",
    )


def check_refused(found: Outcome, verdict: Verdict, where: str) -> None:
    check(found.fault is None, f"{where}: {found.fault}; it has to answer with an Opinion")
    said = max((one.verdict for one in found.opinions), default=Verdict.ALLOW)
    check(said is verdict, f"{where}: it said {said} instead of {verdict}")
    check(not found.ran, f"{where}: the tool ran")


def check_result(found: Outcome, result: Result, where: str) -> None:
    check(found.fault is None, f"{where}: {found.fault}")
    check(found.ran, f"{where}: the tool did not run: {found.error}")
    if result.withheld:
        check(found.error is not None, f"{where}: the caller got a result that was to be withheld")
        return
    check(found.error is None, f"{where}: the result was withheld: {found.error}")
    if result.given is msgspec.UNSET:
        check(
            found.given is result.returned,
            f"{where}: the caller got another object than the tool returned; return None to leave it as it is",
        )
        return
    check(found.given == result.given, f"{where}: the caller got another result than `given`")
