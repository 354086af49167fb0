"""Past: what the recorded events of a session add up to before each of its decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from interlock import events
from interlock._budget import Account, Amounts, Claim, WindowKey
from interlock._call import Call, Identity, digest_of
from interlock._capture import Keyed
from interlock._grant import Standing
from interlock._memory import recalled, remembering
from interlock._requests import Requests
from interlock._state import SessionState, SessionStatus, fold
from interlock._ticket import Ticket
from interlock._trial import call_again
from interlock._verdict import Decision, Mode
from interlock.policy import Policy

History = Callable[[], Iterable[events.Recorded]]
"""Gives the events of a session from the first on, each time it is called."""


class Past:
    """What is known of a session by now, as it is heard event by event."""

    def __init__(
        self,
        session_id: str,
        history: History,
        policy_of: Callable[[str], Policy],
        key: Keyed | None,
    ) -> None:
        """
        Know nothing yet.

        Args:
            session_id: The session.
            history: Its events.
            policy_of: Returns the policy with a digest.
            key: What keyed digests were made with.
        """
        self._session_id = session_id
        self._history = history
        self._policy_of = policy_of
        self._key = key
        self._policies: dict[str, Policy] = {}
        self._memories: dict[str, dict[str, int]] = {}
        self._requests = Requests(session_id)
        self._newest: dict[tuple[str, str], str] = {}
        self._state = SessionState()

    @property
    def status(self) -> SessionStatus:
        """What the session's status is."""
        return self._state.status

    def ticket(self, ticket_id: str) -> Ticket | None:
        """Return the ticket with this id."""
        return self._requests.tickets.get(ticket_id)

    def hear(self, recorded: events.Recorded, event: events.Event | None) -> None:
        """Take *recorded*, in which *event* was read, for past."""
        self._state = msgspec.structs.replace(
            fold([recorded], self._state), running={}, verdicts={}, outcomes={}
        )
        if event is not None:
            self._requests.hear(recorded, event)
        if isinstance(event, events.TicketOpened):
            ticket = self._requests.tickets[event.ticket_id]
            self._newest[ticket.digest, ticket.policy] = ticket.id
        elif isinstance(event, events.CallDecided):
            for digest, memory in self._memories.items():
                self._memories[digest] = remembering(memory, event)

    def call(self, event: events.CallDecided) -> Call:
        """Return the call that *event* decided."""
        return msgspec.structs.replace(
            call_again(event, self._identity()),
            id=event.call_id,
            session_id=self._session_id,
            digest=event.digest,
            recorded=event.arguments,
            tokens=event.tokens,
            faults=(),
        )

    def mode(self, event: events.CallDecided) -> Mode:
        """Return what becomes of the decision: that of the session, unless a halt binds."""
        if any(one.author.startswith("halt:") for one in event.opinions):
            return Mode.ENFORCE
        return Mode.ENFORCE if self._state.opened is None else self._state.opened.mode

    def standing(self, call: Call, policy: str, at: datetime) -> Ticket | None:
        """Return the ticket that answers for *call* at that time."""
        ticket = self._requests.tickets.get(self._newest.get((call.digest, policy), ""))
        return ticket if ticket is not None and ticket.answers_at(at) else None

    def granted(self, call: Call, decision: Decision, policy: str, at: datetime) -> Standing | None:
        """Return the grant that stands for the yes that *decision* wants."""
        for _, grant in sorted(self._requests.grants.items()):
            here = grant.tool == call.tool.name and grant.policy == policy
            if here and grant.covers(call, decision, at):
                return grant
        return None

    @staticmethod
    def accounts(
        event: events.CallDecided, claims: Iterable[Claim], at: datetime
    ) -> tuple[list[tuple[Claim, Account]], list[Claim]]:
        """Return the budgets of *claims* as they stood, and those of which that is not recorded: nobody had to look."""
        found: list[tuple[Claim, Account]] = []
        unknown: list[Claim] = []
        taken = taken_of(event)
        for claim in claims:
            key, ends_at = claim.window(at)
            spent = taken.get(key)
            if spent is None:
                unknown.append(claim)
            else:
                limits = claim.budget.limits
                found.append((claim, Account(key=key, ends_at=ends_at, limits=limits, spent=spent)))
        return found, unknown

    def is_whole(self, event: events.CallDecided) -> bool:
        """Whether the arguments are recorded as they were judged, nothing masked and nothing redacted."""
        again = digest_of(
            event.arguments,
            tool=event.tool,
            schema=event.schema,
            session_id=self._session_id,
            identity=self._identity(),
            key=self._key if event.keyed else None,
        )
        return again == event.digest

    def policy(self, digest: str) -> Policy:
        """Return the policy with this digest."""
        if digest not in self._policies:
            self._policies[digest] = self._policy_of(digest)
        return self._policies[digest]

    def memory(self, digest: str, policy: Policy | None = None) -> dict[str, int]:
        """Return what the session remembers for a policy by now; one that comes later is told the past first."""
        if digest not in self._memories:
            trackers = (policy or self.policy(digest)).trackers
            past = (
                recorded.event for recorded in self._history() if recorded.seq <= self._state.head
            )
            decided = (event for event in past if isinstance(event, events.CallDecided))
            self._memories[digest] = recalled(trackers, decided if trackers else ())
        return self._memories[digest]

    def _identity(self) -> Identity:
        opened = self._state.opened
        if opened is None:
            return Identity(agent="")
        return Identity(agent=opened.agent, user=opened.user, team=opened.team, org=opened.org)


def taken_of(event: events.CallDecided) -> dict[WindowKey, Amounts | None]:
    """Return what was taken of each budget that counts a call, before it; None where nobody had to look."""
    return dict(zip(event.windows, event.taken, strict=False))
