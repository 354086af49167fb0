"""Interlock stands between an agent's intention and its side effect: it decides, records, and only then lets it run."""

from interlock._asking import Answer, ask, wait
from interlock._call import Call, Identity, Risk, Tool
from interlock._default import configure, session
from interlock._feed import Feed
from interlock._governed import governed, tool_of
from interlock._governor import Governor
from interlock._grant import Grant
from interlock._recovery import Interrupted
from interlock._schema import schema_digest
from interlock._scope import current_call, report_usage
from interlock._session import Session, current_session
from interlock._ticket import Ticket
from interlock._usage import Usage
from interlock._verdict import Decision, Opinion, Verdict
from interlock.errors import (
    AlreadyDone,
    ApprovalNeeded,
    BudgetExceeded,
    Denied,
    HaltedError,
    InProgress,
    InterlockError,
    KeyReused,
    LeaseLost,
    LeaseTaken,
    Misuse,
    Refused,
    Steered,
    Undecided,
)
from interlock.evaluators import Evaluator
from interlock.hookspecs import hookimpl
from interlock.policy import Policy

__all__ = [
    "AlreadyDone",
    "Answer",
    "ApprovalNeeded",
    "BudgetExceeded",
    "Call",
    "Decision",
    "Denied",
    "Evaluator",
    "Feed",
    "Governor",
    "Grant",
    "HaltedError",
    "Identity",
    "InProgress",
    "InterlockError",
    "Interrupted",
    "KeyReused",
    "LeaseLost",
    "LeaseTaken",
    "Misuse",
    "Opinion",
    "Policy",
    "Refused",
    "Risk",
    "Session",
    "Steered",
    "Ticket",
    "Tool",
    "Undecided",
    "Usage",
    "Verdict",
    "ask",
    "configure",
    "current_call",
    "current_session",
    "governed",
    "hookimpl",
    "report_usage",
    "schema_digest",
    "session",
    "tool_of",
    "wait",
]
