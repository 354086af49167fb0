"""
The document: what a policy file may say, parsed with pydantic, every error located by file, line and key.

Nothing is ignored: an unknown key, a repeated key or a wrong type is an error, because a rule that is silently
not understood is a rule that silently does not protect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from interlock.errors import PolicyError
from interlock.policy.budgets import BudgetDocument
from interlock.policy.conditions import MAX_DEPTH, NODES, Condition, depth_of
from interlock.policy.values import Duration, Name, Strict

MAX_CHARACTERS = 4 * 1024 * 1024
"""Text longer than this is refused before it is parsed: more than anybody writes, less than fills the memory."""

MAX_NODES = 1_000_000
"""Keys and values, aliases counted each time they are used, beyond which a policy is refused."""


class RuleDocument(Strict):
    """
    One rule. It matches when one of `tools` and the whole of `when` match; the first rule that matches speaks.

    `guidance` and `suggest` go with `steer`; `approvers` and `expires` go with `ask`.
    """

    id: Name
    tools: tuple[Name, ...] = Field(min_length=1)
    when: Condition | None = None
    verdict: Literal["allow", "ask", "steer", "deny"]
    reason: str | None = None
    guidance: str | None = None
    suggest: tuple[Name, ...] = ()
    approvers: tuple[Name, ...] = ()
    expires: Duration | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> RuleDocument:
        for verdict, keys in {
            "steer": ("guidance", "suggest"),
            "ask": ("approvers", "expires"),
        }.items():
            for key in keys:
                if key in self.model_fields_set and self.verdict != verdict:
                    raise ValueError(f"{key!r} goes with verdict {verdict!r}, not {self.verdict!r}")
        if self.when is not None and depth_of(self.when) > MAX_DEPTH:
            raise ValueError(f"the condition is nested deeper than {MAX_DEPTH} levels")
        if self.verdict == "steer" and not (self.guidance or self.suggest):
            raise ValueError(
                "verdict 'steer' needs 'guidance' or 'suggest': where should the model go?"
            )
        return self


class EvaluatorDocument(Strict):
    """An evaluator by name, the tools it judges, and its configuration."""

    use: Name
    tools: tuple[Name, ...] = Field(default=("*",), min_length=1)
    timeout: Duration = Field(default=timedelta(seconds=2), json_schema_extra={"default": "2s"})
    with_: Mapping[str, JsonValue] = Field(default_factory=dict, alias="with")


class PolicyDocument(Strict):
    """
    A whole policy. `version` is that of the language.

    What no rule matches gets `default`, and leaving that out means deny.
    """

    version: Literal[1]
    name: Name
    default: Literal["allow", "ask", "deny"] = "deny"
    rules: tuple[RuleDocument, ...] = ()
    evaluators: tuple[EvaluatorDocument, ...] = ()
    budgets: tuple[BudgetDocument, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> PolicyDocument:
        for what, names in (
            ("rule ids", [rule.id for rule in self.rules]),
            ("names of budgets", [budget.name for budget in self.budgets]),
        ):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} must be unique; repeated: {', '.join(repeated)}")
        return self


_MODELS: tuple[type[BaseModel], ...] = (
    PolicyDocument,
    RuleDocument,
    EvaluatorDocument,
    BudgetDocument,
    *NODES.values(),
)
_KEYS = sorted(
    {field.alias or name for model in _MODELS for name, field in model.model_fields.items()}
)


def parse_text(text: str, *, path: str | None = None) -> PolicyDocument:
    """
    Return the document in *text*, YAML 1.2 (of which JSON is a part).

    Raises:
        PolicyError: with the line and the key of the first error, and how many there are.
    """
    if len(text) > MAX_CHARACTERS:
        raise PolicyError(f"longer than {MAX_CHARACTERS} characters", path=path)
    reader = YAML(typ="rt")
    reader.allow_duplicate_keys = False
    try:
        data = reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "not YAML").strip().splitlines()[0]
        raise PolicyError(problem, path=path, line=mark.line + 1 if mark else None) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise PolicyError(f"not YAML: {str(error).splitlines()[0]}", path=path) from None
    return parse_data(data, path=path)


def parse_data(data: object, *, path: str | None = None) -> PolicyDocument:
    """
    Return the document that *data* holds: what a YAML or JSON reader returns, or the same built in Python.

    Raises:
        PolicyError: as `parse_text`; with a line where *data* remembers lines.
    """
    if not isinstance(data, Mapping):
        raise PolicyError(
            "a policy is a mapping with at least 'version: 1' and 'name'; "
            f"this is {'empty' if data is None else 'something else'}",
            path=path,
        )
    try:
        return PolicyDocument.model_validate(_plain(data, [0]))
    except ValidationError as error:
        located: dict[tuple[int | str, ...], list[str]] = {}
        problems = error.errors(include_url=False)
        # A misspelt key is unknown *and* missing; only the first says how it is spelt.
        for problem in sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden"):
            keys = _written(data, problem["loc"], missing=problem["type"] == "missing")
            located.setdefault(keys, []).append(_sentence(problem))
        keys, sentences = next(iter(located.items()))
        more = f" (and {len(located) - 1} more)" if len(located) > 1 else ""
        raise PolicyError(
            _joined(sentences) + more,
            path=path,
            line=_line(data, keys),
            key=".".join(map(str, keys)),
        ) from None
    except (RecursionError, OverflowError):
        raise PolicyError("nested too deeply or repeated too often", path=path) from None


def _plain(data: object, seen: list[int]) -> object:
    """The same without the reader's own types, aliases written out; OverflowError when there is too much."""
    seen[0] += 1
    if seen[0] > MAX_NODES:
        raise OverflowError
    match data:
        case Mapping():
            return {
                _joined_pairs(key) if isinstance(key, str) else key: _plain(value, seen)
                for key, value in data.items()
            }
        case list() | tuple():
            return [_plain(item, seen) for item in data]
        case AbstractSet():  # has no order of its own, and the digest needs one
            return [_plain(item, seen) for item in sorted(data, key=repr)]
        case str():
            return _joined_pairs(data)
        case bool():
            return data
        case int():
            return int(data)
        case float():
            return float(data)
        case _:
            return data


