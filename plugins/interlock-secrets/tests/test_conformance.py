"""Both evaluators, by the suite that every evaluator has to pass."""

from __future__ import annotations

from typing import Any

from interlock import Verdict
from interlock.testing import EvaluatorSuite, Example, Result
from interlock_secrets import SecretsEvaluator, SecretsInResults

TOKEN = "ghp_" + "x7Kq29fLmZ01" * 3
MASK = "[secret: github-pat]"


class TestSecrets(EvaluatorSuite):
    """The stage `before`: only what is too much to be searched is refused unseen."""

    evaluator = SecretsEvaluator
    config: dict[str, Any] = {}  # noqa: RUF012 - as the suite has it
    judged = ()
    allowed = (
        Example({"text": "as usual", "more": [1, {"note": "on Friday"}]}),
        Example({"text": "nothing", "token": TOKEN}, {"secrets": ["token"]}),
    )
    refused = (
        Example({"text": f"see {TOKEN}"}),
        Example({"text": "none", "more": {"a": [TOKEN]}}),
        Example({"text": {TOKEN: 1}}),
    )
    bad_configs = ({"kinds": ["github"]}, {"verdict": "allow"}, {"arguments": []}, {"max_bytes": 0})
    timeout = "30s"


class TestSecretsOfOneArgument(EvaluatorSuite):
    """The stage `before`, told where to look and what to do."""

    evaluator = SecretsEvaluator
    config: dict[str, Any] = {  # noqa: RUF012 - as the suite has it
        "arguments": ["order.note"],
        "verdict": "ask",
        "kinds": ["github-pat"],
    }
    judged = ("order",)
    allowed = (Example({"order": {"note": "as usual", "other": TOKEN}}),)
    refused = (
        Example({"order": {"note": TOKEN}}, verdict=Verdict.ASK),
        Example({"order": {"other": "x"}}),
    )
    bad_configs = ({"arguments": "order"},)
    timeout = "30s"


class TestSecretsInResults(EvaluatorSuite):
    """The stage `after`."""

    evaluator = SecretsInResults
    config: dict[str, Any] = {}  # noqa: RUF012 - as the suite has it
    judged = ()
    results = (
        Result("as usual"),
        Result({"a": [1, "two"]}),
        Result(f"see {TOKEN}.", given=f"see {MASK}."),
        Result({"a": [TOKEN, 1]}, given={"a": [MASK, 1]}),
        Result(object(), withheld=True),
    )
    bad_configs = ({"on_unreadable": "allow"}, {"kinds": ["github"]})
    timeout = "30s"
