"""Verdict, Mode, Opinion, Decision, and combine(): how opinions become one decision."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum

import msgspec

from interlock._scale import Scale


class Verdict(Scale):
    """
    What may happen to a call, by strictness: ALLOW < ASK < STEER < DENY.

    ASK: a human must say yes first. STEER: refused, with guidance and alternatives for the model.
    """

    ALLOW = "allow"
    ASK = "ask"
    STEER = "steer"
    DENY = "deny"


class Mode(StrEnum):
    """
    What becomes of a decision.

    ENFORCE: it counts. OBSERVE: it is recorded, and the call runs whatever it says. DRY_RUN: it counts, and a call that
    it admits is simulated instead of run.
    """

    ENFORCE = "enforce"
    OBSERVE = "observe"
    DRY_RUN = "dry_run"


class Opinion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What one rule, evaluator or plugin thinks of a call.

    Attributes:
        verdict: What it wants.
        reason: A sentence for people and models. It must not hold argument values: it is shown and logged.
        author: Who says so: `policy:NAME`, `evaluator:NAME`, `plugin:NAME`, `session` or `interlock`.
        version: The distribution and version that the author came from; None for our own.
        rule: The id of the policy rule; None when no rule speaks.
        guidance: What to do instead, for the model.
        suggestions: Tools to use instead.
        approvers: Groups of which somebody must approve, with ASK.
        quorum: How many of them must, with ASK.
        expires: How long a request for approval stays open, with ASK; None means the default of the store.
        fault: True when this is not a view but the failure of whoever should have had one.
        observed: True when it is only recorded and does not count: what a rule would say that is tried out.
    """

    verdict: Verdict
    reason: str
    author: str
    version: str | None = None
    rule: str | None = None
    guidance: str | None = None
    suggestions: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    quorum: int = 1
    expires: timedelta | None = None
    fault: bool = False
    observed: bool = False


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """
    The strictest opinion, and those that carry it.

    Attributes:
        verdict: The maximum over all opinions that count; DENY when there is none.
        because: The opinions with that verdict that count, without repetition, in a fixed order.
        opinions: All opinions, likewise.
        approved_by: Who said yes to this very call, when the verdict is ASK and an approved ticket was claimed.
        mode: What becomes of it.
    """

    verdict: Verdict
    because: tuple[Opinion, ...]
    opinions: tuple[Opinion, ...]
    approved_by: str | None = None
    mode: Mode = Mode.ENFORCE

    @property
    def admits(self) -> bool:
        """Whether the call may run."""
        if self.mode is Mode.ENFORCE:
            asked = self.verdict is Verdict.ASK and self.approved_by is not None
            return asked or self.verdict is Verdict.ALLOW
        return self.mode is Mode.OBSERVE

    @property
    def simulates(self) -> bool:
        """Whether the call is simulated: in a dry run, unless it is refused. A human need not be asked for that."""
        return self.mode is Mode.DRY_RUN and self.verdict <= Verdict.ASK

    @property
    def is_fault(self) -> bool:
        """Whether nothing but failures stands against the call."""
        return bool(self.because) and all(opinion.fault for opinion in self.because)

    @property
    def reason(self) -> str:
        """The reasons that carry the verdict, as one sentence."""
        if len(self.because) == 1:  # nearly always, and every call is recorded with its reason
            said = self.because[0].reason
        else:
            said = "; ".join(dict.fromkeys(o.reason for o in self.because))
        return said or "no opinion allows it"

    @property
    def rule(self) -> str | None:
        """The policy rule that carries the verdict, if one does."""
        return next((o.rule for o in self.because if o.rule is not None), None)

    @property
    def guidance(self) -> str | None:
        """What to do instead, from all that carry the verdict."""
        return " ".join(dict.fromkeys(o.guidance for o in self.because if o.guidance)) or None

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Tools to use instead, from all that carry the verdict."""
        return tuple(dict.fromkeys(name for o in self.because for name in o.suggestions))

    @property
    def approvers(self) -> tuple[str, ...]:
        """The groups that are asked, from all that carry the verdict."""
        return tuple(dict.fromkeys(name for o in self.because for name in o.approvers))

    @property
    def authors(self) -> tuple[str, ...]:
        """Who carries the verdict: `author`, or `author/rule`, each once."""
        said = (f"{one.author}/{one.rule}" if one.rule else one.author for one in self.because)
        return tuple(dict.fromkeys(said))

    @property
    def quorum(self) -> int:
        """How many people have to say yes: the most that any of those who ask wants."""
        return max((o.quorum for o in self.because), default=1)

    @property
    def expires(self) -> timedelta | None:
        """The shortest time that any of those who ask leave for an answer."""
        return min((o.expires for o in self.because if o.expires is not None), default=None)


def combine(opinions: Iterable[Opinion]) -> Decision:
    """
    Return the decision that *opinions* make together.

    Their order is irrelevant, repeating one is irrelevant, adding one never loosens, and none at all is DENY.
    """
    heard = tuple(opinions)
    if len(heard) == 1 and not heard[0].observed:  # nearly always the policy alone speaks
        return Decision(verdict=heard[0].verdict, because=heard, opinions=heard)
    if len(heard) > 1:
        heard = tuple(sorted(set(heard), key=_order))
    counting = [opinion for opinion in heard if not opinion.observed]
    verdict = counting[0].verdict if counting else Verdict.DENY
    because = tuple([opinion for opinion in counting if opinion.verdict is verdict])
    return Decision(verdict=verdict, because=because, opinions=heard)


def _order(opinion: Opinion) -> tuple[int, bytes]:
    """The strictest first, and among equals in an order that is always the same."""
    return -opinion.verdict.rank, msgspec.json.encode(opinion)
