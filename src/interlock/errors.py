"""
Every exception that Interlock raises.

::

    InterlockError
    ├── Refused              a decision, not a fault: .decision .call
    │   ├── Denied
    │   ├── Steered          .guidance .suggestions
    │   ├── ApprovalNeeded   .ticket
    │   ├── BudgetExceeded   .budgets
    │   ├── HaltedError      .halt
    │   ├── LeaseTaken       .leases
    │   ├── LeaseLost        .lease
    │   ├── InProgress       .first
    │   ├── AlreadyDone      .first
    │   └── KeyReused        .first                   (also a Conflict)
    ├── Undecided            could not decide, so did not run: .__cause__
    │   ├── StoreUnavailable
    │   ├── EvaluatorFailed  .decision .call
    │   └── NewerRelease     .kind .version
    └── Misuse               the programmer's: raised while building where possible
        ├── NotConfigured
        ├── PolicyError      .path .line .key         (also a ValueError)
        ├── PluginError      .plugin .distribution    (also an ImportError)
        └── Conflict
            └── SessionTaken .session_id .status

The second level says whose move is next: the agent's, the operator's, the programmer's. `str()` is one
sentence with the remedy; the data is in attributes; every error pickles. No message of ours holds the
value of an argument, so each may be shown to a model and written to a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from interlock._budget import Account
    from interlock._call import Call
    from interlock._halt import Halt
    from interlock._lease import Occupancy
    from interlock._ticket import Ticket
    from interlock._verdict import Decision

_E = TypeVar("_E", bound="InterlockError")


class InterlockError(Exception):
    """The root of every exception that Interlock raises."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own reduction calls the class with `args` alone; ours take keywords too.
        return (_revive, (type(self), self.args, self.__dict__))


def _revive(kind: type[_E], args: tuple[object, ...], state: dict[str, object]) -> _E:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class Refused(InterlockError):
    """
    A call that may not run, or whose result may not be given: a decision, recorded, with its reason.

    Attributes:
        decision: The verdict and the opinions that carry it.
        call: What was refused.
        ran: Whether the tool has run, and only its result is refused. Then it must not be run again.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, ran: bool = False) -> None:
        super().__init__(message)
        self.decision = decision
        self.call = call
        self.ran = ran


class Denied(Refused):
    """The call is forbidden, or it ran and its result is withheld. Making it again will not help."""


class Steered(Refused):
    """The call is forbidden and there is a better way, which the message tells the model."""

    @property
    def guidance(self) -> str | None:
        """What to do instead, as the policy's author wrote it."""
        return self.decision.guidance

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Names of tools to use instead, in the order of the policy."""
        return self.decision.suggestions


class ApprovalNeeded(Refused):
    """
    A human must say yes first; the same call made after the yes will run.

    Attributes:
        ticket: The request that was opened, or the one that was already open for this very call.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, ticket: Ticket) -> None:
        super().__init__(message, decision=decision, call=call)
        self.ticket = ticket


class BudgetExceeded(Refused):
    """
    A budget has no room for the call, or, raised after it has run and was booked, the call cost more than was left.

    Attributes:
        budgets: The windows that have no room, as they stood.
    """

    def __init__(
        self,
        message: str,
        *,
        decision: Decision,
        call: Call,
        budgets: tuple[Account, ...],
        ran: bool = False,
    ) -> None:
        super().__init__(message, decision=decision, call=call, ran=ran)
        self.budgets = budgets


class HaltedError(Refused):
    """
    Somebody has halted what the call belongs to.

    It did not run; or, where it `ran`, it was cancelled meanwhile, or ended after the halt and its result is withheld.

    Attributes:
        halt: The halt: what it stops, who engaged it, and why. Calls are admitted again once it is released.
    """

    def __init__(
        self, message: str, *, decision: Decision, call: Call, halt: Halt, ran: bool = False
    ) -> None:
        super().__init__(message, decision=decision, call=call, ran=ran)
        self.halt = halt


class LeaseTaken(Refused):
    """
    As many calls as a lease lets run at once are running, or wait for a human. The same call may be made again later.

    Attributes:
        leases: Those that have no slot left, as they stood: who holds them, and until when.
    """

    def __init__(
        self, message: str, *, decision: Decision, call: Call, leases: tuple[Occupancy, ...]
    ) -> None:
        super().__init__(message, decision=decision, call=call)
        self.leases = leases


