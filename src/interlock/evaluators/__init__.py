"""
Evaluators: judges that a policy calls by name.

A third party's evaluator is a class that satisfies `Evaluator`, offered as an entry point in the group
`interlock.evaluators` under the name that policies use.
"""

from interlock.evaluators.protocol import Evaluator
from interlock.evaluators.registry import GROUP, Panel

__all__ = ["GROUP", "Evaluator", "Panel"]
