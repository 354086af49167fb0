"""
For tests of hosts, plugins, evaluators and adapters.

A clock that is set by hand, a plugin that keeps what was recorded, and the tests that every evaluator has to pass.
Nothing here imports a test runner.
"""

from interlock.testing.clock import ManualClock
from interlock.testing.evaluator_suite import EvaluatorSuite
from interlock.testing.examples import Example, Result
from interlock.testing.recorder import Recorder

__all__ = ["EvaluatorSuite", "Example", "ManualClock", "Recorder", "Result"]
