"""Plugins: asked by name, able to tighten and to watch, and nothing else."""

from __future__ import annotations

import logging
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Denied, Governor, Opinion, Risk, Verdict, events, hookimpl, hookspecs
from interlock._plugins import GROUP, HOOKS, Plugins
from interlock.errors import ApprovalNeeded, EvaluatorFailed, PluginError
from interlock.testing import Recorder
from tests.callers import WAYS, Caller
from tests.distributions import install
from tests.samples import call_of, opinion, opinions

Make = Callable[..., Governor]
ALLOW: dict[str, Any] = {"version": 1, "name": "p", "default": "allow"}
ASK = {**ALLOW, "default": "ask"}
DENY = {**ALLOW, "default": "deny"}
CALL = call_of({"amount": 5})


class Opinionated:
    """A plugin that thinks what it is told to think."""

    def __init__(self, think: Callable[[Call], Any]) -> None:
        self._think = think

    @hookimpl
    def interlock_opinion(self, call: Call) -> Any:
        """Think."""
        return self._think(call)


def thinking(answer: Any) -> Opinionated:
    """Make a plugin with one opinion."""
    return Opinionated(lambda call: answer)


def raising(error: BaseException) -> Callable[..., Any]:
    """Make a function that raises *error*."""

    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.fixture(params=WAYS)
def caller(request: pytest.FixtureRequest) -> Caller:
    """One tool, called by each kind of host."""
    return Caller(request.param)


def decided(outcome: list[Any]) -> events.CallDecided:
    """The one decision among a session's events."""
    [event] = [event for event in outcome[-1] if isinstance(event, events.CallDecided)]
    return event


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("policy", "verdict", "kind"),
    [
        (ALLOW, Verdict.ALLOW, str),
        (ALLOW, Verdict.ASK, ApprovalNeeded),
        (ALLOW, Verdict.DENY, Denied),
        (ASK, Verdict.ALLOW, ApprovalNeeded),
        (ASK, Verdict.DENY, Denied),
        (DENY, Verdict.ALLOW, Denied),
        (DENY, Verdict.ASK, Denied),
    ],
)
def test_a_plugin_can_tighten_and_not_loosen(
    policy: Any, verdict: Verdict, kind: type, caller: Caller, governor: Make
) -> None:
    """Broken if what a plugin allows outweighs what the policy forbids, or its objection is not heard."""
    made = governor(policy, url="sqlite://", plugins=[thinking(opinion(verdict))])
    assert type(caller(made)[0]) is kind
    assert (caller.ran == ["ann"]) == (kind is str)


@pytest.mark.promise(2)
@given(st.lists(opinions, max_size=4), st.lists(opinions, max_size=3))
def test_no_set_of_plugins_loosens(before: list[Opinion], added: list[Opinion]) -> None:
    """Broken if naming one more plugin makes any opinion of the others disappear or weigh less."""

    def heard(given_opinions: list[Opinion]) -> list[Opinion]:
        named = [thinking(item) for item in given_opinions]
        made = [types.SimpleNamespace(interlock_opinion=p.interlock_opinion) for p in named]
        for number, plugin in enumerate(made):
            plugin.__name__ = f"plugin{number}"
        return Plugins(made).opinions(CALL)

    alone, together = heard(before), heard([*before, *added])
    assert Counter(item.verdict for item in before) == Counter(item.verdict for item in alone)
    assert Counter(item.verdict for item in alone) <= Counter(item.verdict for item in together)


FAILURES: list[Any] = [
    ValueError("4111-planted"),
    RecursionError(),
    StopIteration(),
    TimeoutError(),
]
JUNK = [True, "allow", Verdict.ALLOW, Risk.LOW, [], 0, {}, object(), Opinion, iter([])]


@pytest.mark.promise(1)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_plugin_that_raises_refuses(error: Exception, caller: Caller, governor: Make) -> None:
    """Broken if a plugin that fails is taken for one that has no objection, or its text gets into the record."""
    made = governor(ALLOW, url="sqlite://", plugins=[Opinionated(raising(error))])
    outcome = caller(made)
    assert type(outcome[0]) is EvaluatorFailed
    assert f"plugin:Opinionated raised {type(error).__name__}" in str(outcome[0])
    assert "planted" not in events.body_of(decided(outcome)) + str(outcome[0])
    assert caller.ran == []


