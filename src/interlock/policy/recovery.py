"""Recovery as a policy writes it: when something is stuck in a process that lives, and what then."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from interlock._recovery import Escalation
from interlock.policy.values import Duration, Strict


class RecoveryDocument(Strict):
    """
    What recovery tells of, besides what processes left open that are gone.

    A call runs since it was let through; a session is open since it was opened or resumed.
    """

    _needs_one_of = ("call_stuck_after", "session_stuck_after")

    call_stuck_after: Duration | None = None
    session_stuck_after: Duration | None = None
    on_stuck: Literal["tell", "halt"] = "tell"

    @model_validator(mode="after")
    def _says_when(self) -> RecoveryDocument:
        if self.call_stuck_after is None and self.session_stuck_after is None:
            raise ValueError(
                "it says of nothing when it is stuck; add call_stuck_after or session_stuck_after"
            )
        return self

    def escalation(self, by: str) -> Escalation:
        """Return what this describes, in the name of *by*."""
        return Escalation(
            call_stuck_after=self.call_stuck_after,
            session_stuck_after=self.session_stuck_after,
            halts=self.on_stuck == "halt",
            by=by,
        )
