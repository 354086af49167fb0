"""The evaluator passes the tests that every evaluator has to pass, and judges these examples so."""

from __future__ import annotations

from interlock.testing import EvaluatorSuite, Example
from interlock_template.evaluators import MaxLength


class TestMaxLength(EvaluatorSuite):
    """`max-length`, for a text of at most ten characters."""

    evaluator = MaxLength
    config = {"argument": "text", "characters": 10}  # noqa: RUF012 - nothing changes it
    judged = ("text",)
    allowed = (Example({"text": "hello"}), Example({"text": "", "to": "ann"}))
    refused = (
        Example({"text": "hello, hello"}),
        Example({"text": 5}),
        Example({"to": "ann"}),
    )
    bad_configs = (
        {},
        {"argument": "text"},
        {"argument": "text", "characters": 0},
        {"argument": "", "characters": 10},
    )
