"""
Lint: what in a policy can be used and is still not what its author meant.

What it calls an error is certain: a rule that can never speak, a condition that can never hold. What it cannot be
certain of it leaves alone, so a finding is worth reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Literal

import msgspec

from interlock._model_names import model_pattern
from interlock.policy.bounds import contradictions, repetitions
from interlock.policy.conditions import within
from interlock.policy.containment import covers, is_glob
from interlock.policy.document import PolicyDocument, RuleDocument
from interlock.policy.leaves import TimeNode
from interlock.policy.matching import MATCHERS
from interlock.policy.names import matcher

Severity = Literal["error", "warning"]
Lines = Callable[..., int | None]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something that a policy's author should look at.

    Attributes:
        code: What kind of thing, in a word or two.
        severity: `error` where the policy cannot mean it; `warning` where it may.
        key: Where, by the policy's keys with dots.
        line: The line, from 1; None where the policy has no lines.
        says: A sentence.
        remedy: What to do, a sentence.
    """

    code: str
    severity: Severity
    key: str
    line: int | None
    says: str
    remedy: str


class _Found(msgspec.Struct, frozen=True):
    code: str
    keys: tuple[str | int, ...]
    says: str
    remedy: str
    severity: Severity = "warning"


def lint(
    document: PolicyDocument,
    *,
    today: date,
    tools: Iterable[str] | None = None,
    examples: int = 0,
    line: Lines = lambda *_: None,
) -> list[Finding]:
    """
    Return what is to be said against *document*, in its order.

    Args:
        document: The policy.
        today: The day on which dates are past, or not.
        tools: The names of all governed functions of the host; None: not known.
        examples: How many examples there are besides its own.
        line: In which line a part of it is, by its keys.
    """
    known = None if tools is None else sorted(set(tools))
    found = [
        *_whole(document, examples),
        *_unreachable(document.rules),
        *_conditions(document.rules, today),
        *_rules(document),
        *_suggestions(document, known),
        *_idle(document),
        *_leases(document),
        *(() if known is None else _tools(document, known)),
    ]
    findings = [
        Finding(
            code=one.code,
            severity=one.severity,
            key=".".join(map(str, one.keys)),
            line=line(*one.keys),
            says=one.says,
            remedy=one.remedy,
        )
        for one in found
    ]
    return sorted(findings, key=lambda finding: finding.line or 0)


def _whole(document: PolicyDocument, examples: int) -> Iterator[_Found]:
    if document.default == "allow":
        yield _Found(
            "default-allow",
            ("default",),
            "what no rule names is allowed, tools that are yet to be written among it",
            "Name what is allowed in rules, and leave the default at deny.",
        )
    if document.mode == "observe":
        yield _Found(
            "observing",
            ("mode",),
            "the policy only observes: whatever it says, the call runs",
            "Set mode to enforce once its decisions are what you want.",
        )
    if document.rules and not document.expect and not examples:
        yield _Found(
            "no-examples",
            ("expect",) if "expect" in document.model_fields_set else ("name",),
            "no example says what the policy is to decide",
            "Add `expect:` with a call and a verdict for each rule; `interlock policy test` runs them.",
        )


def _unreachable(rules: Sequence[RuleDocument]) -> Iterator[_Found]:
    for number, rule in enumerate(rules):
        for earlier in rules[:number]:
            if not _takes_all(earlier, rule):
                continue
            yield _Found(
                "unreachable",
                ("rules", number),
                f"rule {rule.id} never speaks: every call that it is about is taken by {earlier.id}, which comes first",
                f"Move {rule.id} above {earlier.id}, narrow {earlier.id}, or remove {rule.id}."
                if rule.verdict != earlier.verdict
                else f"Remove {rule.id}: {earlier.id} says {earlier.verdict} already.",
                "error",
            )
            break


def _takes_all(earlier: RuleDocument, later: RuleDocument) -> bool:
    """Whether *earlier* surely speaks of every call of which *later* could."""
    if earlier.mode == "observe":
        return False
    if earlier.when is not None and earlier.when != later.when:
        return False
    return all(
        names is None or _is_covered(key, names, getattr(later, key))
        for key in MATCHERS
        if (names := getattr(earlier, key)) is not None
    )


def _is_covered(key: str, wide: tuple[str, ...], narrow: tuple[str, ...] | None) -> bool:
    if narrow is None:  # a call without that name would not be taken, but every call has a tool
        return key == "tools" and covers(wide, ["*"])
    if key == "models":
        return covers(map(model_pattern, wide), map(model_pattern, narrow))
    return covers(wide, narrow)


def _conditions(rules: Sequence[RuleDocument], today: date) -> Iterator[_Found]:
    for number, rule in enumerate(rules):
        if rule.when is None:
            continue
        where = ("rules", number, "when")
        for said in contradictions(rule.when):
            yield _Found(
                "contradiction",
                where,
                f"the condition of rule {rule.id} never holds: {said}",
                "Mend the bounds, or remove the rule.",
                "error",
            )
        for said in repetitions(rule.when):
            yield _Found(
                "repeated-condition",
                where,
                f"rule {rule.id} asks twice for the same: {said}",
                "Remove one, or mend the one that should say something else.",
            )
        for node in within(rule.when):
            if isinstance(node, TimeNode) and node.time.not_after and node.time.not_after < today:
                yield _Found(
                    "expired",
                    where,
                    f"a time in rule {rule.id} ended with {node.time.not_after}",
                    "Remove the rule, or the condition, or set a later not_after.",
                )


