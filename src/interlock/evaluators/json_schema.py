"""The evaluator `schema`: the arguments must be valid under a JSON Schema, draft 2020-12."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import isfinite
from pathlib import PurePath
from typing import Any, Self
from uuid import UUID

import jsonschema_rs
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from interlock import _canonical, _forms
from interlock._argument import MISSING, ArgumentPath, Place
from interlock._call import Call
from interlock._re2 import Pattern, check_work
from interlock._verdict import Opinion, Verdict

MAX_BYTES = 131_072
"""No data is judged that is longer as JSON: judging holds the interpreter's lock, but for patterns."""

MAX_KEY_WORK = 2**22
"""Likewise instructions of `patternProperties` times bytes: they are not RE2's, and hold the lock."""

MAX_EXPONENT = 400
"""Powers of ten that a Decimal may have, a few more than a float has."""

MAX_FRACTION = 2**63
"""A Decimal beyond has no fraction."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_STRICT = jsonschema_rs.Draft202012Validator(
    {
        "$schema": DRAFT,
        "$id": "urn:interlock:strict-schema",
        # By the draft's own dynamic references, this holds of every schema within a schema, too.
        "$dynamicAnchor": "meta",
        "$ref": DRAFT,
        "unevaluatedProperties": False,
    }
)
"""The schema of schemas without unknown keywords: a misspelt one would silently not protect."""


class NoJson(ValueError):
    """The value has no form in JSON. The message says of what kind it is, not what it is."""


class _Rule:
    """The keyword `pattern`, by RE2."""

    def __init__(self, _schema: dict[str, Any], value: Any, _path: list[str | int]) -> None:
        self._pattern = Pattern(value)

    def validate(self, instance: Any) -> None:
        if isinstance(instance, str) and not self._pattern.is_in(instance.encode()):
            raise ValueError("does not match")


_KEYWORDS: Any = {"pattern": _Rule}


class SchemaConfig(BaseModel):
    """
    What the evaluator `schema` is told.

    Attributes:
        json_schema: The schema, by the key `schema`.
        argument: The path of what is judged; None for all arguments, as an object.
        max_bytes: What is longer as JSON is denied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    json_schema: dict[str, JsonValue] = Field(alias="schema")
    argument: ArgumentPath | None = None
    max_bytes: int = Field(65_536, ge=1, le=MAX_BYTES)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.json_schema.get("$schema", DRAFT) != DRAFT:
            raise ValueError(
                f"only draft 2020-12 is known: leave '$schema' out, or let it be {DRAFT}"
            )
        flaws = list(_STRICT.iter_errors(self.json_schema))
        if flaws:  # an unknown keyword within another is told of both: the inner one is meant
            flaw = max(flaws, key=lambda flaw: len(flaw.instance_path))
            raise ValueError(
                f"not a JSON Schema of draft 2020-12, at {_pointer(flaw.instance_path)}: {flaw.message}"
            )
        try:
            self.validator()
        except ValueError as error:
            raise ValueError(f"the schema cannot be used: {str(error).splitlines()[0]}") from None
        values = [text for text in _all(self.json_schema, "pattern") if isinstance(text, str)]
        check_work(sum(Pattern(text).size for text in values) or 1, self.max_bytes)
        groups = [
            group
            for group in _all(self.json_schema, "patternProperties")
            if isinstance(group, dict)
        ]
        keys = sum(Pattern(text).size for group in groups for text in group)
        if keys * self.max_bytes > MAX_KEY_WORK:
            raise ValueError(
                f"the patterns of 'patternProperties' are too large for {self.max_bytes} bytes: "
                f"simplify them, or lower max_bytes to {MAX_KEY_WORK // keys}"
            )
        return self

    def validator(self) -> jsonschema_rs.Draft202012Validator:
        """Return the schema, compiled: linear patterns, known formats, nothing fetched."""
        return jsonschema_rs.Draft202012Validator(
            self.json_schema,
            validate_formats=True,
            ignore_unknown_formats=False,
            retriever=_refuse,
            pattern_options=jsonschema_rs.RegexOptions(),
            keywords=_KEYWORDS,
        )


class SchemaEvaluator:
    """Denies a call whose arguments have no JSON form, or are not valid in it."""

    Config = SchemaConfig

    def __init__(self, config: SchemaConfig) -> None:
        """Compile the schema once."""
        self._validator = config.validator()
        self._place = None if config.argument is None else Place(config.argument)
        self._name = "the arguments" if self._place is None else f"argument {self._place.name}"
        self._max_bytes = config.max_bytes

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        objection = self._objection(call)
        if objection is None:
            return None
        reason = f"{self._name}: {objection}"
        return Opinion(verdict=Verdict.DENY, reason=reason, author="evaluator:schema")

    def _objection(self, call: Call) -> str | None:
        value = call.arguments if self._place is None else self._place.find(call.arguments)
        if value is MISSING:
            return "missing"
        try:
            data = as_json(value)
            size = len(json.dumps(data, ensure_ascii=False, default=str).encode())
        except NoJson as error:
            return f"{error} has no form in JSON"
        if size > self._max_bytes:
            return f"longer than {self._max_bytes} bytes as JSON"
        if self._validator.is_valid(data):
            return None
        flaw = next(iter(self._validator.iter_errors(data)), None)
        return f"not valid by the schema's {_pointer(flaw.schema_path) if flaw else 'whole'}"


def as_json(value: object) -> Any:
    """
    Return *value*, an argument as judges see it, as JSON data.

    A Decimal is a number, exactly; a tuple is an array; a set is an array in the order in which it is recorded; a
    mapping and a record are objects; dates, times, UUIDs and paths are strings.

    Raises:
        NoJson: bytes, durations, numbers that are not finite, objects, keys that are no text, text that is no Unicode.
    """
    match value:
        case str():
            return _text(value)
        case tuple():
            return [as_json(item) for item in value]
        case frozenset():
            return [as_json(item) for item in sorted(value, key=_canonical.canonical)]
        case Mapping():
            return {_key(key): as_json(item) for key, item in value.items()}
        case dt.date() | dt.time():
            return value.isoformat()
        case UUID() | PurePath():
            return _text(str(value))
        case _:
            return _number(value)


def _number(value: object) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float() if isfinite(value):
            return value
        case Decimal() if value.is_finite():
            return _exact(value)
        case float() | Decimal():
            raise NoJson("a number that is not finite")
        case _forms.Opaque():
            raise NoJson("an object")
        case _:
            raise NoJson(f"a value of the type {type(value).__name__}")


def _exact(value: Decimal) -> Decimal:
    # The library compares exactly, but for fractions of what its integers cannot hold; and it writes numbers out.
    if abs(value.adjusted()) > MAX_EXPONENT:
        raise NoJson("a number of so many digits")
    if abs(value) >= MAX_FRACTION and value != value.to_integral_value():
        raise NoJson("a fraction of so large a number")
    return value


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise NoJson("a key that is no text")
    return _text(key)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoJson("text that is no Unicode") from None
    return text


def _refuse(_uri: str) -> Any:
    raise ValueError("a schema is never fetched; put what it refers to in '$defs'")


def _all(schema: object, keyword: str) -> Iterator[object]:
    """What stands under *keyword* anywhere in *schema*, in a few places where it is no keyword, too."""
    match schema:
        case dict():
            for key, value in schema.items():
                if key == keyword:
                    yield value
                yield from _all(value, keyword)
        case list():
            for value in schema:
                yield from _all(value, keyword)
        case _:
            pass


def _pointer(path: list[str | int]) -> str:
    """A JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path) or "/"