def _joined_pairs(text: str) -> str:
    """*text* as a plain str, with the two escapes that JSON writes beyond U+FFFF read as the one character."""
    if text.isascii():
        return str(text)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:  # a surrogate by itself; whoever reads it says that it is no text
        return str(text)


def _written(data: Any, location: tuple[int | str, ...], *, missing: bool) -> tuple[int | str, ...]:
    """The part of pydantic's *location* that the file knows: it names members of unions, too."""
    keys: list[int | str] = []
    for number, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (missing and number == len(location) - 1):
                continue
        keys.append(part)
    return tuple(keys)


def _sentence(problem: Any) -> str:
    match problem["type"]:
        case "extra_forbidden":
            close = get_close_matches(str(problem["loc"][-1]), _KEYS, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"the language has {', '.join(_KEYS)}"
            )
            return f"unknown key here; {hint}"
        case "missing":
            return "this key is missing; add it"
        case "value_error":
            return str(problem["msg"]).removeprefix("Value error, ")
        case _:
            said = str(problem["msg"]).replace("Input should", "this should")
            said = re.sub(r"dictionary( or instance of \w+)?", "mapping", said)
            return said.replace("Tuple should", "this list should").replace("tuple", "list")


def _joined(sentences: list[str]) -> str:
    """Alternatives of a union as one sentence."""
    prefix = "this should be a valid "
    if len(sentences) == 1 or not all(sentence.startswith(prefix) for sentence in sentences):
        return ", or ".join(sentences)
    *most, last = (sentence.removeprefix(prefix) for sentence in sentences)
    return f"{prefix}{', '.join(most)} or {last}"


def _line(data: object, keys: tuple[int | str, ...]) -> int | None:
    """The line of the deepest part of *keys* that is written in the text, from 1."""
    line: int | None = None
    for key in keys:
        if not isinstance(data, (CommentedMap, CommentedSeq)):
            break
        try:
            row = data.lc.key(key)[0] if isinstance(data, CommentedMap) else data.lc.item(key)[0]
            data = data[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
        line = row + 1
    if line is None and isinstance(data, CommentedMap):
        line = data.lc.line + 1
    return line
