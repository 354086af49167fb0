"""What is parsed and what is stored: the pages on policies and events tell every key, field, type and default."""

from __future__ import annotations

import json
import typing
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from pydantic import BaseModel

import interlock
from interlock import events
from interlock._budget import Amounts, WindowKey
from interlock._call import Idempotency, Recovery, describe
from interlock._capture import Capture
from interlock._lease import Slot
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from interlock._verdict import Mode
from interlock.errors import PolicyError
from interlock.evaluators.lists import ListConfig
from interlock.policy import PolicyDocument, conditions, document, values
from interlock.policy.budgets import BudgetDocument
from tests.docs.pages import REFERENCE, Row, code, first, reference, rows

_WORDS: dict[object, str] = {
    str: "text",
    int: "integer",
    bool: "true or false",
    datetime: "time",
    timedelta: "duration",
    Decimal: "amount",
    NoneType: "null",
    events.TraceIds: "TraceIds",
    Amounts: "[Amounts](#amounts)",
    WindowKey: "[WindowKey](#windowkey)",
    interlock.Usage: "[Usage](#usage)",
    Slot: "[Slot](#slot)",
    Idempotency: "[Idempotency](#idempotency)",
    interlock.Identity: "[Identity](#identity)",
}


def _typed(hint: Any) -> str:
    """A type in the words of the page."""
    if get_origin(hint) is UnionType or get_origin(hint) is typing.Union:
        return " or ".join(_typed(part) for part in get_args(hint))
    if get_origin(hint) is tuple and Ellipsis not in get_args(hint):
        return f"pairs of {' and '.join(_typed(part) for part in get_args(hint))}"
    if get_origin(hint) is tuple:
        return f"list of {_typed(get_args(hint)[0])}"
    if get_origin(hint) is Literal:
        *most, last = (f"`{word}`" for word in get_args(hint))
        return f"{', '.join(most)} or {last}"
    if hint is interlock.Opinion:
        return "[Opinion](#opinion)"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"[{hint.__name__}](#words)"
    return _WORDS[hint]


def _default(field: msgspec.structs.FieldInfo) -> str:
    words = {
        msgspec.NODEFAULT: "",
        None: "null",
        (): "empty",
        False: "false",
        Mode.ENFORCE: "enforce",
        Recovery.HOLD: "hold",
        Capture.REDACTED: "redacted",
    }
    return str(field.default) if type(field.default) is int else words[field.default]


def _struct_rows(kind: type[msgspec.Struct], *, with_defaults: bool) -> list[Row]:
    hints = typing.get_type_hints(kind)
    return [
        {"field": f"`{field.name}`", "type": _typed(hints[field.name])}
        | ({"default": _default(field)} if with_defaults else {})
        for field in msgspec.structs.fields(kind)
    ]


def _shown_rows(title: str) -> list[Row]:
    return [
        {key: value for key, value in row.items() if key != "meaning"}
        for row in rows("events", title)
    ]


EVENTS = get_args(events.Event)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_event_fields(kind: type[msgspec.Struct]) -> None:
    """Broken if a stored field is missing from the page, or has another type or default than it says."""
    title = str(kind.__struct_config__.tag)
    assert _struct_rows(kind, with_defaults=True) == _shown_rows(title)
    text = (REFERENCE / "events.md").read_text("utf-8")
    version = f"## {title}\n\nVersion {kind.version}.\n"  # type: ignore[attr-defined]
    assert version in text


@pytest.mark.parametrize(
    ("kind", "title", "with_defaults"),
    [
        (events.Recorded, "The envelope", False),
        (events.TraceIds, "TraceIds", False),
        (interlock.Opinion, "Opinion", True),
        (interlock.Identity, "Identity", True),
        (Slot, "Slot", True),
        (Idempotency, "Idempotency", False),
        (interlock.Usage, "Usage", True),
        (Amounts, "Amounts", True),
        (WindowKey, "WindowKey", False),
    ],
)
def test_fields_around_events(
    kind: type[msgspec.Struct], title: str, *, with_defaults: bool
) -> None:
    """Broken if the envelope or a part of an event has a field that the page does not tell."""
    assert _struct_rows(kind, with_defaults=with_defaults) == _shown_rows(title)


