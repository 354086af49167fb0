"""The published JSON Schema: it takes what the parser takes, and refuses what a schema can tell is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from typer.testing import CliRunner

from interlock.cli import app
from interlock.errors import PolicyError
from interlock.policy import Policy
from tests.language._asking import LEAVES, policy
from tests.language.test_matching import rules
from tests.malformed_policies import MALFORMED
from tests.policies import document, documents

ROOT = Path(__file__).parents[2]
PUBLISHED = CliRunner().invoke(app, ["policy", "schema"]).output
SCHEMA: dict[str, Any] = json.loads(PUBLISHED)
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

UNTOLD = {
    # one key against another, or against the rest of the document
    *["guidance without steer", "suggest without steer", "retries without steer"],
    *["approvers without ask", "expires without ask", "steer to nowhere", "steer to nothing"],
    *["ids repeated", "an id again", "too many levels", "points without thresholds"],
    *["thresholds descending", "thresholds the same", "a sequence twice", "ask above deny"],
    *["ask and deny", "approvers of nobody", "access to an unknown tier", "tiers twice"],
    *["a model of two tiers", "budget guidance", "budget approvers", "budget steers nowhere"],
    *["budget again", "budget per twice", "time half", "time the same", "time backwards"],
    *["a lease again", "a lease per tool twice", "a lease too short to renew"],
    # text in a language of its own
    *["name no unicode", "expires 999999999d", "models with a provider", "models dated"],
    *["tiers of a provider", "matches no pattern", "matches looks around", "cel nonsense"],
    *["time no zone", "budget zone", "budget cost no number", "expect no time"],
    *["expect a time without a zone", "time no date"],
    # what belongs to an evaluator
    *["rate without with", "rate without a window", "rate per week", "rate below zero"],
    *["rate with guidance", "rate twice", "sequence of one call", "sequence steers nowhere"],
    *["sequence allows", "sequence unknown key"],
}
"""Of the malformed policies, those whose mistake a schema cannot tell."""


def plain(text: str) -> Any:
    """What a JSON reader would have, or None where YAML says what JSON cannot."""
    try:
        return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text), allow_nan=False))
    except (YAMLError, ValueError, TypeError, RecursionError):
        return None


def test_the_schema_refuses_what_is_malformed() -> None:
    """Broken if an editor that completes policies is content with what no governor takes."""
    data = {name: plain(text) for name, (text, _, _) in MALFORMED.items()}
    told = {name: value for name, value in data.items() if value is not None}
    assert len(told) > 250
    accepted = {name for name, value in told.items() if VALIDATOR.is_valid(value)}
    assert accepted == UNTOLD & set(told)


@given(documents())
def test_the_schema_accepts_what_the_parser_writes(data: dict[str, Any]) -> None:
    """Broken if an editor marks a sound policy as wrong."""
    VALIDATOR.validate(json.loads(Policy.build(data).text))


@given(rules())
def test_the_schema_accepts_rules_as_they_are_written(rule: dict[str, Any]) -> None:
    """Broken if an editor marks a sound rule as wrong."""
    data = document({"id": "r", **rule})
    VALIDATOR.validate(data)
    assert Policy.build(data).document.rules


def _written() -> Iterator[tuple[str, str]]:
    for path in sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]):
        for number, text in enumerate(
            re.findall(r"```yaml\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
        ):
            if "version: 1" in text:
                yield f"{path.stem} {number}", text
    for path in sorted(ROOT.glob("examples/*.yaml")):
        yield path.name, path.read_text("utf-8")


WRITTEN = dict(_written())


@pytest.mark.parametrize("name", WRITTEN)
def test_schema_and_parser_agree_on_what_is_published(name: str) -> None:
    """Broken if a policy of the docs or examples is marked as wrong by an editor."""
    try:
        Policy.parse(WRITTEN[name])
    except PolicyError:
        pytest.skip("it shows a mistake")
    VALIDATOR.validate(plain(WRITTEN[name]))


@pytest.mark.parametrize("kind", LEAVES)
def test_the_schema_accepts_every_leaf(kind: str) -> None:
    """Broken if a condition cannot be written in an editor."""
    VALIDATOR.validate(json.loads(policy(LEAVES[kind][0]).text))


def walk(part: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a schema, and where it is."""
    yield place, part
    items = (
        part.items()
        if isinstance(part, dict)
        else enumerate(part)
        if isinstance(part, list)
        else ()
    )
    for key, inner in items:
        yield from walk(inner, f"{place}/{key}")


def test_null_is_offered_only_where_it_is_a_value() -> None:
    """Broken if an editor offers `when: null`, which the parser refuses."""
    places = {place for place, part in walk(SCHEMA) if part == {"type": "null"}}
    assert places
    allowed = re.compile(
        r"/\$defs/(Comparison|ArgumentNode|IdentityNode)/properties/(equals|contains|in/items)/anyOf/\d"
    )
    assert [place for place in sorted(places) if not allowed.fullmatch(place)] == []
    nulls = [place for place, part in walk(SCHEMA) if place.endswith("/default") and part is None]
    assert nulls == []


def test_the_schema_speaks_to_who_writes_policies() -> None:
    """Broken if what an editor shows is the name of a class instead of what it means."""
    assert [place for place, _ in walk(SCHEMA) if place.endswith("/title")] == []
    undescribed = [
        name
        for name, model in SCHEMA["$defs"].items()
        if name != "JsonValue" and len(model.get("description", "")) < 15
    ]
    assert undescribed == []
    assert not [name for name in SCHEMA["$defs"] if name.startswith("_")]
    assert SCHEMA["additionalProperties"] is False
