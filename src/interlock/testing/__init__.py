"""
For tests of hosts, plugins, evaluators and adapters.

A clock that is set by hand, a plugin that keeps what was recorded, and the tests that every evaluator, and every
adapter of a framework, has to pass.
Nothing here imports a test runner.
"""

from interlock.testing.adapters import AdapterSuite
from interlock.testing.clock import ManualClock
from interlock.testing.evaluator_suite import EvaluatorSuite
from interlock.testing.examples import Example, Result
from interlock.testing.harness import AdapterHarness, Capability, Ran, Script, Turn
from interlock.testing.recorder import Recorder

__all__ = [
    "AdapterHarness",
    "AdapterSuite",
    "Capability",
    "EvaluatorSuite",
    "Example",
    "ManualClock",
    "Ran",
    "Recorder",
    "Result",
    "Script",
    "Turn",
]
