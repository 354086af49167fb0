"""Policy: a document made ready to judge calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from interlock import _canonical
from interlock._call import Call, Risk
from interlock._memory import Memory, Steered, Tracker
from interlock._recovery import Escalation
from interlock._verdict import Mode, Opinion, Verdict
from interlock.errors import PolicyError
from interlock.policy.budgets import Budgets
from interlock.policy.conditions import within
from interlock.policy.document import (
    PolicyDocument,
    RuleDocument,
    parse_data,
    parse_file,
    parse_text,
)
from interlock.policy.halting import Halting
from interlock.policy.leases import Leases
from interlock.policy.looking_back import rates, sequences
from interlock.policy.matching import ABOUT
from interlock.policy.models import Models
from interlock.policy.names import matcher
from interlock.policy.questions import LOOKING_BACK, EvaluatorDocument
from interlock.policy.risk import MAX_NAMES, Risks
from interlock.policy.risk import RiskDocument as _RiskDocument
from interlock.policy.rules import Patience, Rule, cannot_tell, compiled, worn
from interlock.policy.situation import Answer, Fault, Predicate, Situation


class _Candidates(msgspec.Struct, frozen=True):
    """
    What can speak of a call.

    Attributes:
        rules: In order: a condition, what is said where it holds, and the patience of who says it.
        otherwise: What is said when none of them does.
        needs_time: Whether any asks for the time.
        questions: The evaluators that they ask, by key.
    """

    rules: tuple[tuple[Predicate | None, Opinion, Patience | None], ...]
    otherwise: Opinion
    needs_time: bool
    questions: Mapping[str, EvaluatorDocument]


class Step(msgspec.Struct, frozen=True):
    """
    What became of one rule: a line of an explanation.

    Attributes:
        rule: The rule.
        answer: Whether its condition held; None where its names did not match.
        speaks: Whether it is what the policy says.
    """

    rule: RuleDocument
    answer: Answer | None
    speaks: bool


class Policy:
    """
    A policy: immutable, and identified by the digest of what it says.

    Attributes:
        document: What was parsed.
        text: The document as JSON, keys sorted, defaults and examples left out: what is stored, and reads as the same
            policy.
        digest: SHA-256 of `text`. Comments, examples, order of keys and file layout do not change it.
        mode: What becomes of its decisions.
        trackers: What a session has to remember for it.
        retries: How often a session may be steered; None: as often as it likes.
        evaluators: Those that are asked outside the transaction: all but those that look back.
        evaluators_for: A function of a tool's name: those of them that judge it, in the policy's order.
        questions: All evaluators that its conditions ask, by key.
        budgets: What it limits.
        author: In whose name it speaks and halts: `policy:NAME`.
        halting: When it halts.
        leases: How many calls it lets run at once.
        escalation: What it finds stuck, for `Governor.recover`.
    """

    def __init__(self, document: PolicyDocument) -> None:
        self.document = document
        self.text = _text(document)
        self.digest = _canonical.digest(self.text.encode())
        self.mode = Mode(document.mode)
        author = f"policy:{document.name}"
        aliases = {} if document.models is None else document.models.aliases
        self._rules = tuple(compiled(rule, author, aliases) for rule in document.rules)
        self._default = Opinion(
            verdict=Verdict(document.default),
            reason=f"no rule matches, and the policy's default is {document.default}",
            author=author,
        )
        # Which rules can speak of a call is settled when its names are first seen, so a decision does not slow down
        # with the number of rules that cannot. Bounded, because names may come from outside.
        self._candidates: dict[object, _Candidates] = {}
        self._about = tuple(
            get for key, get in ABOUT.items() if any(key in rule.names for rule in self._rules)
        )
        self._risks = Risks(document.risk or _RiskDocument())
        self._models = None if document.models is None else Models(document.models)
        self._sequences = sequences(document.evaluators)
        self.author = author
        self.halting = Halting(document.halts)
        self.budgets = Budgets(
            [
                *(budget.budget() for budget in document.budgets),
                *rates(document.evaluators),
            ]
        )
        self.leases = Leases(document.leases, aliases)
        self.escalation = (
            Escalation() if document.recovery is None else document.recovery.escalation(author)
        )
        self.retries = None if document.steering is None else document.steering.retries
        self.questions = {key: item for rule in self._rules for key, item in rule.questions}
        self.trackers = self._tracked()
        self.evaluators = tuple(
            item for item in document.evaluators if item.use not in LOOKING_BACK
        )
        self._evaluators = tuple((matcher(item.tools), item) for item in self.evaluators)
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
        return cls(parse_file(path))

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.document.name

    def opinion(self, call: Call) -> Opinion:
        """Return what the rules say of *call* as the first of its session, no evaluator having been asked."""
        memory = {tracker.key: 0 for tracker in self.trackers}
        risk = self._risks.of_session(call.tool.name, self.risk_of(call), memory)
        return self._said(Situation(call, risk, self.mode, None, memory))[-1]

    def risk_of(self, call: Call, named: Risk | None = None) -> Risk:
        """Return how risky *call* is by itself: the most of what its tool declares, the policy says, and is *named*."""
        declared = call.tool.risk
        if self.document.risk is None and named is None:
            return declared
        return max(declared, self._risks.of_tool(call.tool.name), named or Risk.LOW)

    def points_of(self, risk: Risk) -> int:
        """Return how many points a call of that risk of its own adds to its session's score, if it gets in."""
        return self._risks.points(risk)

    def situation(
        self,
        call: Call,
        risk: Risk,
        *,
        mode: Mode,
        memory: Memory,
        at: datetime | None,
        answers: Mapping[str, Opinion | None],
    ) -> Situation:
        """
        Return the situation of *call*, its risk raised by what its session has done.

        Args:
            call: What is attempted.
            risk: How risky it is by itself.
            mode: What becomes of the decision.
            memory: What the session remembers: of each of `trackers`.
            at: The store's time.
            answers: What the evaluators think that conditions ask.
        """
        if self._risks.trackers:
            risk = self._risks.of_session(call.tool.name, risk, memory)
        return Situation(call, risk, mode, at, memory, answers)

    def needs_past(self, call: Call) -> bool:
        """Whether what it says of *call* depends on the session's memory or on the time."""
        return bool(self.trackers) or self._found(call).needs_time

    def questions_for(self, call: Call) -> Mapping[str, EvaluatorDocument]:
        """Return the evaluators, by key, that conditions ask which may matter for *call*."""
        return self._found(call).questions

    def opinions(self, situation: Situation) -> tuple[Opinion, ...]:
        """
        Return what the policy says of a call.

        That is its first matching rule, else its default; then what its models, its risk section, the evaluators that
        look back, its halts and its leases have against the call, whoever else runs.

        A rule whose condition cannot be told stops the search with a DENY that names rule and cause: which rule would
        have spoken is not known. What rules would say that only observe is among the opinions, and does not count.
        """
        said = self._said(situation)
        if self._models is not None:
            denial = self._models.opinion(situation.call, situation.risk)
            if denial is not None:
                said.append(denial)
        if self.document.risk is not None:
            risky = self._risks.opinion(situation.risk)
            if risky is not None:
                said.append(risky)
        for sequence in self._sequences:
            completing = sequence.opinion(situation.call.tool.name, situation.memory)
            if completing is not None:
                said.append(completing)
        if self.halting.trackers:
            said += self.halting.opinions(situation.risk, situation.memory)
        said += self.leases.opinions(situation.call)
        return tuple(said)

    def explained(self, situation: Situation) -> Iterator[Step]:
        """Yield what becomes of each rule, in order, those after the one that speaks included."""
        spoken = False
        for rule in self._rules:
            answer: Answer | None = None
            if rule.is_about(situation.call):
                answer = True if rule.when is None else rule.when(situation)
            matches = answer is True or isinstance(answer, Fault)
            speaks = matches and not spoken and not rule.opinion.observed
            spoken = spoken or speaks
            yield Step(rule.document, answer, speaks)

    def _said(self, situation: Situation) -> list[Opinion]:
        """What rules observe, and last what the policy says."""
        found = self._found(situation.call)
        said: list[Opinion] = []
        for when, opinion, patience in found.rules:
            answer = True if when is None else when(situation)
            if isinstance(answer, Fault):
                said.append(cannot_tell(opinion, answer))
            elif answer:
                said.append(worn(opinion, patience, situation.memory) if patience else opinion)
            else:
                continue
            if not opinion.observed:
                return said
        said.append(found.otherwise)
        return said

    def _found(self, call: Call) -> _Candidates:
        name: object = call.tool.name
        key = (name, *[get(call) for get in self._about]) if self._about else name
        return self._candidates.get(key) or self._find_candidates(key, call)

    def _find_candidates(self, key: object, call: Call) -> _Candidates:
        speaking: list[Rule] = []
        for rule in self._rules:
            if rule.is_about(call):
                speaking.append(rule)
                if rule.when is None and not rule.opinion.observed:
                    break  # it always matches: nothing after it can speak
        last = speaking[-1] if speaking else None
        settled = (
            last is not None
            and last.when is None
            and last.patience is None
            and not last.opinion.observed
        )
        heard = speaking[:-1] if settled else speaking
        found = _Candidates(
            tuple((rule.when, rule.opinion, rule.patience) for rule in heard),
            last.opinion if settled and last is not None else self._default,
            any(rule.needs_time for rule in heard),
            {key: item for rule in heard for key, item in rule.questions},
        )
        if len(self._candidates) >= MAX_NAMES:  # rare: the names in use are soon found again
            self._candidates.clear()
        self._candidates[key] = found
        return found

    def _find_evaluators(self, tool: str) -> tuple[EvaluatorDocument, ...]:
        return tuple(item for matches, item in self._evaluators if matches(tool))

    def _tracked(self) -> tuple[Tracker, ...]:
        wanted: list[Tracker] = [*self._risks.trackers, *self.halting.trackers]
        wanted += [sequence.tracker for sequence in self._sequences]
        if self.retries is not None:
            wanted.append(Steered())
        for rule in self._rules:
            if rule.document.retries is not None:
                wanted.append(Steered(rule.document.id))
            if rule.document.when is not None:
                for node in within(rule.document.when):
                    wanted += node.trackers
        return tuple(dict.fromkeys(wanted))

    def __repr__(self) -> str:
        return f"<Policy {self.name!r} {self.digest[:12]}, {len(self._rules)} rules>"


def _text(document: PolicyDocument) -> str:
    plain = document.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude={"expect"}
    )
    try:
        json.dumps(plain, ensure_ascii=False).encode()
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except UnicodeEncodeError:
        raise PolicyError("it holds text that is no Unicode: half of a surrogate pair") from None
    except ValueError:
        raise PolicyError("it holds a number that is not finite, or of too many digits") from None
