"""
The document: what a policy file may say, parsed with pydantic, every error located by file, line and key.

Nothing is ignored: an unknown key, a repeated key or a wrong type is an error, because a rule that is silently
not understood is a rule that silently does not protect.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    StrictInt,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from interlock.errors import PolicyError
from interlock.policy.budgets import BudgetDocument, Money
from interlock.policy.conditions import MAX_DEPTH, NODES, Condition, depth_of
from interlock.policy.halting import HaltDocument
from interlock.policy.leases import LeaseDocument
from interlock.policy.looking_back import config_of, rates
from interlock.policy.matching import MATCHERS
from interlock.policy.models import AccessDocument, ModelName, ModelsDocument
from interlock.policy.questions import LOOKING_BACK, EvaluatorDocument
from interlock.policy.recovery import RecoveryDocument
from interlock.policy.risk import RiskDocument, SequenceDocument
from interlock.policy.times import AwareTime
from interlock.policy.values import Duration, Level, Misplaced, Name, Strict
from interlock.policy.wording import further, sentence

MAX_CHARACTERS = 4 * 1024 * 1024
"""Text longer than this is refused before it is parsed: more than anybody writes, less than fills the memory."""

MAX_NODES = 1_000_000
"""Keys and values, aliases counted each time they are used, beyond which a policy is refused."""

_Model = TypeVar("_Model", bound=BaseModel)


class RuleDocument(Strict):
    """
    One rule. It matches when one of each list of names and the whole of `when` match; the first that matches speaks.

    `guidance`, `suggest` and `retries` go with `steer`; `approvers`, `quorum` and `expires` go with `ask`. A rule whose
    mode is `observe` does not speak: what it would say is recorded, and the next rule that matches speaks.
    """

    _needs_one_of = MATCHERS

    id: Name
    tools: tuple[Name, ...] | None = Field(default=None, min_length=1)
    labels: tuple[Name, ...] | None = Field(default=None, min_length=1)
    agents: tuple[Name, ...] | None = Field(default=None, min_length=1)
    users: tuple[Name, ...] | None = Field(default=None, min_length=1)
    teams: tuple[Name, ...] | None = Field(default=None, min_length=1)
    orgs: tuple[Name, ...] | None = Field(default=None, min_length=1)
    models: tuple[ModelName, ...] | None = Field(default=None, min_length=1)
    resources: tuple[Name, ...] | None = Field(default=None, min_length=1)
    when: Condition | None = None
    verdict: Literal["allow", "ask", "steer", "deny"]
    mode: Literal["enforce", "observe"] = "enforce"
    reason: str | None = None
    guidance: str | None = None
    suggest: tuple[Name, ...] = ()
    retries: Annotated[StrictInt, Field(ge=0)] | None = None
    approvers: tuple[Name, ...] = ()
    quorum: Annotated[StrictInt, Field(ge=1, le=100)] = 1
    expires: Duration | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> RuleDocument:
        for verdict, keys in {
            "steer": ("guidance", "suggest", "retries"),
            "ask": ("approvers", "quorum", "expires"),
        }.items():
            for key in keys:
                if key in self.model_fields_set and self.verdict != verdict:
                    raise ValueError(f"{key!r} goes with verdict {verdict!r}, not {self.verdict!r}")
        if self.model_fields_set.isdisjoint(MATCHERS):
            raise ValueError(f"it says of what it speaks by none of: {', '.join(MATCHERS)}")
        if self.when is not None and depth_of(self.when) > MAX_DEPTH:
            raise ValueError(f"the condition is nested deeper than {MAX_DEPTH} levels")
        if self.verdict == "steer" and not (self.guidance or self.suggest):
            raise ValueError(
                "verdict 'steer' needs 'guidance' or 'suggest': where should the model go?"
            )
        return self


class SteeringDocument(Strict):
    """How often a session may be steered, by whomever, before it is denied instead."""

    retries: Annotated[StrictInt, Field(ge=0)]


class ExpectedCallDocument(Strict):
    """A call as an example describes it: what is left out is not there, and the risk is medium."""

    tool: Name
    kind: Literal["tool", "model", "handoff"] = "tool"
    arguments: Mapping[str, JsonValue] = Field(default_factory=dict)
    agent: Name = "agent"
    user: Name | None = None
    team: Name | None = None
    org: Name | None = None
    model: Name | None = None
    resource: str | None = None
    cost_usd: Money | None = None
    risk: Level = "medium"
    labels: tuple[Name, ...] = ()
    capabilities: tuple[Name, ...] = ()


class ExampleDocument(Strict):
    """
    An example beside the policy: a call, after others in the same session, and what is to become of it.

    `verdict` is what policy and evaluators say together, and `rule` the rule that carries it. `at` is when.
    """

    name: Name | None = None
    call: ExpectedCallDocument
    after: tuple[ExpectedCallDocument, ...] = ()
    at: AwareTime | None = None
    verdict: Literal["allow", "ask", "steer", "deny"]
    rule: Name | None = None
    reason: str | None = None


class PolicyDocument(Strict):
    """
    A whole policy. `version` is that of the language.

    What no rule matches gets `default`, and leaving that out means deny. `groups` says who is in a group of approvers.
    """

    version: Literal[1]
    name: Name
    mode: Literal["enforce", "observe", "dry_run"] = "enforce"
    default: Literal["allow", "ask", "deny"] = "deny"
    rules: tuple[RuleDocument, ...] = ()
    evaluators: tuple[EvaluatorDocument, ...] = ()
    risk: RiskDocument | None = None
    models: ModelsDocument | None = None
    steering: SteeringDocument | None = None
    groups: Mapping[Name, tuple[Name, ...]] = Field(default_factory=dict)
    budgets: tuple[BudgetDocument, ...] = ()
    halts: tuple[HaltDocument, ...] = ()
    leases: tuple[LeaseDocument, ...] = ()
    recovery: RecoveryDocument | None = None
    expect: tuple[ExampleDocument, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> PolicyDocument:
        for key, name, names in (
            ("rules", "id", [rule.id for rule in self.rules]),
            ("budgets", "name", [budget.name for budget in self.budgets]),
            ("leases", "name", [lease.name for lease in self.leases]),
        ):
            for number, this in enumerate(names):
                if this in names[:number]:
                    raise Misplaced(
                        f"{this!r} is taken already, and must be unique", key, number, name
                    )
        return self

    @model_validator(mode="after")
    def _halts_once(self) -> PolicyDocument:
        for number, one in enumerate(self.halts):
            if one in self.halts[:number]:
                raise Misplaced("the same is said already", "halts", number)
        return self

    @model_validator(mode="after")
    def _can_look_back(self) -> PolicyDocument:
        counted: set[str] = set()
        for number, item in enumerate(self.evaluators):
            if item.use not in LOOKING_BACK:
                continue
            try:
                names = {budget.name for budget in rates((item,))} or {str(config_of(item))}
            except Misplaced as error:
                raise Misplaced(str(error), "evaluators", number, *error.keys) from None
            if names <= counted:
                raise Misplaced("the same is counted already, or judged", "evaluators", number)
            counted |= names
        return self


_MODELS: tuple[type[BaseModel], ...] = (
    PolicyDocument,
    RuleDocument,
    EvaluatorDocument,
    RiskDocument,
    SequenceDocument,
    ModelsDocument,
    AccessDocument,
    BudgetDocument,
    HaltDocument,
    LeaseDocument,
    ExampleDocument,
    ExpectedCallDocument,
    *NODES.values(),
)
_KEYS = sorted(
    {field.alias or name for model in _MODELS for name, field in model.model_fields.items()}
)


def parse_file(path: str | Path) -> PolicyDocument:
    """
    Return the document in the file *path*.

    Raises:
        PolicyError: the file cannot be read as UTF-8 text, or what it says is wrong.
    """
    return parse_text(text_of(path), path=str(path))


def text_of(path: str | Path) -> str:
    """
    Return the text of the file *path*.

    Raises:
        PolicyError: it cannot be read as UTF-8 text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        is_text = not isinstance(error, UnicodeDecodeError)
        reason = getattr(error, "strerror", error) if is_text else "not UTF-8 text"
        raise PolicyError(f"cannot be read: {reason}", path=str(path)) from error


