"""Judges that fail: the policy, the evaluators, the plugins, the tracing. Deciding fails closed, observing open."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.trace import NoOpTracer, NoOpTracerProvider, Span
from pydantic import BaseModel

from interlock import Call, Governor, Opinion, hookimpl
from interlock.errors import EvaluatorFailed, NotConfigured, PluginError, PolicyError
from interlock.events import Recorded
from tests.faults._shapes import SHAPES, Shape, Witness, every_shape
from tests.races._audit import audit

Make = Callable[..., Governor]

JUDGED: dict[str, Any] = {
    "version": 1,
    "name": "judged",
    "default": "allow",
    "evaluators": [{"use": "judge", "timeout": "50ms"}],
}

released = threading.Event()


@pytest.fixture(autouse=True)
def release() -> Iterator[None]:
    """Let go of every thread that hangs, at the end of the test."""
    released.clear()
    yield
    released.set()


class Judge:
    """The form of an evaluator."""

    class Config(BaseModel):
        """Nothing to configure."""

    def __init__(self, config: Config) -> None:
        """Ignore the configuration."""


class Raises(Judge):
    """It has a fault of its own."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Fail, with what must not be told."""
        raise ValueError("hunter2")


class RaisesAsync(Judge):
    """As `Raises`, awaited."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Fail."""
        raise ValueError("hunter2")


class Exits(Judge):
    """It tries to end the process."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Exit."""
        raise SystemExit(3)


class ExitsAsync(Judge):
    """As `Exits`, awaited."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Exit."""
        raise SystemExit(3)


class Hangs(Judge):
    """It never answers."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Wait for the end of the test."""
        released.wait()
        return None


class HangsAsync(Judge):
    """As `Hangs`, awaited."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Wait for ever."""
        await anyio.sleep_forever()
        return None


class Cancels(Judge):
    """It ends as a cancelled task does, though nobody cancelled it."""

    async def evaluate(self, call: Call) -> Opinion | None:
        """Cancel itself."""
        raise asyncio.CancelledError


class Babbles(Judge):
    """It answers with what is no opinion, and would be true in a condition."""

    def evaluate(self, call: Call) -> Any:
        """Say yes, in its own way."""
        return "allow"


class Awaitable(Judge):
    """It answers, from sync code, with something to be awaited that nobody awaits."""

    def evaluate(self, call: Call) -> Any:
        """Return a future that will never be done."""
        return threading.Condition()


EVALUATORS = {
    Raises: "raised ValueError",
    RaisesAsync: "raised ValueError",
    Exits: "raised SystemExit",
    ExitsAsync: "raised SystemExit",
    Hangs: "gave no answer within 0.05 s",
    HangsAsync: "gave no answer within 0.05 s",
    Cancels: "ended without an answer",
    Babbles: "answered with a str instead of an Opinion",
    Awaitable: "answered with a Condition instead of an Opinion",
}


def assert_refused(one: Governor, shape: Shape, fault: str) -> None:
    """Assert that the tool does not run, that the error says whose fault it is, and that this is in the books."""
    witness = Witness(one)
    with one.session("judged", agent="j"):
        with pytest.raises(EvaluatorFailed) as refused:
            shape.run(shape.make(witness))
        assert witness.seen == []
    told = str(refused.value)
    assert fault in told
    assert "could not be judged" in told
    assert "Repair" in told
    assert "hunter2" not in told
    (decided,) = audit(one).of_kind("call_decided")
    assert (decided.body["verdict"], decided.body["admitted"]) == ("deny", False)
    assert fault in decided.body["reason"]


@pytest.mark.parametrize("kind", EVALUATORS, ids=lambda kind: kind.__name__)
@every_shape
@pytest.mark.promise(1)
def test_an_evaluator_that_fails(governor: Make, shape: Shape, kind: type[Judge]) -> None:
    """Broken if a judge that cannot judge lets a tool run, hangs its caller, or fails it without saying who."""
    one = governor(JUDGED, evaluators={"judge": kind})
    assert_refused(one, shape, f"evaluator:judge {EVALUATORS[kind]}")


class Interrupts(Judge):
    """It raises what only a person may raise, in a thread where no person can."""

    def evaluate(self, call: Call) -> Opinion | None:
        """Pretend to be Ctrl-C, once."""
        if not released.is_set():
            released.set()
            raise KeyboardInterrupt
        return None


def test_an_evaluator_that_interrupts(governor: Make) -> None:
    """Broken if an evaluator can end the loop that serves sync callers, so that all who come later fail or wait."""
    one = governor(JUDGED, evaluators={"judge": Interrupts})
    function = SHAPES[0]
    with one.session("judged", agent="j"):
        with pytest.raises(EvaluatorFailed, match="raised KeyboardInterrupt"):
            function.run(function.make(pytest.fail))
        assert function.run(function.make(lambda: None)) == "done"


