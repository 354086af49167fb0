"""
Trial: what would become of calls, without a store: for the examples beside a policy, and to explain and compare.

It consults and decides by the very code that governs. What only a store knows is not there: budgets, tickets, halts,
and the plugins of a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Self

import msgspec

from interlock._call import Call, Identity, Risk, Tool, describe
from interlock._consult import Consultation, Judges
from interlock._decide import decide
from interlock._memory import Fact, Memory, recalled, remembering
from interlock._plugins import Plugins
from interlock._state import SessionStatus
from interlock._verdict import Decision, Verdict
from interlock.errors import Misuse
from interlock.evaluators import Panel, heard
from interlock.events import CallDecided
from interlock.policy import Policy
from interlock.policy.compile import Step
from interlock.policy.document import ExampleDocument, ExpectedCallDocument
from interlock.policy.situation import Situation

_NOBODY = Plugins(())
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)
_ID = "trial"


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """
    What would become of a call.

    Attributes:
        call: The call.
        decision: What policy and evaluators say together.
        situation: What the policy was asked about.
        steps: What became of each rule.
        counted_by: The names of the budgets that would count it.
        leases: The names of the leases that it would need.
        points: What it adds to its session's score of risk, if it gets in.
    """

    call: Call
    decision: Decision
    situation: Situation
    steps: tuple[Step, ...]
    counted_by: tuple[str, ...]
    leases: tuple[str, ...]
    points: int

    @property
    def speaks(self) -> str | None:
        """The id of the rule that the policy's own opinion comes from; None where its default speaks."""
        return next((step.rule.id for step in self.steps if step.speaks), None)


class Failure(msgspec.Struct, frozen=True):
    """One way in which an example does not hold: what was expected, what there is, and of what."""

    key: str
    expected: str
    found: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of an example.

    Attributes:
        number: Its place among the examples, from 0.
        name: What it is called.
        ruling: What would become of its call.
        failures: In what it does not hold; none where it does.
        rules: The rules that spoke, of the calls before it, too.
    """

    number: int
    name: str
    ruling: Ruling
    failures: tuple[Failure, ...]
    rules: tuple[str, ...]

    @property
    def explained(self) -> list[str]:
        """In what it does not hold, and why, a line each."""
        decision = self.ruling.decision
        lines = [f"expected {one.key} {one.expected}, got {one.found}" for one in self.failures]
        authors = ", ".join(decision.authors)
        return [*lines, f"{decision.verdict} because {decision.reason} ({authors})"]


class Trial:
    """A policy and its evaluators, ready to be tried; `close` it, or use it as a context manager."""

    def __init__(
        self,
        policy: Policy,
        evaluators: Mapping[str, type] = MappingProxyType({}),
        offered: Mapping[str, tuple[type, str | None]] = MappingProxyType({}),
    ) -> None:
        """
        Build the evaluators that *policy* names: the host's own, those that plugins have *offered*, others.

        Raises:
            PluginError, PolicyError: as `Panel`.
        """
        self.policy = policy
        self._judges = Judges(policy=policy, panel=Panel(policy, evaluators, offered))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the evaluators."""
        self._judges.panel.close()

    def memory(self) -> dict[str, int]:
        """Return what a session remembers that has done nothing."""
        return recalled(self.policy.trackers, ())

    def ruling(
        self, call: Call, memory: Memory | None = None, at: datetime | None = None
    ) -> Ruling:
        """
        Return what would become of *call*.

        Args:
            call: The call.
            memory: What its session remembers; nothing has been done in it, if left out.
            at: When; the first moment of 2026 in UTC, if left out, so that the answer is the same for ever.
        """
        remembered = self.memory() if memory is None else memory
        when = at or _WHEN
        consultation = Consultation(self._judges, _NOBODY, call, self.policy.mode)
        if consultation.needs_panel():
            heard(consultation.ask_panel)
        counsel = consultation.counsel()
        found = counsel.recalled(call, remembered, when)
        decision = decide(
            call,
            found.opinions,
            status=SessionStatus.OPEN,
            ticket=None,
            now=when,
            mode=counsel.mode,
            patience=found.patience,
        )
        situation = consultation.situation(remembered, when)
        return Ruling(
            call=call,
            decision=decision,
            situation=situation,
            steps=tuple(self.policy.explained(situation)),
            counted_by=tuple(claim.budget.name for claim in self.policy.budgets.claims_on(call)),
            leases=self.policy.leases.names(call),
            points=counsel.points,
        )

    def after(self, ruling: Ruling, memory: Memory) -> dict[str, int]:
        """Return *memory* after a call of which that became; one that a human is asked about was approved."""
        return self.remembering(memory, self._decided(ruling))

    @staticmethod
    def remembering(memory: Memory, fact: Fact) -> dict[str, int]:
        """Return *memory* after a call that was decided so, or a halt that was ordered."""
        return remembering(memory, fact)

    def result(self, number: int, example: ExampleDocument) -> Result:
        """Return what comes of *example*."""
        memory = self.memory()
        rules: list[str | None] = []
        for document in example.after:
            ruling = self.ruling(call_of(document), memory, example.at)
            rules.append(ruling.speaks)
            memory = self.after(ruling, memory)
        ruling = self.ruling(call_of(example.call), memory, example.at)
        rules.append(ruling.speaks)
        return Result(
            number=number,
            name=example.name or example.call.tool,
            ruling=ruling,
            failures=tuple(_failures(example, ruling.decision)),
            rules=tuple(rule for rule in rules if rule is not None),
        )

    def results(self, examples: Iterable[ExampleDocument]) -> list[Result]:
        """Return what comes of each of *examples*."""
        return [self.result(number, example) for number, example in enumerate(examples)]

    def uncovered(self, results: Iterable[Result]) -> tuple[str, ...]:
        """Return the ids of the rules that spoke in none of *results*, in order."""
        spoken = {rule for result in results for rule in result.rules}
        return tuple(
            rule.id
            for rule in self.policy.document.rules
            if rule.id not in spoken and rule.mode == "enforce"
        )

    def _decided(self, ruling: Ruling) -> CallDecided:
        call, decision = ruling.call, ruling.decision
        return CallDecided(
            call_id=call.id,
            tool=call.tool.name,
            tool_kind=call.tool.kind,
            risk=ruling.situation.risk,
            arguments=call.recorded,
            digest=call.digest,
            resource=call.resource,
            cost_usd=call.cost,
            verdict=decision.verdict,
            admitted=decision.admits or decision.verdict is Verdict.ASK,
            reason=decision.reason,
            opinions=decision.opinions,
            policy=self.policy.digest,
            points=ruling.points,
            mode=decision.mode,
        )