def _rules(document: PolicyDocument) -> Iterator[_Found]:
    for number, rule in enumerate(document.rules):
        if rule.verdict == "ask" and not rule.approvers:
            yield _Found(
                "no-approvers",
                ("rules", number),
                f"rule {rule.id} asks a human and does not say whom, so anybody but the requester may answer",
                "Add approvers with the groups that may.",
            )
        if rule.mode == "observe":
            yield _Found(
                "observed-rule",
                ("rules", number, "mode"),
                f"rule {rule.id} only observes: what it says is recorded and does not count",
                "Remove its mode once its opinions are what you want.",
            )


def _suggestions(document: PolicyDocument, known: list[str] | None) -> Iterator[_Found]:
    for number, rule in enumerate(document.rules):
        for place, name in enumerate(rule.suggest):
            where = ("rules", number, "suggest", place)
            if known is not None and name not in known:
                yield _Found(
                    "unknown-suggestion",
                    where,
                    f"rule {rule.id} suggests {name}, and there is no such tool",
                    "Suggest a tool that exists.",
                    "error",
                )
            elif (verdict := settled(document, name)) in {"deny", "steer"}:
                yield _Found(
                    "refused-suggestion",
                    where,
                    f"rule {rule.id} suggests {name}, which the policy refuses whatever its arguments ({verdict})",
                    f"Add a rule that allows {name}, or suggest another tool.",
                    "error",
                )


def settled(document: PolicyDocument, tool: str) -> str | None:
    """Return the verdict that every call of *tool* gets from the rules; None where that depends on the call."""
    for rule in document.rules:
        if rule.mode == "observe" or not (rule.tools is None or matcher(rule.tools)(tool)):
            continue
        others = [key for key in MATCHERS if key != "tools" and getattr(rule, key) is not None]
        if rule.when is not None or others:
            return None
        return str(rule.verdict)
    return str(document.default)


def _idle(document: PolicyDocument) -> Iterator[_Found]:
    """What judges or counts nothing but calls that rules deny already."""
    for section, items in (
        ("evaluators", [(item.use, item.tools) for item in document.evaluators]),
        ("budgets", [(budget.name, budget.tools) for budget in document.budgets]),
        ("leases", [(lease.name, lease.tools or ("*",)) for lease in document.leases]),
    ):
        for number, (name, patterns) in enumerate(items):
            if all(
                not is_glob(tool) and settled(document, tool) in {"deny", "steer"}
                for tool in patterns
            ):
                yield _Found(
                    f"idle-{section[:-1]}",
                    (section, number),
                    f"{name} is for {', '.join(patterns)} only, and rules refuse every call of it",
                    f"Remove it, or add a rule that lets {' or '.join(patterns)} through.",
                )


def _leases(document: PolicyDocument) -> Iterator[_Found]:
    asks = document.default == "ask" or any(rule.verdict == "ask" for rule in document.rules)
    asks = asks or any(budget.on_exceed == "ask" for budget in document.budgets)
    for number, lease in enumerate(document.leases):
        if not lease.max_concurrent:
            yield _Found(
                "closed-lease",
                ("leases", number, "max_concurrent"),
                f"lease {lease.name} has no slots, so every call that needs it is refused",
                "Set max_concurrent to 1 or more; or say so in a rule, with its reason.",
            )
        if lease.while_asking and not asks:
            yield _Found(
                "nobody-asks",
                ("leases", number, "while_asking"),
                f"lease {lease.name} is held while a human is asked, and nothing here asks one",
                "Remove while_asking, unless an evaluator or a plugin asks.",
            )


def _tools(document: PolicyDocument, known: list[str]) -> Iterator[_Found]:
    named: set[str] = set()
    places: list[tuple[tuple[str | int, ...], str, tuple[str, ...]]] = [
        *((("rules", n), f"rule {r.id}", r.tools or ()) for n, r in enumerate(document.rules)),
        *(
            (("evaluators", n), f"evaluator {item.use}", item.tools)
            for n, item in enumerate(document.evaluators)
        ),
        *((("budgets", n), f"budget {b.name}", b.tools) for n, b in enumerate(document.budgets)),
        *((("leases", n), f"lease {b.name}", b.tools or ()) for n, b in enumerate(document.leases)),
    ]
    for keys, what, patterns in places:
        for place, pattern in enumerate(patterns):
            if not any(map(matcher((pattern,)), known)):
                yield _Found(
                    "unknown-tool",
                    (*keys, "tools", place),
                    f"{what} names {pattern}, and there is no such tool",
                    "Mend the name, or remove it.",
                )
    for rule in document.rules:
        matches = matcher(rule.tools or ("*",))
        named.update(filter(matches, known))
    for tool in known:
        if tool not in named:
            yield _Found(
                "unnamed-tool",
                ("rules",),
                f"no rule names the tool {tool}, so every call of it gets the default: {document.default}",
                f"Add a rule for {tool}, if that is not what you want.",
            )