def test_every_event_has_a_section() -> None:
    """Broken if something is recorded that the page is silent about."""
    tags = [str(kind.__struct_config__.tag) for kind in EVENTS]
    assert tags == [found.title for found in reference("events") if found.title in tags]


def test_words_of_events() -> None:
    """Broken if an enumeration has a value that the page does not tell."""
    kinds: list[type[Enum]] = [
        interlock.Risk,
        interlock.Verdict,
        Mode,
        TicketState,
        events.Outcome,
        Recovery,
        Capture,
        SessionStatus,
    ]
    shown = {row["type"]: code(row["values"]) for row in rows("events", "Words")}
    assert {kind.__name__: [member.value for member in kind] for kind in kinds} == shown


TITLES = {
    "PolicyDocument": "The document",
    "RuleDocument": "A rule",
    "EvaluatorDocument": "An evaluator",
    "BudgetDocument": "A budget",
    "LeaseDocument": "A lease",
    "RecoveryDocument": "Recovery",
    "Comparison": "A comparison",
    "RiskRange": "Risk",
    "LabelRange": "Labels",
    "TimeRange": "Times",
    "CallCount": "Numbers of calls",
    "EvaluatorNode": "An evaluator in a condition",
    "RiskDocument": "The risk of calls",
    "ToolRiskDocument": "The risk of tools",
    "PointsDocument": "Points",
    "ThresholdsDocument": "Thresholds",
    "SequenceDocument": "A sequence",
    "ModelsDocument": "Models",
    "AccessDocument": "Access",
    "SteeringDocument": "Steering",
    "HaltDocument": "A halt",
    "ExampleDocument": "An example",
    "ExpectedCallDocument": "A call of an example",
}


def _nothing(schema: dict[str, Any]) -> object:
    return {} if schema.get("type") == "object" else None


def _keys(schema: dict[str, Any]) -> dict[str, str]:
    required = schema.get("required", [])
    return {
        key: "required"
        if key in required
        else json.dumps(value.get("default", _nothing(value)), separators=(",", ":"))
        for key, value in schema["properties"].items()
    }


def _shown_keys(title: str) -> dict[str, str]:
    shown: dict[str, str] = {}
    for row in rows("policy", title):
        default = row["default"].strip("`")
        if default == "none":
            default = "null"
        elif default != "required" and not (
            default.isdigit() or default.startswith(("[", "{", "false"))
        ):
            default = json.dumps(default)
        elif default.startswith('["'):
            default = json.dumps(json.loads(default), separators=(",", ":"))
        shown[first(row)] = default
    return shown


def test_policy_keys() -> None:
    """Broken if a key of the language is missing from the page, or has another default than it says."""
    schema = PolicyDocument.model_json_schema()
    models = schema.pop("$defs")
    models = {name: model for name, model in models.items() if "properties" in model}
    models["PolicyDocument"] = schema
    nodes = {node.__name__ for node in conditions.NODES.values()}
    assert set(TITLES) - {"EvaluatorNode"} == set(models) - nodes
    expected = {title: _keys(models[name]) for name, title in TITLES.items()}
    assert expected == {title: _shown_keys(title) for title in TITLES.values()}


def test_policy_conditions() -> None:
    """Broken if there is a condition that the page does not tell."""
    assert list(conditions.NODES) == [first(row) for row in rows("policy", "A condition")]


def test_policy_verdicts() -> None:
    """Broken if the page offers another choice of words than the parser takes."""
    fields: list[tuple[type[BaseModel], str, str]] = [
        (document.PolicyDocument, "default", "The document"),
        (document.PolicyDocument, "mode", "The document"),
        (document.RuleDocument, "mode", "A rule"),
        (document.RuleDocument, "verdict", "A rule"),
        (BudgetDocument, "window", "A budget"),
        (BudgetDocument, "on_exceed", "A budget"),
        (BudgetDocument, "on_unknown", "A budget"),
        (BudgetDocument, "on_overrun", "A budget"),
    ]
    for model, key, title in fields:
        words = list(get_args(model.model_fields[key].annotation))
        (shown,) = [row["value"] for row in rows("policy", title) if first(row) == key]
        assert words == code(shown)


