"""The evaluator `egress`: arguments, capabilities and methods, alone and named by a policy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from interlock import Denied, Governor, Tool, governed
from interlock.errors import PolicyError
from interlock.evaluators.egress import EgressConfig, EgressEvaluator
from tests.samples import call_of

GRANT = {"host": "api.example.com", "capabilities": ["read", "http"]}
URL = "https://api.example.com/orders"


def reason(
    arguments: dict[str, Any], capabilities: tuple[str, ...] = ("read",), **config: Any
) -> str | None:
    """Why the call is denied, if it is."""
    judge = EgressEvaluator(EgressConfig.model_validate({"grants": [GRANT], **config}))
    opinion = judge.evaluate(call_of(arguments, tool=Tool(name="f", capabilities=capabilities)))
    return None if opinion is None else opinion.reason


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "value",
    [None, 5, True, b"https://api.example.com/", [URL], (URL,), {"url": URL}, ..., ""],
    ids=repr,
)
def test_what_is_no_url_is_denied(value: Any) -> None:
    """Broken if a call passes because what should be a URL is none."""
    assert reason({"url": URL}) is None
    assert "'url'" in str(reason({"url": value}))
    assert "'url'" in str(reason({"uri": URL}))


@pytest.mark.promise(1)
def test_every_declared_capability_is_needed() -> None:
    """Broken if a tool that can do more than is granted, or that does not say what it can do, passes."""
    assert reason({"url": URL}, ("read",)) is None
    assert reason({"url": URL}, ("http", "read")) is None
    assert "together with: read, write" in str(reason({"url": URL}, ("read", "write")))
    assert "@governed(capabilities=" in str(reason({"url": URL}, ()))
    for word in ("Read", "read ", "", "re\u0430d"):
        assert "made of a-z" in str(reason({"url": URL}, ("read", word)))


def spellings(word: str) -> set[str]:
    """What looks like *word*, or is it to somebody who normalises, and is another text."""
    found = {word.upper(), word.title(), f" {word}", f"{word}\n", f"{word}\x00"}
    for place, letter in enumerate(word):
        fullwidth, bold = chr(ord(letter) + 0xFEE0), chr(0x1D41A + ord(letter) - ord("a"))
        alike = {"r": "\u0433", "e": "\u0435", "a": "\u0430", "d": "\u0501"}[letter]
        hidden = ("\u200b", "\u200d", "\u00ad", "\u202e", "\u2066", "\ufeff", "\u0301", "\ufe0f")
        for other in (letter.upper(), fullwidth, bold, alike, *(letter + mark for mark in hidden)):
            found.add(word[:place] + other + word[place + 1 :])
    return found


@pytest.mark.promise(1)
def test_another_spelling_is_another_capability() -> None:
    """Broken if a tool gets a grant with a word that only looks like the one that is granted."""
    others = spellings("read")
    assert len(others) >= 50
    assert [word for word in others if reason({"url": URL}, (word,)) is None] == []
    for word in others:
        with pytest.raises(ValidationError):
            EgressConfig.model_validate({"grants": [{**GRANT, "capabilities": [word]}]})


@pytest.mark.promise(1)
def test_the_method_is_needed_too() -> None:
    """Broken if a tool that takes a method writes where it may only read."""
    config = {"method_argument": "how.method"}

    def said(method: Any, capabilities: tuple[str, ...] = ("http",)) -> str | None:
        return reason({"url": URL, "how": {"method": method}}, capabilities, **config)

    assert said("GET") is None
    assert said("head") is None
    assert "together with: http, write" in str(said("POST"))
    assert "declares no capabilities" in str(said("GET", ()))
    for method in ("", "CONNECT", "GET POST", None, 1, ["GET"], "\u0262ET"):
        assert "'how.method' is no HTTP method" in str(said(method))
    assert "'how.method' is no HTTP method" in str(reason({"url": URL}, ("http",), **config))


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("uri", {"uri": URL}),
        ("request.url", {"request": {"url": URL}}),
        ("request.0.url", {"request": [{"url": URL}]}),
        (["a.b", 1], {"a.b": ["x", URL]}),
    ],
)
def test_the_url_may_be_anywhere(path: Any, arguments: dict[str, Any]) -> None:
    """Broken if the URL is looked for elsewhere than the policy says."""
    assert reason(arguments, argument=path) is None
    assert reason({"url": URL}, argument=path) is not None


@pytest.mark.parametrize(
    "path", ["request.1", "request.-1", "request.x", "request.\u0660", "request.0.x"]
)
def test_a_path_that_leads_nowhere_is_denied(path: str) -> None:
    """Broken if a missing part of an argument is no reason to deny."""
    assert "no text" in str(reason({"request": [URL]}, argument=path))
    assert reason({"request": [URL]}, argument="request.0") is None


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"grants": []},
        {"grants": [{}]},
        {"grants": [{"host": "api.example.com"}]},
        {"grants": GRANT},
        {"grants": [GRANT], "argument": ""},
        {"grants": [GRANT], "argument": []},
        {"grants": [GRANT], "method_argument": ""},
        {"grants": [GRANT], "arguments": "url"},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    """Broken if a configuration that grants nothing or is misspelt is taken for one."""
    with pytest.raises(ValidationError):
        EgressConfig.model_validate(config)


def policy(**config: Any) -> dict[str, Any]:
    """A policy that allows all, but for what `egress` denies."""
    evaluators = [{"use": "egress", "timeout": "30s", "with": {"grants": [GRANT], **config}}]
    return {"version": 1, "name": "p", "default": "allow", "evaluators": evaluators}


@pytest.mark.promise(1)
def test_a_policy_can_name_it(governor: Any) -> None:
    """Broken if the evaluator is not found by its name, or the tool runs when it denies."""
    fetched = []

    @governed(capabilities=["read"])
    def fetch(url: str = URL) -> None:
        fetched.append(url)

    with governor(policy()).session("s", agent="bot"):
        fetch()
        with pytest.raises(Denied) as refusal:
            fetch("https://api.example.com@planted.test/")
    assert fetched == [URL]
    assert "planted" not in str(refusal.value)
    assert refusal.value.decision.because[0].author == "evaluator:egress"


def test_a_wrong_grant_stops_the_governor(database: str) -> None:
    """Broken if a grant below a public suffix goes unnoticed until something uses it."""
    wrong = policy(grants=[GRANT, {"host": "*.co.uk", "capabilities": ["read"]}])
    with pytest.raises(PolicyError, match="public suffix") as problem:
        Governor(database, policy=wrong)
    assert problem.value.key == "evaluators.0.with.grants.1.host"