class LeaseLost(Refused):
    """
    A running call no longer holds the lease under which it was admitted; what it was about to write was not written.

    Raised by `interlock.store.leases.check`, inside the call. What it did before may have had its effect.

    Attributes:
        lease: The lease's name.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, lease: str) -> None:
        super().__init__(message, decision=decision, call=call, ran=True)
        self.lease = lease


class InProgress(Refused):
    """
    A call with the same idempotency key runs, or nobody knows yet how it ended. The same call may be made again later.

    Attributes:
        first: The id of that call.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, first: str) -> None:
        super().__init__(message, decision=decision, call=call)
        self.first = first


class AlreadyDone(Refused):
    """
    The call was made before, and is not made again; but what it returned then is not there to be given again.

    It was cancelled, withheld, or returned what cannot be kept. Never retry it: whether it had its effect is to be
    looked up where the effect is.

    Attributes:
        first: The id of the call that ran.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, first: str) -> None:
        super().__init__(message, decision=decision, call=call)
        self.first = first


class Undecided(InterlockError):
    """No decision could be made, so the tool did not run, or its result is withheld. `__cause__` says why."""


class StoreUnavailable(Undecided):
    """
    The store did not answer or did not commit. Nothing was admitted; the call may be made again.

    Nothing was written, unless the message says that this cannot be found out: then the connection was lost while it
    committed, and what may have been written is to be looked for before it is written again.
    """


class EvaluatorFailed(Undecided):
    """
    Nothing but faults stands against the call: an evaluator or plugin raised, timed out or answered nonsense.

    Raised after the tool has run, it means that: nothing but faults stands against its result, which is withheld.

    Attributes:
        decision: The DENY that was recorded, with one opinion for each fault.
        call: What did not run, or ran and could not be reviewed.
        ran: Whether the tool has run, and only its result is withheld. Then it must not be run again.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, ran: bool = False) -> None:
        super().__init__(message)
        self.decision = decision
        self.call = call
        self.ran = ran


class NewerRelease(Undecided):
    """
    A history holds an event of a newer release, so what it adds up to is not known here. Upgrade interlock.

    Attributes:
        kind: The event's kind.
        version: The version of that kind.
    """

    def __init__(self, message: str, *, kind: str, version: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.version = version


class Misuse(InterlockError):
    """The program or its configuration is wrong; the message says what to change."""


class NotConfigured(Misuse):
    """There is no governor, no session or no policy where a governed call was made. The tool did not run."""


class PolicyError(Misuse, ValueError):
    """
    A policy cannot be used.

    Attributes:
        path: The file, or None when the policy was given as text or data.
        line: The line in that text, from 1; None when the policy was given as data.
        key: The path of the offending key, such as `rules.2.when.all.0`; empty for the whole document.
    """

    def __init__(
        self, message: str, *, path: str | None = None, line: int | None = None, key: str = ""
    ) -> None:
        place = ":".join(str(part) for part in (path or "policy", line) if part is not None)
        super().__init__(f"{place}: {key + ': ' if key else ''}{message}")
        self.path = path
        self.line = line
        self.key = key


class PluginError(Misuse, ImportError):
    """
    A plugin or evaluator that was asked for is missing, ambiguous, malformed or does not import.

    Attributes:
        plugin: Its name.
        distribution: The installed distribution that provides it, with its version; None when unknown.
    """

    def __init__(self, message: str, *, plugin: str, distribution: str | None = None) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.distribution = distribution


class Conflict(Misuse):
    """The operation contradicts what is already recorded; nothing was written."""


class KeyReused(Refused, Conflict):
    """
    A call with the same idempotency key and other arguments was made before; the one or the other is a mistake.

    Attributes:
        first: The id of that call.
    """

    def __init__(self, message: str, *, decision: Decision, call: Call, first: str) -> None:
        super().__init__(message, decision=decision, call=call)
        self.first = first


class SessionTaken(Conflict):
    """
    An exclusive session was not opened, since another one with its key is open or paused in its organisation.

    Attributes:
        session_id: The one that has it.
        status: Whether that one is `open` or `paused`.
    """

    def __init__(self, message: str, *, session_id: str, status: str) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.status = status