class Objector:
    """A plugin whose opinion is whatever `answer` returns or raises."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    @hookimpl
    def interlock_opinion(self, call: Call) -> Any:
        """Give it."""
        return self._answer()


def _fail() -> None:
    raise ValueError("hunter2")


def _exit() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (_fail, "raised ValueError"),
        (lambda: True, "answered with a bool instead of an Opinion"),
        (lambda: "allow", "answered with a str instead of an Opinion"),
    ],
    ids=["raises", "true", "text"],
)
@every_shape
@pytest.mark.promise(1)
def test_a_plugin_that_fails(
    governor: Make, shape: Shape, answer: Callable[[], Any], fault: str
) -> None:
    """Broken if a plugin that cannot judge lets a tool run, or fails it without saying who."""
    one = governor(plugins=[Objector(answer)])
    assert_refused(one, shape, f"plugin:Objector {fault}")


@every_shape
@pytest.mark.promise(1)
def test_a_plugin_that_exits(governor: Make, shape: Shape) -> None:
    """Broken if a tool runs though the plugin that was asked tried to end the process."""
    one = governor(plugins=[Objector(_exit)])
    with one.session("judged", agent="j"), pytest.raises(SystemExit):
        shape.run(shape.make(pytest.fail))
    assert audit(one).decided == set()


class Observer:
    """A plugin that fails to observe, by whatever `fail` raises."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self._fail = fail

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Fail, where it is about calls."""
        if recorded.kind.startswith("call_"):
            self._fail()


@every_shape
@pytest.mark.promise(1, 8)
def test_an_observer_that_fails(
    governor: Make, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a plugin that cannot observe keeps an allowed tool from running, or fails silently."""
    one = governor(plugins=[Observer(_fail)])
    witness = Witness(one)
    with one.session("observed", agent="o"), caplog.at_level(logging.ERROR, logger="interlock"):
        assert shape.run(shape.make(witness)) == "done"
    assert witness.seen == [1]
    said = [r.getMessage() for r in caplog.records if "failed to observe" in r.getMessage()]
    assert len(said) == 2
    assert audit(one).in_doubt == set()


@every_shape
@pytest.mark.promise(1, 6)
def test_an_observer_that_exits(governor: Make, shape: Shape) -> None:
    """Broken if a tool that an exit kept from running is left in doubt, or one that ran before it is."""
    exits = iter([True, False, False, True])

    def exit_perhaps() -> None:
        if next(exits):
            _exit()

    one = governor(plugins=[Observer(exit_perhaps)])
    witness = Witness(one)
    with one.session("observed", agent="o"):
        with pytest.raises(SystemExit):
            shape.run(shape.make(witness))
        assert witness.seen == []
        with pytest.raises(SystemExit):
            shape.run(shape.make(witness))
        assert witness.seen == [1]
    books = audit(one)
    assert books.in_doubt == set()
    assert [f.body["outcome"] for f in books.of_kind("call_finished")] == ["cancelled", "returned"]


class BrokenTracer(NoOpTracer):
    """A tracer that fails."""

    def start_span(self, *args: Any, **kwargs: Any) -> Span:
        """Fail."""
        raise ValueError("hunter2")


class BrokenTracing(NoOpTracerProvider):
    """A provider of that tracer."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> BrokenTracer:
        """Return it."""
        return BrokenTracer()


@every_shape
@pytest.mark.promise(8)
def test_tracing_that_fails(governor: Make, shape: Shape, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a tracing backend that fails keeps an allowed tool from running, or fails silently."""
    one = governor(tracer_provider=BrokenTracing())
    witness = Witness(one)
    with one.session("traced", agent="t"), caplog.at_level(logging.ERROR, logger="interlock"):
        assert shape.run(shape.make(witness)) == "done"
    assert witness.seen == [1]
    assert {r.getMessage().split(" in ")[0] for r in caplog.records} == {"telemetry failed"}
    assert audit(one).in_doubt == set()


BROKEN = {
    "no-yaml": ("version: 1\nrules: [", "policy.yaml:"),
    "unknown-key": ("version: 1\nname: x\nruels: []\n", "ruels"),
    "no-verdict": ("version: 1\nname: x\nrules:\n  - {id: a, tools: [act]}\n", "verdict"),
    "typo": (
        "version: 1\nname: x\nrules:\n  - {id: a, tools: [act], verdict: alow}\n",
        "verdict",
    ),
    "no-such-evaluator": ("version: 1\nname: x\nevaluators: [{use: none-such}]\n", "none-such"),
    "empty": ("", "version"),
}


@pytest.mark.parametrize("broken", BROKEN)
@every_shape
@pytest.mark.promise(1)
def test_a_broken_policy(
    governor: Make, shape: Shape, broken: str, tmp_path: Path, database: str
) -> None:
    """Broken if a governor can be had with a policy that does not say what it means, or a tool runs without one."""
    text, place = BROKEN[broken]
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises((PolicyError, PluginError)) as refused:
        Governor(database, policy=path)
    assert place in str(refused.value)
    if isinstance(refused.value, PolicyError):
        assert str(path) in str(refused.value)
    assert not (tmp_path / "interlock.db").exists()
    with pytest.raises(NotConfigured, match=r"outside any session, so it did not run\. Open one"):
        shape.run(shape.make(pytest.fail))


@every_shape
@pytest.mark.promise(1)
def test_no_policy(governor: Make, shape: Shape) -> None:
    """Broken if a governor that was given no policy takes that for permission."""
    one = governor(None)
    with (
        one.session("unruled", agent="u"),
        pytest.raises(NotConfigured, match=r"has no policy, so it did not run\. Give it one"),
    ):
        shape.run(shape.make(pytest.fail))
    assert audit(one).decided == set()
