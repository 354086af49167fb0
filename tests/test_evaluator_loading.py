"""Finding and building evaluators: whatever is wrong with one is said when the governor is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock import Call, Governor
from interlock.errors import PluginError, PolicyError
from interlock.evaluators import GROUP
from tests.distributions import install
from tests.judges import Config, judge, naming

Make = Callable[..., Governor]


@pytest.mark.promise(1)
def test_one_that_is_missing_is_said_at_once(governor: Make, tmp_path: Path) -> None:
    """Broken if a governor starts without a judge that its policy relies on."""
    with pytest.raises(
        PluginError, match=r"nothing installed offers 'presidio'.*installed: .*list"
    ) as e:
        governor(naming("presidio"))
    assert (e.value.plugin, e.value.distribution) == ("presidio", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise(1)
def test_one_that_is_offered_twice_is_said_at_once(
    governor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if it depends on the order of installation which of two judges is asked."""
    source = {"rival_judges": "from interlock.evaluators.lists import ListEvaluator as Judge"}
    for name in ("rival-a", "rival-b"):
        points = {"rival": "rival_judges:Judge"}
        install(tmp_path, monkeypatch, name, group=GROUP, points=points, modules=source)
    with pytest.raises(PluginError, match=r"rival-a 1\.5 and rival-b 1\.5; uninstall one"):
        governor(naming("rival"))
    with pytest.raises(PluginError, match="has the name of an installed one"):
        governor(naming("list"), evaluators={"list": judge(lambda self, call: None)})


BROKEN = {
    "raises": ("raise RuntimeError('half installed')", "RuntimeError: half installed"),
    "syntax": ("def (", "SyntaxError"),
    "needs": ("import no_such_module_anywhere", "ModuleNotFoundError"),
    "lacks": ("", "AttributeError"),
    "function": ("def Judge(config): ...", "is no evaluator"),
    "bare": ("class Judge: ...", "is no evaluator"),
    "instance": ("class _J:\n    Config = 1\n    evaluate = 1\nJudge = _J()", "is no evaluator"),
}


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", BROKEN)
def test_one_that_does_not_import_is_said_at_once(
    name: str, governor: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if an installed judge that cannot be imported, or is none, is skipped."""
    source, reason = BROKEN[name]
    points = {"broken": f"broken_{name}:Judge"}
    modules = {f"broken_{name}": source}
    install(tmp_path, monkeypatch, "broken", group=GROUP, points=points, modules=modules)
    with pytest.raises(PluginError, match=reason) as refused:
        governor(naming("broken"))
    assert (refused.value.plugin, refused.value.distribution) == ("broken", "broken 1.5")
    assert not list(tmp_path.glob("*.db*"))


WRONG = [
    ({"wrod": "x"}, "evaluators.0.with.wrod"),
    ({"word": 5}, "evaluators.0.with.word"),
    ({"word": "too long"}, "evaluators.0.with.word"),
    ({"word": "darn"}, "evaluators.0.with.word"),
]


@pytest.mark.promise(1)
@pytest.mark.parametrize(("given", "key"), WRONG, ids=str)
def test_a_wrong_configuration_is_located(given: dict[str, Any], key: str, governor: Make) -> None:
    """Broken if a mistake in `with:` shows itself at the first call, or not at all."""
    policy = naming("judge")
    policy["evaluators"][0]["with"] = given
    with pytest.raises(PolicyError) as refused:
        governor(policy, evaluators={"judge": judge(lambda self, call: None)})
    assert key == refused.value.key


@pytest.mark.promise(1)
def test_one_that_cannot_be_built_is_said_at_once(governor: Make) -> None:
    """Broken if a judge that fails to start is found out at the first call, or by a foreign exception."""

    class Unbuildable:
        Config = Config

        def __init__(self, config: Config) -> None:
            raise OSError("no model file")

        def evaluate(self, call: Call) -> None:
            """Never asked."""

    class Unconfigurable(Unbuildable):
        Config = dict  # type: ignore[assignment]

    for own in (Unbuildable, Unconfigurable):
        with pytest.raises(PluginError, match="cannot be built"):
            governor(naming("judge"), evaluators={"judge": own})
