"""The evaluator `schema`: arguments are valid JSON by a schema that is understood to the last word."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from interlock import Denied, Governor, Verdict
from interlock.errors import PolicyError
from interlock.evaluators.json_schema import MAX_BYTES, SchemaConfig, SchemaEvaluator
from tests.callers import Caller
from tests.judges import naming
from tests.samples import call_of

Make = Callable[..., Governor]


def objection(value: Any, schema: Any, **config: Any) -> str | None:
    """What the evaluator says against a call with the argument `a`, judged by *schema*."""
    judge = SchemaEvaluator(SchemaConfig(**{"schema": schema, "argument": "a", **config}))
    opinion = judge.evaluate(call_of({"a": value}))
    assert opinion is None or opinion.verdict is Verdict.DENY
    return None if opinion is None else opinion.reason


@dataclasses.dataclass
class Item:
    """A record."""

    name: str
    price: Decimal


class Color(enum.Enum):
    """An enumeration."""

    RED = "red"


FORMS: list[Any] = [
    (None, {"type": "null"}),
    (True, {"const": True}),
    (5, {"type": "integer", "maximum": 5}),
    (2**70, {"type": "integer", "minimum": 2**70, "maximum": 2**70}),
    (0.5, {"type": "number", "const": 0.5}),
    (Decimal("0.3"), {"type": "number", "multipleOf": 0.1, "maximum": 0.3}),
    (Decimal("9223372036854775807.1"), {"type": "number", "exclusiveMinimum": 2**63 - 1}),
    (Decimal(9223372036854775809), {"type": "integer", "exclusiveMinimum": 2**63}),
    (Decimal("1e400"), {"exclusiveMinimum": 2**63}),
    (Decimal(2), {"type": "integer"}),
    ("x", {"type": "string", "maxLength": 1}),
    ("\U0001f600", {"maxLength": 1}),
    (["a", 1], {"type": "array", "prefixItems": [{"const": "a"}, {"const": 1}]}),
    (("a", 1), {"type": "array", "prefixItems": [{"const": "a"}, {"const": 1}]}),
    ({3, 1, 2}, {"type": "array", "const": [1, 2, 3]}),
    pytest.param(frozenset("ba"), {"type": "array", "const": ["a", "b"]}, id="frozenset"),
    (
        {"x": {"y": [1]}},
        {"properties": {"x": {"properties": {"y": {"const": [1]}}}}, "type": "object"},
    ),
    (Item("cup", Decimal("9.99")), {"type": "object", "const": {"name": "cup", "price": 9.99}}),
    (Color.RED, {"const": "red"}),
    (dt.date(2026, 1, 2), {"const": "2026-01-02", "format": "date"}),
    (
        dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC),
        {"const": "2026-01-02T03:04:00+00:00", "format": "date-time"},
    ),
    (dt.time(3, 4), {"const": "03:04:00"}),
    (UUID(int=1), {"format": "uuid", "type": "string"}),
    (PurePosixPath("/a/b"), {"const": "/a/b"}),
]


@pytest.mark.parametrize(("value", "schema"), FORMS, ids=repr)
def test_each_value_has_its_form(value: Any, schema: dict[str, Any]) -> None:
    """Broken if a value is judged in another form than the documented one."""
    assert objection(value, schema) is None
    assert objection(value, {"not": schema}) == "argument 'a': not valid by the schema's /not"


FORMLESS = {
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "nan": float("nan"),
    "infinity": float("-inf"),
    "decimal nan": Decimal("NaN"),
    "decimal infinity": Decimal("Infinity"),
    "decimal of many digits": Decimal("1e401"),
    "decimal of many places": Decimal("1e-401"),
    "decimal beyond exactness": Decimal("9223372036854775808.1"),
    "duration": dt.timedelta(1),
    "object": object(),
    "keys": {1: "x"},
    "surrogate": "\ud800",
    "surrogate key": {"\ud800": 1},
    "nested": {"x": [{"y": b"x"}]},
    "in a set": frozenset([b"x"]),
    "function": print,
    "complex": 1j,
}


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", FORMLESS)
def test_what_has_no_form_is_denied(name: str) -> None:
    """Broken if a value that JSON cannot hold passes a schema that asks for nothing."""
    assert "has no form in JSON" in (objection(FORMLESS[name], {}) or "")


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (5, {"type": "string"}, "/type"),
    (True, {"type": "integer"}, "/type"),
    ("5", {"type": "number"}, "/type"),
    (51, {"maximum": 50}, "/maximum"),
    (Decimal("50.00000000000000000000000001"), {"maximum": 50}, "/maximum"),
    ("ab", {"pattern": "^a$"}, "/pattern"),
    ("a\n", {"pattern": "^a$"}, "/pattern"),
    ({"x": 1}, {"properties": {"x": {"enum": [2]}}}, "/properties/x/enum"),
    ({"x": 1}, {"additionalProperties": False}, "/additionalProperties"),
    ({}, {"required": ["x"]}, "/required"),
    ([1, 1], {"uniqueItems": True}, "/uniqueItems"),
    (
        [1, "a"],
        {"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}},
        "/$defs/n/type",
    ),
    ("no", {"format": "email"}, "/format"),
    ("no", {"format": "ipv4"}, "/format"),
    ({"ab": 1}, {"propertyNames": {"pattern": "^a$"}}, "/propertyNames/pattern"),
    ({"a/b~c": 1}, {"properties": {"a/b~c": {"type": "null"}}}, "/properties/a~1b~0c/type"),
    (5, {"anyOf": [{"type": "null"}, {"minimum": 9}]}, "/anyOf"),
    (1, {"not": {}}, "/not"),
]


@pytest.mark.promise(1)
@pytest.mark.parametrize(("value", "schema", "where"), WRONG, ids=repr)
def test_what_is_not_valid_is_denied(value: Any, schema: dict[str, Any], where: str) -> None:
    """Broken if an argument passes that the schema forbids, or the reason does not say by which part of it."""
    assert objection(value, schema) == f"argument 'a': not valid by the schema's {where}"


@pytest.mark.promise(1)
def test_all_arguments_are_judged_together() -> None:
    """Broken if without a path only some arguments are judged, or a missing one passes."""
    schema = {
        "required": ["a"],
        "properties": {"a": {"type": "integer"}},
        "additionalProperties": False,
    }
    judge = SchemaEvaluator(SchemaConfig(schema=schema))  # type: ignore[arg-type]
    assert judge.evaluate(call_of({"a": 1})) is None
    for arguments in ({"a": "1"}, {"a": 1, "b": 2}, {}):
        assert judge.evaluate(call_of(arguments)) is not None
    assert objection({"b": [1]}, {"type": "integer"}, argument="a.b.0") is None
    assert objection({"b": []}, {}, argument="a.b.0") == "argument 'a.b.0': missing"
    assert objection(None, {"type": "null"}) is None


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "null"},
        {"pattern": "x"},
        {"enum": [1]},
        {"additionalProperties": False},
        {"propertyNames": {"maxLength": 1}},
        {"format": "email"},
        {"additionalProperties": {"type": "null"}},
    ],
)
def test_the_reason_does_not_quote_the_value(schema: dict[str, Any]) -> None:
    """Broken if a refusal, which is logged and shown to models, repeats an argument, or a key that the model chose."""
    said = [
        objection(value, schema)
        for value in ("4111-planted", {"4111-planted": "planted"}, ["planted"])
    ]
    assert any(said)
    assert "planted" not in str(said)
    assert "planted" not in str(objection({"planted": object()}, {}))


@pytest.mark.promise(1)
def test_what_is_too_long_is_denied() -> None:
    """Broken if data is judged that takes long."""
    assert objection("x" * 98, {}, max_bytes=100) is None
    assert "longer than 100 bytes as JSON" in (objection("x" * 99, {}, max_bytes=100) or "")
    assert objection("x" * 70_000, {}) is not None
    assert objection("x" * 70_000, {}, max_bytes=MAX_BYTES) is None


UNKNOWN: list[Any] = [
    {"maxlength": 3},
    {"properties": {"a": {"maxlength": 3}}},
    {"items": {"anyOf": [{"typ": "x"}]}},
    {"$defs": {"a": {"requird": []}}},
    {"allOf": [{"if": {"minmum": 1}}]},
    {"dependentSchemas": {"a": {"nullable": True}}},
    {"type": "strng"},
    {"type": ["string", "strng"]},
    {"minimum": "5"},
    {"items": [{"type": "string"}]},
    {"required": "a"},
    {"enum": 5},
    {"pattern": 5},
    {"format": "emial"},
    {"$schema": "http://json-schema.org/draft-07/schema#"},
    {"$schema": "http://example.com/mine"},
    {"$ref": "http://example.com/x.json"},
    {"properties": {"a": {"$ref": "https://localhost/x"}}},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "other.json"},
    {"$ref": "#/$defs/none"},
    {"$id": "http://example.com/a", "$ref": "b"},
    {"$dynamicRef": "http://example.com/x#y"},
    {"pattern": "(?=a)b"},
    {"pattern": r"(a)\1"},
    {"pattern": "("},
    {"pattern": "a{2000}"},
    {"pattern": "(a{1,100}){1,100}"},
    {"patternProperties": {"(?=a)b": {}}},
    {"patternProperties": {"[a-z]{1,500}": {}}},
    {"not": {"propertyNames": {"pattern": "(?<=a)b"}}},
]


@pytest.mark.promise(1)
@pytest.mark.parametrize("schema", UNKNOWN, ids=repr)
def test_a_schema_that_is_not_understood_is_a_located_error(schema: Any, governor: Make) -> None:
    """Broken if a misspelt keyword, another draft, a pattern that may be slow, or a reference elsewhere is taken."""
    policy = naming("schema")
    policy["evaluators"][0]["with"] = {"schema": schema}
    with pytest.raises(PolicyError) as refused:
        governor(policy)
    assert refused.value.key.startswith("evaluators.0.with")
    assert any(word in str(refused.value).lower() for word in ("schema", "pattern"))


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (
            {"maxlength": 3},
            "at /: Unevaluated properties are not allowed ('maxlength' was unexpected)",
        ),
        ({"items": {"anyOf": [{"typ": 1}]}}, "at /items/anyOf/0: Unevaluated properties"),
        ({"properties": {"a": {"type": "strng"}}}, "at /properties/a/type: "),
    ],
    ids=repr,
)
def test_what_is_wrong_with_a_schema_is_said(schema: dict[str, Any], where: str) -> None:
    """Broken if an author is not told which keyword is unknown, or where."""
    with pytest.raises(ValidationError) as refused:
        SchemaConfig(schema=schema)
    assert where in str(refused.value)


@pytest.mark.promise(1)
def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if reading a policy makes a request."""
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        with pytest.raises(ValidationError, match="cannot be used"):
            SchemaConfig(schema={"$ref": f"http://127.0.0.1:{port}/schema.json"})  # type: ignore[arg-type]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"schema": True},
        {"schema": []},
        {"schema": {}, "argument": ""},
        {"schema": {}, "max_bytes": 0},
        {"schema": {}, "x": 1},
        {"schema": {}, "max_bytes": 200_000},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    """Broken if a misspelt key is taken."""
    with pytest.raises(ValidationError):
        SchemaConfig(**config)