def call_of(document: ExpectedCallDocument) -> Call:
    """Return the call that *document* describes."""
    tool = Tool(
        name=document.tool,
        kind=document.kind,
        risk=Risk(document.risk),
        labels=tuple(sorted(document.labels)),
        capabilities=tuple(sorted(document.capabilities)),
        cost=document.cost_usd,
    )
    identity = Identity(
        agent=document.agent, user=document.user, team=document.team, org=document.org
    )
    call = described(tool, document.arguments, identity)
    model = (document.model or document.tool) if document.kind == "model" else document.model
    return msgspec.structs.replace(call, resource=document.resource, model=model)


def described(tool: Tool, arguments: Mapping[str, object], identity: Identity) -> Call:
    """Return a call of *tool* in a session that is only imagined."""
    call, _ = describe(tool, arguments, call_id=_ID, session_id=_ID, identity=identity)
    return call


def call_again(
    decided: CallDecided, identity: Identity, tools: Mapping[str, Tool] | None = None
) -> Call:
    """
    Return the call of which *decided* tells, as far as that is recorded.

    Args:
        decided: The event.
        identity: Whose session it was in.
        tools: Declarations by name, whose labels and capabilities are to count instead of the recorded ones.

    Its risk is what was recorded, the session's part in it included. Secrets and redacted text are not known, so what a
    policy asks about them cannot be told.

    Raises:
        Misuse: its arguments cannot be read.
    """
    known = (tools or {}).get(decided.tool)
    tool = Tool(
        name=decided.tool,
        kind=decided.tool_kind,
        risk=decided.risk,
        labels=known.labels if known else decided.labels,
        capabilities=known.capabilities if known else decided.capabilities,
        cost=decided.cost_usd,
    )
    try:
        arguments = _plain(msgspec.json.decode(decided.arguments))
    except (msgspec.DecodeError, ValueError, ArithmeticError) as error:
        raise Misuse(f"the arguments of call {decided.call_id} cannot be read: {error}") from None
    call = described(tool, arguments, identity)
    return msgspec.structs.replace(
        call, resource=decided.resource, model=decided.model, capture=decided.capture
    )


_READ: dict[str, Callable[[str], object]] = {
    "$decimal": Decimal,
    "$int": int,
    "$float": float,
    "$datetime": datetime.fromisoformat,
}


def _plain(recorded: Any) -> Any:
    """Arguments as they were, from canonical JSON; what has no plain form stays as it is written."""
    match recorded:
        case dict():
            if len(recorded) == 1:
                [(key, value)] = recorded.items()
                if key in _READ and isinstance(value, str):
                    return _READ[key](value)
            return {
                (key[1:] if key.startswith("$$") else key): _plain(value)
                for key, value in recorded.items()
            }
        case list():
            return [_plain(item) for item in recorded]
        case _:
            return recorded


def _failures(example: ExampleDocument, decision: Decision) -> Iterable[Failure]:
    if str(decision.verdict) != example.verdict:
        yield Failure("verdict", example.verdict, str(decision.verdict))
    carried = [opinion.rule for opinion in decision.because if opinion.rule]
    if example.rule is not None and example.rule not in carried:
        yield Failure("rule", example.rule, ", ".join(carried) or "no rule")
    if example.reason is not None and example.reason not in decision.reason:
        yield Failure("reason", example.reason, decision.reason)
