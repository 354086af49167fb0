"""The evaluator `regex`: what must match matches as a whole, what is blocked is found in any spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from interlock import Denied, Governor, Verdict
from interlock.errors import PolicyError
from interlock.evaluators.patterns import RegexConfig, RegexEvaluator
from tests.callers import Caller
from tests.judges import naming
from tests.samples import call_of
from tests.unicode_tricks import by_compatibility, by_hiding

Make = Callable[..., Governor]


def objection(value: Any, **config: Any) -> str | None:
    """What the evaluator says against a call with the argument `to`."""
    judge = RegexEvaluator(RegexConfig(argument="to", **config))
    opinion = judge.evaluate(call_of({"to": value}))
    assert opinion is None or opinion.verdict is Verdict.DENY
    return None if opinion is None else opinion.reason


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("ab+", "abb", True),
        ("ab+", "xabb", False),
        ("ab+", "abbx", False),
        ("ab+", "ab\n", False),
        ("ab$", "ab\n", False),
        ("^ab$", "ab", True),
        ("a|bc", "bc", True),
        ("a|bc", "ac", False),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        (".", "\u00e9", True),
        (".", "\U0001f600", True),
        ("a", "A", False),
        ("(?i)a", "A", True),
        ("a", "\uff41", False),
        ("a", "a\u200b", False),
        ("a*", "", True),
    ],
    ids=ascii,
)
def test_the_whole_text_must_match(pattern: str, text: str, matches: bool) -> None:
    """Broken if a text passes that matches only in part, before a newline, or in another spelling."""
    assert (objection(text, match=[pattern]) is None) == matches
    assert (objection(text, match=["never", pattern]) is None) == matches


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "text", ["drop table", "x; DROP TABLE y".lower(), "a\ndrop table\nb", "xdrop tablex"]
)
def test_no_part_may_be_blocked(text: str) -> None:
    """Broken if what is blocked passes where other text stands around it."""
    reason = objection(text, block=["select", "drop table"])
    assert reason == "argument 'to' has a part that is blocked (block.1)"
    assert objection(text, block=["drop table"], match=["(?s).*"]) is not None
    assert objection("drop the table", block=["drop table"]) is None


@pytest.mark.promise(1)
def test_no_spelling_hides_what_is_blocked() -> None:
    """Broken if a full-width or zero-width spelling of what is blocked passes."""
    names = ["drop_table", "refund", "gpt-4o"]
    for name in names:
        for trick in (*by_compatibility(name), *by_hiding(name)):
            said = objection(f"please {trick} now", block=[name], ignore_case=True)
            assert said == "argument 'to' has a part that is blocked (block.0)", ascii(trick)


@pytest.mark.promise(1)
def test_what_is_written_is_searched_too() -> None:
    """Broken if a pattern for characters that normalising removes never finds them."""
    assert objection("a\u200bb", block=["\u200b"]) is not None
    assert objection("\uff41", block=["[\uff00-\uffef]"]) is not None


def test_case_is_ignored_where_that_is_asked_for() -> None:
    """Broken if the rule on case is not the one that is written down."""
    for config in ({"match": ["ab"]}, {"block": ["ab"]}):
        assert (objection("AB", **config) is None) != (
            objection("AB", ignore_case=True, **config) is None
        )


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "value", [None, 5, b"a", ["a"], {"a": 1}, ..., "\ud800", "a\udfff"], ids=ascii
)
@pytest.mark.parametrize("config", [{"match": ["(?s).*"]}, {"block": ["never"]}], ids=str)
def test_what_is_no_text_is_denied(config: dict[str, Any], value: Any) -> None:
    """Broken if what cannot be matched passes."""
    assert "cannot be matched" in (objection(value, **config) or "")
    judge = RegexEvaluator(RegexConfig(argument="from", **config))
    assert judge.evaluate(call_of({"to": "a"})) is not None


@pytest.mark.promise(1)
@pytest.mark.parametrize("config", [{"match": ["(?s).*"]}, {"block": ["never"]}], ids=str)
def test_what_is_too_long_is_denied(config: dict[str, Any]) -> None:
    """Broken if a text passes unread because it is long, or is read although it is too long."""
    for text, fits in (
        ("a" * 10, True),
        ("a" * 11, False),
        ("\u00e9" * 5, True),
        ("\u00e9" * 6, False),
    ):
        assert (objection(text, max_bytes=10, **config) is None) == fits
    assert objection("a" * 65_536, **config) is None
    assert "longer than 65536 bytes" in (objection("a" * 65_537, **config) or "")


@pytest.mark.promise(1)
def test_what_grows_too_long_is_denied() -> None:
    """Broken if a short text that is long once it is normalised is searched, however long."""
    assert objection("\ufdfa" * 2_000, match=["(?s).*"]) is None
    assert "longer than" in (objection("\ufdfa" * 2_000, block=["never"]) or "")


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "marks",
    [
        "\u0300" * 31,
        "\u0315\u0300" * 9_000,
        "\u0f73" * 9_000,
        "\uff9e\u0300" * 9_000,
        "\u034f\u0300" * 40,
    ],
    ids=lambda marks: ascii(marks[:2]),
)
def test_what_takes_long_to_normalise_is_denied(marks: str) -> None:
    """Broken if text that Unicode sorts in quadratic time holds the interpreter up."""
    assert "combining marks in a row" in (objection(f"a{marks}", block=["never"]) or "")
    assert objection("a" + "\u0300" * 30, block=["never"]) is None


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "config", [{"match": ["x"]}, {"block": ["planted"]}, {"match": ["x"], "max_bytes": 3}]
)
def test_the_reason_does_not_quote_the_value(config: dict[str, Any]) -> None:
    """Broken if a refusal, which is logged and shown to models, repeats the argument."""
    assert "planted" not in (objection("4111-planted", **config) or "planted")


UNSUPPORTED = [
    "(?=a)b",
    "(?!a)b",
    "(?<=a)b",
    "(?<!a)b",
    r"(a)\1",
    "(?>a)b",
    "a++",
    "(?#x)a",
    r"(?P<a>b)(?P=a)",
    r"a\Z",
]


@pytest.mark.promise(1)
@pytest.mark.parametrize("key", ["match", "block"])
@pytest.mark.parametrize(
    "pattern", [*UNSUPPORTED, "(", "[a", "a{2000}", "a{3,2}", "*", "(?P<a", "\\"]
)
def test_a_pattern_that_re2_cannot_do_is_a_located_error(
    key: str, pattern: str, governor: Make
) -> None:
    """Broken if a pattern is left to another engine, or left out."""
    policy = naming("regex")
    policy["evaluators"][0]["with"] = {"argument": "to", key: ["ok", pattern]}
    with pytest.raises(PolicyError, match="not a regular expression of RE2") as refused:
        governor(policy)
    assert refused.value.key == f"evaluators.0.with.{key}.1"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"argument": "to"},
        {"argument": "to", "block": []},
        {"argument": "to", "match": "a"},
        {"argument": "to", "match": [""]},
        {"argument": "to", "match": [1]},
        {"argument": "", "match": ["a"]},
        {"argument": "to", "mtach": ["a"]},
        {"argument": "to", "match": ["\ud800"]},
        {"argument": "to", "match": ["a"], "max_bytes": 0},
        {"argument": "to", "match": ["a"], "max_bytes": 2_000_000},
        {"argument": "to", "block": ["a"], "max_bytes": 131_073},
        {"argument": "to", "match": ["(a{1,100}){1,100}"]},
        {"argument": "to", "match": [r"\p{L}{10}"], "max_bytes": 1_048_576},
        {"argument": "to", "block": ["a"] * 1_000},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    """Broken if a configuration that judges nothing, or might take for ever, is taken."""
    with pytest.raises(ValidationError):
        RegexConfig(**config)


def test_nothing_passes_an_empty_list() -> None:
    """Broken if a list of no patterns is taken for no list."""
    assert objection("a", match=[]) is not None


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", ["sync", "async", "nested"])
def test_a_policy_can_use_it(kind: str, governor: Make) -> None:
    """Broken if the evaluator is not installed under its name, or its no is not heard."""
    policy = naming("regex")
    policy["evaluators"][0]["with"] = {"argument": "to", "match": ["[a-z]+"]}
    caller = Caller(kind)
    made = governor(policy, url="sqlite://")
    assert caller(made, to="ann")[0] == "receipt"
    assert type(caller(made, to="ann; rm")[0]) is Denied
    assert caller.ran == ["ann"]
