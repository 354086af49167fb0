"""The reference tells every key of the evaluator and of a grant, and its default."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.evaluators._grants import Grant
from interlock.evaluators.egress import EgressConfig
from tests.docs.pages import first, rows


def _keys(schema: dict[str, Any]) -> dict[str, str]:
    required = schema.get("required", [])
    return {
        key: "required" if key in required else json.dumps(value.get("default"))
        for key, value in schema["properties"].items()
    }


def _shown(title: str) -> dict[str, str]:
    words = {"none": "null", "url": '"url"'}
    shown = {first(row): row["default"].strip("`") for row in rows("policy", title)}
    return {key: words.get(default, default) for key, default in shown.items()}


@pytest.mark.parametrize(
    ("model", "title"), [(EgressConfig, "The evaluator egress"), (Grant, "A grant")]
)
def test_keys(model: Any, title: str) -> None:
    """Broken if a key is missing from the page, documented and gone, or has another default than it says."""
    assert _keys(model.model_json_schema()) == _shown(title)