def test_what_the_draft_offers_is_known() -> None:
    """Broken if strictness refuses what draft 2020-12 has."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:example:a",
        "$comment": "x",
        "title": "x",
        "examples": [{"anything": 1}],
        "default": {"anything": 1},
        "const": {"maxlength": 1},
        "properties": {"maxlength": {"type": "string"}, "pattern": {"type": "string"}},
        "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}},
        "dependentRequired": {"a": ["b"]},
        "unevaluatedProperties": False,
        "patternProperties": {"^x-[a-z]+$": {"deprecated": True}},
    }
    assert objection({"maxlength": 1}, schema) is not None
    del schema["properties"]
    assert objection({"maxlength": 1}, {**schema, "unevaluatedProperties": True}) is None


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", ["sync", "async", "nested"])
def test_a_policy_can_use_it(kind: str, governor: Make) -> None:
    """Broken if the evaluator is not installed under its name, or its no is not heard."""
    policy = naming("schema")
    policy["evaluators"][0]["with"] = {"schema": {"properties": {"to": {"maxLength": 3}}}}
    caller = Caller(kind)
    made = governor(policy, url="sqlite://")
    assert caller(made, to="ann")[0] == "receipt"
    assert type(caller(made, to="anna")[0]) is Denied
    assert caller.ran == ["ann"]
