"""
Evaluators: judges that a policy calls by name.

A third party's evaluator is a class that satisfies `Evaluator`, or `Reviewer` if it is to see results, offered as an
entry point in the group `interlock.evaluators` under the name that policies use.
"""

from interlock.evaluators.hearing import Hearing, Inbox, aheard, heard
from interlock.evaluators.protocol import Evaluator, Redacted, Reviewer, Streamed
from interlock.evaluators.registry import GROUP, Panel

__all__ = [
    "GROUP",
    "Evaluator",
    "Hearing",
    "Inbox",
    "Panel",
    "Redacted",
    "Reviewer",
    "Streamed",
    "aheard",
    "heard",
]
