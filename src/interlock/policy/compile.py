"""Policy: a document made ready to judge calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from interlock import _canonical
from interlock._call import Call
from interlock._verdict import Opinion, Verdict
from interlock.errors import PolicyError
from interlock.policy.budgets import Budgets
from interlock.policy.conditions import Fault, Predicate
from interlock.policy.document import (
    EvaluatorDocument,
    PolicyDocument,
    RuleDocument,
    parse_data,
    parse_text,
)

MAX_NAMES = 4096
"""For so many names of tools what judges them is remembered; names may come from a model."""


class _Rule(msgspec.Struct, frozen=True):
    when: Predicate | None
    opinion: Opinion


class _Candidates(msgspec.Struct, frozen=True):
    """What can speak of a tool: rules with a condition, in order, and what is said when none of them matches."""

    rules: tuple[tuple[Predicate, Opinion], ...]
    otherwise: Opinion


class Policy:
    """
    A policy: immutable, and identified by the digest of what it says.

    Attributes:
        document: What was parsed.
        text: The document as JSON, keys sorted, defaults left out: what is stored, and reads as the same policy.
        digest: SHA-256 of `text`. Comments, order of keys and file layout do not change it.
        evaluators_for: A function of a tool's name: the evaluators that judge it, in the policy's order.
        budgets: What it limits.
    """

    def __init__(self, document: PolicyDocument) -> None:
        self.document = document
        self.text = _text(document)
        self.digest = _canonical.digest(self.text.encode())
        author = f"policy:{document.name}"
        self._rules = tuple((rule.tools, _compile(rule, author)) for rule in document.rules)
        self._default = Opinion(
            verdict=Verdict(document.default),
            reason=f"no rule matches, and the policy's default is {document.default}",
            author=author,
        )
        # Which rules name a tool is settled when its name is first seen, so a decision does not slow down with
        # the number of rules for other tools. Bounded, because names may come from outside.
        self._candidates: dict[str, _Candidates] = {}
        self.budgets = Budgets(document.budgets)
        self.evaluators_for = lru_cache(maxsize=MAX_NAMES)(self._find_evaluators)

    @classmethod
    def parse(cls, text: str, *, path: str | None = None) -> Policy:
        """
        Return the policy in *text*, YAML or JSON; *path* is what errors call it.

        Raises:
            PolicyError: with line and key.
        """
        return cls(parse_text(text, path=path))

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> Policy:
        """
        Return the policy that *data* describes, with the same keys as a file.

        Raises:
            PolicyError: with the key.
        """
        return cls(parse_data(data))

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """
        Return the policy in the file *path*.

        Raises:
            PolicyError: the file cannot be read as UTF-8 text, or what it says is wrong.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            is_text = not isinstance(error, UnicodeDecodeError)
            reason = getattr(error, "strerror", error) if is_text else "not UTF-8 text"
            raise PolicyError(f"cannot be read: {reason}", path=str(path)) from error
        return cls.parse(text, path=str(path))

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.document.name

    def opinion(self, call: Call) -> Opinion:
        """
        Return what the policy says of *call*: its first matching rule, else its default.

        A rule whose condition cannot be told stops the search with a DENY that names rule and cause: which rule
        would have spoken is not known.
        """
        name = call.tool.name
        found = self._candidates.get(name) or self._find_candidates(name)
        for when, opinion in found.rules:
            answer = when(call)
            if isinstance(answer, Fault):
                return Opinion(
                    verdict=Verdict.DENY,
                    reason=f"rule {opinion.rule} cannot be applied: {answer.reason}",
                    author=opinion.author,
                    rule=opinion.rule,
                )
            if answer:
                return opinion
        return found.otherwise

    def _find_candidates(self, tool: str) -> _Candidates:
        rules: list[tuple[Predicate, Opinion]] = []
        otherwise = self._default
        for patterns, rule in self._rules:
            if _matches(patterns, tool):
                if rule.when is None:  # it always matches: nothing after it can speak
                    otherwise = rule.opinion
                    break
                rules.append((rule.when, rule.opinion))
        found = _Candidates(tuple(rules), otherwise)
        if len(self._candidates) >= MAX_NAMES:  # rare: the names in use are soon found again
            self._candidates.clear()
        self._candidates[tool] = found
        return found

    def _find_evaluators(self, tool: str) -> tuple[EvaluatorDocument, ...]:
        return tuple(item for item in self.document.evaluators if _matches(item.tools, tool))

    def __repr__(self) -> str:
        return f"<Policy {self.name!r} {self.digest[:12]}, {len(self._rules)} rules>"


def _text(document: PolicyDocument) -> str:
    plain = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    try:
        json.dumps(plain, ensure_ascii=False).encode()
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except UnicodeEncodeError:
        raise PolicyError("it holds text that is no Unicode: half of a surrogate pair") from None
    except ValueError:
        raise PolicyError("it holds a number that is not finite, or of too many digits") from None


def _compile(rule: RuleDocument, author: str) -> _Rule:
    opinion = Opinion(
        verdict=Verdict(rule.verdict),
        reason=rule.reason or f"rule {rule.id} says {rule.verdict}",
        author=author,
        rule=rule.id,
        guidance=rule.guidance,
        suggestions=rule.suggest,
        approvers=rule.approvers,
        expires=rule.expires,
    )
    return _Rule(rule.when.predicate() if rule.when else None, opinion)


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