def parse_text(text: str, *, path: str | None = None) -> PolicyDocument:
    """
    Return the document in *text*, YAML 1.2 (of which JSON is a part).

    Raises:
        PolicyError: with the line and the key of the first error, and how many there are.
    """
    return parse_data(data_of(text, path=path), path=path)


def data_of(text: str, *, path: str | None = None) -> object:
    """
    Return what *text*, YAML 1.2, holds; its mappings and lists remember their lines for `line_of`.

    Raises:
        PolicyError: it is no YAML, or too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise PolicyError(f"longer than {MAX_CHARACTERS} characters", path=path)
    reader = YAML(typ="rt")
    reader.allow_duplicate_keys = False
    try:
        data: object = reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "not YAML").strip().splitlines()[0]
        raise PolicyError(problem, path=path, line=mark.line + 1 if mark else None) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise PolicyError(f"not YAML: {str(error).splitlines()[0]}", path=path) from None
    return data


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
    return parsed(PolicyDocument, data, path=path)


def parsed(model: type[_Model], data: Any, *, path: str | None = None) -> _Model:
    """
    Return *data* as *model* reads it.

    Raises:
        PolicyError: as `parse_data`.
    """
    try:
        return model.model_validate(_plain(data, [0]))
    except ValidationError as error:
        located: dict[tuple[int | str, ...], list[str]] = {}
        problems = error.errors(include_url=False)
        # A misspelt key is unknown *and* missing; only the first says how it is spelt.
        for problem in sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden"):
            place = (*problem["loc"], *further(problem))
            is_missing = problem["type"] == "missing" or bool(further(problem))
            keys = _written(data, place, missing=is_missing)
            located.setdefault(keys, []).append(sentence(problem, _KEYS))
        keys, sentences = next(iter(located.items()))
        more = f" (and {len(located) - 1} more)" if len(located) > 1 else ""
        raise PolicyError(
            _joined(sentences) + more,
            path=path,
            line=line_of(data, keys),
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


def _joined(sentences: list[str]) -> str:
    """Alternatives of a union as one sentence."""
    prefix = "this should be a valid "
    if len(sentences) == 1 or not all(sentence.startswith(prefix) for sentence in sentences):
        return ", or ".join(sentences)
    *most, last = (sentence.removeprefix(prefix) for sentence in sentences)
    return f"{prefix}{', '.join(most)} or {last}"


def line_of(data: object, keys: tuple[int | str, ...]) -> int | None:
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