@pytest.mark.promise(1)
def test_junk_refuses(caller: Caller, governor: Make) -> None:
    """Broken if a plugin that answers with something else than an opinion lets the call through."""
    for junk in JUNK:
        outcome = caller(governor(ALLOW, url="sqlite://", plugins=[thinking(junk)]))
        assert type(outcome[0]) is EvaluatorFailed
    assert caller.ran == []


@pytest.mark.promise(1)
def test_an_interruption_is_not_an_opinion(governor: Make) -> None:
    """Broken if Ctrl-C inside a plugin is swallowed, or the tool runs after it."""
    caller = Caller("sync")
    made = governor(ALLOW, url="sqlite://", plugins=[Opinionated(raising(KeyboardInterrupt()))])
    with pytest.raises(KeyboardInterrupt):
        caller(made)
    assert caller.ran == []


class Wrapper:
    """A plugin that would hide what the others think."""

    @hookimpl(wrapper=True)
    def interlock_opinion(self, call: Call) -> Any:
        """Swallow."""
        yield
        return []


class OldWrapper:
    """The same, as it used to be written."""

    @hookimpl(hookwrapper=True)
    def interlock_recorded(self, recorded: Any) -> Any:
        """Swallow."""
        yield


class Misspelt:
    """A plugin whose hook does not exist."""

    @hookimpl
    def interlock_opinions(self, call: Call) -> Any:
        """Never called."""


class Unmarked:
    """A plugin that forgot to mark its hook."""

    def interlock_opinion(self, call: Call) -> Any:
        """Never called."""


class HalfMarked:
    """A plugin that forgot to mark one of its hooks."""

    @hookimpl
    def interlock_recorded(self, recorded: Any) -> None:
        """Watch."""

    def interlock_opinion(self, call: Call) -> Any:
        """Never called."""


class Awaiting:
    """A plugin whose opinion nobody would await."""

    @hookimpl
    async def interlock_opinion(self, call: Call) -> Any:
        """Never awaited."""


class Demanding:
    """A plugin that wants an argument that its hook does not have."""

    @hookimpl
    def interlock_opinion(self, call: Call, session: Any) -> Any:
        """Never called."""


class Nothing:
    """A plugin that implements no hook."""


UNUSABLE = {
    Wrapper: "is a hook wrapper",
    OldWrapper: "is a hook wrapper",
    Misspelt: "unknown hook 'interlock_opinions'",
    Unmarked: "put @hookimpl on it",
    HalfMarked: "put @hookimpl on it",
    Awaiting: "is async",
    Demanding: "session",
    Nothing: "implements none of the hooks",
}


