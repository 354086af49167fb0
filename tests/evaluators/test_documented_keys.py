"""The keys of the built-in evaluators are those that the page on the policy language tells."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from interlock._re2 import MAX_WORK
from interlock.evaluators import json_schema, lists, patterns
from interlock.evaluators._path_text import MAX_NAME, MAX_PATH
from interlock.evaluators._spelling import MAX_MARKS
from interlock.evaluators.json_schema import SchemaConfig
from interlock.evaluators.lists import ListConfig
from interlock.evaluators.paths import PathConfig
from interlock.evaluators.patterns import RegexConfig
from interlock.policy.looking_back import RateConfig, SequenceConfig
from tests.docs.pages import REFERENCE, rows

SECTIONS: dict[str, type[BaseModel]] = {
    "The evaluator list": ListConfig,
    "The evaluator regex": RegexConfig,
    "The evaluator path": PathConfig,
    "The evaluator schema": SchemaConfig,
    "The evaluator rate": RateConfig,
    "The evaluator sequence": SequenceConfig,
}


def shown_as(default: object) -> str:
    """How the page writes a default."""
    return default if isinstance(default, str) else json.dumps(default)


@pytest.mark.parametrize("title", SECTIONS)
def test_keys(title: str) -> None:
    """Broken if a key is missing from the page, or has another default than it says."""
    schema = SECTIONS[title].model_json_schema()
    expected = {
        key: "required" if key in schema["required"] else shown_as(value.get("default"))
        for key, value in schema["properties"].items()
    }
    shown = {
        row["key"].strip("`"): "null" if row["default"] == "none" else row["default"].strip("`")
        for row in rows("policy", title)
        if "key" in row
    }
    assert expected == shown


def test_bounds() -> None:
    """Broken if the page tells another bound than the one that is enforced."""
    text = (REFERENCE / "policy.md").read_text("utf-8")
    for sentence in (
        f"longer than {lists.MAX_CHARACTERS} characters",
        f"At most {patterns.MAX_BYTES}; with `block`, at most {patterns.MAX_SPELLED}.",
        f"more than {MAX_MARKS} combining marks",
        f"instructions times bytes are at most {MAX_WORK}",
        f"names over {MAX_NAME} bytes and\npaths over {MAX_PATH}",
        f"denied. At most {json_schema.MAX_BYTES}.",
    ):
        assert sentence in text