def test_keys_of_the_list_evaluator() -> None:
    """Broken if the built-in evaluator takes a key that the page does not tell."""
    keys = _keys(ListConfig.model_json_schema()) | {"block": "[]"}
    assert keys == _shown_keys("The evaluator list")


def test_policy_bounds() -> None:
    """Broken if the page tells another bound than the one that is enforced."""
    bounds = [document.MAX_CHARACTERS, document.MAX_NODES, conditions.MAX_DEPTH]
    assert bounds == [int(row["at most"]) for row in rows("policy", "Bounds")]
    assert f"longest is {values.LONGEST.days} days" in (REFERENCE / "policy.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("bounds", "matches"),
    [
        ({"at_most": "high"}, True),
        ({"at_most": "medium"}, False),
        ({"equals": "high", "at_least": "low"}, True),
        ({"equals": "high", "at_most": "medium"}, False),
        ({"equals": "high", "at_least": "critical"}, False),
        ({"at_least": "low", "at_most": "critical"}, True),
    ],
)
def test_several_bounds_must_all_hold(bounds: dict[str, str], *, matches: bool) -> None:
    """Broken if one of several bounds on the risk is not read, so that a rule matches more than it says."""
    rule = {"id": "r", "tools": ["t"], "when": {"risk": bounds}, "verdict": "allow"}
    policy = interlock.Policy.build({"version": 1, "name": "p", "rules": [rule]})
    tool = interlock.Tool(name="t", risk=interlock.Risk.HIGH)
    call, _ = describe(
        tool, {}, call_id="c", session_id="s", identity=interlock.Identity(agent="a")
    )
    assert (interlock.Verdict.ALLOW if matches else interlock.Verdict.DENY) == policy.opinion(
        call
    ).verdict


@pytest.mark.parametrize(
    "empty",
    [
        {"when": None},
        {"reason": None},
        {"when": {"risk": {"at_most": None}}},
        {"when": {"argument": "a", "starts_with": None}},
        {"when": {"argument": "a", "ends_with": None}},
        {"when": {"argument": "a", "in": None}},
        {"when": {"cost": {"at_least": None}}},
        {"when": {"not": {"cost": {"at_least": None}}}},
    ],
    ids=str,
)
def test_no_key_may_be_empty(empty: dict[str, Any]) -> None:
    """Broken if a key with nothing after it says nothing: a rule with an empty `when` would always match."""
    rule = {"id": "r", "tools": ["t"], "verdict": "allow", **empty}
    with pytest.raises(PolicyError, match="is empty; fill it in or leave it out"):
        interlock.Policy.build({"version": 1, "name": "p", "rules": [rule]})


@pytest.mark.parametrize("null", [{"equals": None}, {"contains": None}, {"in": [None, 1]}], ids=str)
def test_null_can_be_compared_with(null: dict[str, Any]) -> None:
    """Broken if a rule cannot say "there is nothing there"."""
    rule = {"id": "r", "tools": ["t"], "verdict": "allow", "when": {"argument": "a", **null}}
    assert (
        len(interlock.Policy.build({"version": 1, "name": "p", "rules": [rule]}).document.rules)
        == 1
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("3650d", timedelta(days=3650)),
        ("0s", None),
        ("3651d", None),
        ("999999999d", None),
        ("1.5h", None),
        ("1 h", None),
        ("90", None),
        (90, None),
    ],
    ids=repr,
)
def test_durations(text: object, expected: timedelta | None) -> None:
    """Broken if a duration is read as another one, or one is taken that no date can be moved by."""
    rule = {"id": "r", "tools": ["t"], "verdict": "ask", "expires": text}
    data = {"version": 1, "name": "p", "rules": [rule]}
    if expected is None:
        with pytest.raises(PolicyError, match=r"duration|number and a unit"):
            interlock.Policy.build(data)
    else:
        assert expected == interlock.Policy.build(data).document.rules[0].expires