@pytest.mark.promise(1, 2)
@pytest.mark.parametrize("kind", UNUSABLE, ids=lambda kind: kind.__name__)
def test_what_would_not_be_heard_is_refused(kind: type, governor: Make, tmp_path: Path) -> None:
    """Broken if a plugin is accepted that can silence others, or that would never be asked itself."""
    with pytest.raises(PluginError, match=UNUSABLE[kind]) as refused:
        governor(ALLOW, plugins=[kind()])
    assert (refused.value.plugin, refused.value.distribution) == (kind.__name__, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise(1)
def test_one_twice_is_refused(governor: Make) -> None:
    """Broken if a plugin named twice is asked twice, or silently once."""
    recorder = Recorder()
    with pytest.raises(PluginError, match="already registered"):
        governor(ALLOW, plugins=[recorder, recorder])


def test_the_hooks_are_those_that_are_specified() -> None:
    """Broken if a hook exists that plugins cannot implement, or one is taken away."""
    deciding = {"opinion", "risk", "redact", "price", "evaluators"}
    watching = {
        "recorded",
        "approval_requested",
        "closing",
        "session_opened",
        "session_closed",
    }
    assert {f"interlock_{name}" for name in deciding | watching} == HOOKS
    for name in HOOKS:
        spec = getattr(hookspecs, name)
        assert spec.__doc__
        assert spec.interlock_spec["firstresult"] is False


class Watching:
    """A plugin that fails whenever it sees something."""

    @hookimpl
    def interlock_recorded(self, recorded: Any) -> None:
        """Fail."""
        raise ValueError("4111-planted")


def test_a_plugin_that_fails_to_watch_changes_nothing(
    caller: Caller, governor: Make, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if an observer that raises stops a call, hides the event from the next one, or fails silently."""
    made = governor(ALLOW, url="sqlite://", plugins=[recorder, Watching()])
    with caplog.at_level(logging.ERROR, "interlock"):
        outcome = caller(made)
    assert (outcome[0], caller.ran) == ("receipt", ["ann"])
    kinds = ["session_opened", "call_decided", "call_finished", "session_closed"]
    assert [item.kind for item in recorder.recorded] == kinds
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"plugin Watching failed to observe {kind}" for kind in kinds]


def test_a_watcher_sees_what_is_stored(caller: Caller, governor: Make, recorder: Recorder) -> None:
    """Broken if an observer sees another history than the database holds."""
    outcome = caller(governor(ASK, url="sqlite://", plugins=[recorder]))
    assert outcome[-1] == recorder.events[:3]
    assert [type(event).__name__ for event in recorder.events] == [
        *("SessionOpened", "CallDecided", "TicketOpened", "TicketResolved", "SessionClosed")
    ]


SOURCE = """
from interlock import Opinion, Verdict, hookimpl

@hookimpl
def interlock_opinion(call):
    return Opinion(verdict=Verdict.ALLOW, reason="fine", author="policy:p", version="interlock 9")
"""


def test_a_plugin_is_named_with_its_version(
    caller: Caller, governor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if the record does not say which release gave an opinion, or believes what the plugin says of itself."""
    points = {"friendly": "friendly_plugin"}
    modules = {"friendly_plugin": SOURCE}
    install(tmp_path, monkeypatch, "friendly-plugin", group=GROUP, points=points, modules=modules)
    mine = thinking(opinion(Verdict.ALLOW, author="interlock", version="interlock 9"))
    outcome = caller(governor(ALLOW, url="sqlite://", plugins=["friendly", mine]))
    assert sorted((o.author, o.version) for o in decided(outcome).opinions if o.version) == [
        ("plugin:friendly", "friendly-plugin 1.5")
    ]
    authors = sorted(o.author for o in decided(outcome).opinions)
    assert authors == ["plugin:Opinionated", "plugin:friendly", "policy:p"]


@pytest.mark.promise(1)
def test_nothing_is_asked_because_it_is_installed(
    caller: Caller, governor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if installing a package changes what a host decides."""
    modules = {"unasked_plugin": "raise SystemExit('imported')"}
    points = {"unasked": "unasked_plugin"}
    install(tmp_path, monkeypatch, "unasked", group=GROUP, points=points, modules=modules)
    assert caller(governor(ALLOW, url="sqlite://"))[0] == "receipt"


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('half installed')", "failed to import: RuntimeError: half installed"),
        ("import no_such_module_anywhere", "failed to import: ModuleNotFoundError"),
        ("x = 1", "implements none of the hooks"),
        (SOURCE.replace("interlock_opinion", "interlock_opnion"), "unknown hook"),
        (SOURCE.replace("@hookimpl\n", ""), "put @hookimpl on it"),
    ],
    ids=["raises", "needs", "empty", "misspelt", "unmarked"],
)
def test_an_installed_plugin_that_cannot_be_used_is_said_at_once(
    source: str, reason: str, governor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if a plugin that was asked for and does not work is skipped."""
    module = f"broken_plugin_{abs(hash(source))}"
    install(
        tmp_path, monkeypatch, "broken", group=GROUP, points={"b": module}, modules={module: source}
    )
    with pytest.raises(PluginError, match=reason) as refused:
        governor(ALLOW, plugins=["b"])
    assert (refused.value.plugin, refused.value.distribution) == ("b", "broken 1.5")


@pytest.mark.promise(1)
def test_a_missing_plugin_is_said_at_once(governor: Make) -> None:
    """Broken if a plugin that was asked for and is not installed is skipped."""
    with pytest.raises(PluginError, match="nothing installed offers 'absent'"):
        governor(ALLOW, plugins=["absent"])
