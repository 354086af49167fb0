"""The built-in evaluators pass the suite that every evaluator has to pass."""

from __future__ import annotations

from interlock.evaluators.egress import EgressEvaluator
from interlock.evaluators.json_schema import SchemaEvaluator
from interlock.evaluators.lists import ListEvaluator
from interlock.evaluators.paths import PathEvaluator
from interlock.evaluators.patterns import RegexEvaluator
from interlock.testing import EvaluatorSuite, Example

READS = {"capabilities": ["read"]}


class TestList(EvaluatorSuite):
    """`list`, with words that are blocked and words that are allowed."""

    evaluator = ListEvaluator
    config = {"argument": "to", "allow": ["ann", "bob"], "block": ["eve"]}  # noqa: RUF012 - as users write it
    judged = ("to",)
    allowed = (Example({"to": "ann"}), Example({"to": "bob", "note": "for the trip"}))
    refused = (
        Example({"to": "eve"}),
        Example({"to": "EVE"}),
        Example({"to": "carl"}),
        Example({"to": 5}),
        Example({}),
    )
    bad_configs = (
        {},
        {"argument": "to"},
        {"allow": ["ann"]},
        {"argument": "to", "allow": "ann"},
        {"argument": "to", "block": ["x" * 16_385]},
    )


class TestRegex(EvaluatorSuite):
    """`regex`, with a pattern that has to match and one that must not."""

    evaluator = RegexEvaluator
    config = {"argument": "sku", "match": ["[A-Z]{2}-[0-9]+"], "block": ["XX"]}  # noqa: RUF012
    judged = ("sku",)
    allowed = (Example({"sku": "AB-12"}),)
    refused = (Example({"sku": "ab-12"}), Example({"sku": "XX-12"}), Example({"sku": "AB-12\n"}))
    bad_configs = (
        {"argument": "sku"},
        {"argument": "sku", "match": ["("]},
        {"argument": "sku", "match": [""]},
        {"argument": "sku", "block": ["a"], "max_bytes": 1_048_576},
    )


class TestPath(EvaluatorSuite):
    """`path`, with one directory and one capability."""

    evaluator = PathEvaluator
    config = {"argument": "file", "roots": ["/srv/reports"], "capabilities": ["read"]}  # noqa: RUF012
    judged = ("file",)
    allowed = (Example({"file": "/srv/reports/may.txt"}, READS),)
    refused = (
        Example({"file": "/srv/reports/../keys"}, READS),
        Example({"file": "/etc/passwd"}, READS),
        Example({"file": "/srv/reports/may.txt"}, {"capabilities": ["write"]}),
        Example({"file": "/srv/reports/may.txt"}),
    )
    bad_configs = ({"argument": "file"}, {"argument": "file", "roots": ["reports"]})


class TestSchema(EvaluatorSuite):
    """`schema`, for all arguments."""

    evaluator = SchemaEvaluator
    config = {  # noqa: RUF012
        "schema": {
            "type": "object",
            "required": ["count"],
            "properties": {"count": {"type": "integer", "maximum": 5}, "word": {"type": "string"}},
        }
    }
    judged = ("count", "word")
    allowed = (Example({"count": 3, "word": "lamps"}), Example({"count": 5, "other": "lamps"}))
    refused = (Example({"count": 6}), Example({"count": "3"}), Example({}), Example({"word": "a"}))
    bad_configs = ({}, {"schema": {"type": "text"}}, {"schema": {"typ": "string"}})


class TestEgress(EvaluatorSuite):
    """`egress`, with one host and one capability."""

    evaluator = EgressEvaluator
    config = {  # noqa: RUF012
        "grants": [{"host": "api.example.com", "capabilities": ["read"]}],
        "method_argument": "method",
    }
    judged = ("url", "method")
    allowed = (Example({"url": "https://api.example.com/a", "method": "GET"}, READS),)
    refused = (
        Example({"url": "https://api.example.com/a", "method": "POST"}, READS),
        Example({"url": "https://evil.example/a", "method": "GET"}, READS),
        Example({"url": "https://api.example.com@evil.example/", "method": "GET"}, READS),
        Example({"url": "https://api.example.com/a", "method": "GET"}),
    )
    bad_configs = ({}, {"grants": []}, {"grants": [{"host": "api.example.com."}]})
