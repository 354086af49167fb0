"""Rules, made ready: which calls each is about, whether its condition holds, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from interlock._call import Call
from interlock._memory import Memory, Steered
from interlock._verdict import Opinion, Verdict
from interlock.policy.conditions import within
from interlock.policy.document import RuleDocument
from interlock.policy.leaves import EvaluatorNode
from interlock.policy.matching import NO_ALIASES, is_about, names_of
from interlock.policy.names import Names, matcher
from interlock.policy.questions import EvaluatorDocument
from interlock.policy.situation import Answer, Fault, Predicate, Situation

Patience: TypeAlias = tuple[str, int, Opinion]
"""Of a rule that steers: under which key it is remembered how often, how often it may, and what it says then."""


class Rule(msgspec.Struct, frozen=True):
    """
    A rule made ready.

    Attributes:
        document: As it is written.
        names: By each key of `ABOUT`, and `tools`, whether it is about a name.
        when: Its condition, that of its resources included; None: always.
        opinion: What it says.
        patience: How often it may steer a session, where that is limited.
        needs_time: Whether its condition asks for the time.
        questions: The evaluators that its condition asks, by key.
    """

    document: RuleDocument
    names: Mapping[str, Names]
    when: Predicate | None
    opinion: Opinion
    patience: Patience | None
    needs_time: bool
    questions: tuple[tuple[str, EvaluatorDocument], ...]

    def is_about(self, call: Call) -> bool:
        """Whether its lists of names match *call*; one without the name does not."""
        return is_about(self.names, call)


def compiled(rule: RuleDocument, author: str, aliases: Mapping[str, str] = NO_ALIASES) -> Rule:
    """Return *rule* made ready to be asked; *author* is who speaks, and *aliases* are further names of models."""
    opinion = Opinion(
        verdict=Verdict(rule.verdict),
        reason=rule.reason or f"rule {rule.id} says {rule.verdict}",
        author=author,
        rule=rule.id,
        guidance=rule.guidance,
        suggestions=rule.suggest,
        approvers=rule.approvers,
        quorum=rule.quorum,
        expires=rule.expires,
        observed=rule.mode == "observe",
    )
    nodes = [] if rule.when is None else list(within(rule.when))
    return Rule(
        document=rule,
        names=names_of(rule, aliases),
        when=_condition(rule),
        opinion=opinion,
        patience=None if rule.retries is None else _patience(opinion, rule.retries),
        needs_time=any(node.needs_time for node in nodes),
        questions=tuple(
            (node.key, node.document) for node in nodes if isinstance(node, EvaluatorNode)
        ),
    )


def _condition(rule: RuleDocument) -> Predicate | None:
    when = None if rule.when is None else rule.when.predicate()
    if rule.resources is None:
        return when
    matches = matcher(rule.resources)

    def is_met(situation: Situation) -> Answer:
        resource = situation.call.resource
        if resource is None or not matches(resource):
            return False
        return True if when is None else when(situation)

    return is_met


def _patience(opinion: Opinion, retries: int) -> Patience:
    spent = msgspec.structs.replace(
        opinion,
        verdict=Verdict.DENY,
        reason=f"{opinion.reason}, and has said so {retries} times",
        guidance=None,
        suggestions=(),
    )
    return Steered(opinion.rule).key, retries, spent


def worn(opinion: Opinion, patience: Patience, memory: Memory) -> Opinion:
    """Return *opinion*, or what it has become once it was said as often as *patience* allows."""
    key, retries, spent = patience
    return opinion if memory[key] < retries else spent


def cannot_tell(opinion: Opinion, answer: Fault) -> Opinion:
    """Return the DENY of a rule whose condition cannot be told."""
    return Opinion(
        verdict=Verdict.DENY,
        reason=f"rule {opinion.rule} cannot be applied: {answer.reason}",
        author=opinion.author,
        rule=opinion.rule,
        observed=opinion.observed,
    )
