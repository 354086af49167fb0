"""Both doors, through a governor: nothing planted gets into a call, out of a result, or into what is recorded."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from interlock import (
    ApprovalNeeded,
    Denied,
    Governor,
    Ticket,
    governed,
    hookimpl,
)
from interlock.errors import PluginError, PolicyError
from interlock.testing import Recorder
from interlock_secrets import SecretsEvaluator, SecretsInResults
from interlock_secrets.redaction import plugin
from tests.callers import WAYS, Caller
from tests.tracing import Traces


def policy(use: str, **options: Any) -> dict[str, Any]:
    """A policy that asks this evaluator about every call."""
    judge = {"use": use, "with": options, "timeout": "30s"}
    return {"version": 1, "name": "p", "default": "allow", "evaluators": [judge]}


ASKING = {
    "version": 1,
    "name": "p",
    "default": "allow",
    "rules": [{"id": "ask", "tools": ["order"], "verdict": "ask"}],
}


class Watcher:
    """Keeps the tickets that a plugin is shown."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.tickets: list[Ticket] = []

    @hookimpl
    def interlock_approval_requested(self, ticket: Ticket) -> None:
        """Keep it."""
        self.tickets.append(ticket)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How a host calls."""
    return str(request.param)


def test_the_entry_points_are_these() -> None:
    """Broken if a host or a policy that says `secrets` does not reach them."""
    [hooks] = entry_points(group="interlock", name="secrets")
    [before] = entry_points(group="interlock.evaluators", name="secrets")
    [after] = entry_points(group="interlock.evaluators", name="secrets-in-results")
    assert (hooks.load(), before.load(), after.load()) == (
        plugin,
        SecretsEvaluator,
        SecretsInResults,
    )


NESTED: dict[str, Callable[[str], Any]] = {
    "text": lambda secret: f"see {secret} there",
    "key": lambda secret: {secret: 1},
    "deep": lambda secret: {"order": [{"note": ("a", [f"é {secret}"])}]},
    "bytes": lambda secret: {"blob": f"x {secret}".encode()},
    "utf-16": lambda secret: f"x {secret}".encode("utf-16"),
    "set": lambda secret: {"a", secret},
    "path": lambda secret: Path("/srv") / secret,
    "number-key": lambda secret: {1: {(2, secret): None}},
    "zero-width": "\u200b".join,
    "record": lambda secret: Record(note=secret),
}


@dataclasses.dataclass
class Record:
    """A record with a text."""

    note: str


def spelled(text: str) -> list[str]:
    """The ways in which a secret could show in a record."""
    return [text, text.encode().hex(), "\\u200b".join(text), "\u200b".join(text)]


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", NESTED)
def test_what_is_recorded_holds_no_secret(name: str, way: str, make: Any) -> None:
    """Broken if a planted secret reaches an event, a ticket or a span, or the tool is given something else."""
    secret, watcher, recorder, traces = make(), Watcher(), Recorder(), Traces()
    given = NESTED[name](secret)
    plugins = ["secrets", watcher, recorder]

    @governed
    def order(what: Any) -> None:
        raise AssertionError("asked first")

    with Governor(
        "sqlite://", policy=ASKING, plugins=plugins, tracer_provider=traces.provider
    ) as governor:
        caller = Caller(way)
        assert caller(governor, given)[0] == "receipt"
        with governor.session("s", agent="bot"), pytest.raises(ApprovalNeeded) as refusal:
            order(given)
        assert [report.problem for report in governor.verify() if report.problem] == []
    assert caller.ran == [given]
    assert len(watcher.tickets) == 1
    spans = [span.to_json() for span in traces.finished]
    written = "\n".join(map(repr, [*recorder.events, *watcher.tickets, spans, refusal.value]))
    assert "[secret: github-pat]" in written
    assert [form for form in spelled(secret) if form in written] == []


@pytest.mark.parametrize("name", NESTED)
def test_a_call_with_a_secret_is_denied(name: str, way: str, make: Any) -> None:
    """Broken if a tool is given a secret, wherever it stands, or the reason quotes it."""
    secret, recorder = make(), Recorder()
    with Governor("sqlite://", policy=policy("secrets"), plugins=["secrets", recorder]) as governor:
        caller = Caller(way)
        found, _ = caller(governor, NESTED[name](secret))
    assert (type(found), caller.ran) == (Denied, [])
    assert "github-pat in 'to" in str(found)
    assert [form for form in spelled(secret) if form in str(found) + repr(recorder.events)] == []


def test_a_call_without_one_runs(way: str) -> None:
    """Broken if ordinary arguments are denied."""
    with Governor("sqlite://", policy=policy("secrets")) as governor:
        caller = Caller(way)
        given = {"name": "Ann", "items": [1, 2.5, None, True, object], "note": "as usual"}
        assert caller(governor, given)[0] == "receipt"
    assert caller.ran == [given]


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("'to.login.password'", lambda word: {"login": {"password": word}}),
        ("'to.0'", lambda word: [f"ghp_{word[:18]}", word[18:], "and more"]),
        ("'to.0.text'", lambda word: [{"text": f"ghp_{word[:9]}"}, {"text": word[9:]}]),
    ],
)
def test_what_stands_beside_it_tells(expected: str, given: Any, make: Any) -> None:
    """Broken if the name of a key is not looked at, or a secret gets past in two parts."""
    with Governor("sqlite://", policy=policy("secrets")) as governor:
        found, _ = Caller("sync")(governor, given(make.word(36)))
    assert isinstance(found, Denied)
    assert expected in str(found)


def test_a_key_that_is_no_plain_name_is_not_quoted(make: Any) -> None:
    """Broken if the path in a reason shows what a model wrote as a key."""
    given = {make(): {"my private words": make("gitlab-pat")}}
    with Governor("sqlite://", policy=policy("secrets")) as governor:
        found, _ = Caller("sync")(governor, given)
    assert "github-pat in 'to.(key)', gitlab-pat in 'to.*.*'" in str(found)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (None, {"kinds": ["gitlab-pat"]}),
        (None, {"arguments": ["to.note"]}),
        (ApprovalNeeded, {"verdict": "ask"}),
        (ApprovalNeeded, {"verdict": "ask", "arguments": ["to.items.0.text"]}),
        (Denied, {"kinds": ["gitlab-pat", "github-pat"]}),
        (Denied, {"arguments": ["to.missing"]}),
        (Denied, {"arguments": ["to.items.7"], "verdict": "ask"}),
        (Denied, {"max_bytes": 30, "verdict": "ask"}),
    ],
)
def test_what_it_is_told(kind: type[Exception] | None, options: Any, make: Any) -> None:
    """Broken if an option is ignored, or what is missing or too long to be searched is let through."""
    given = {"note": "none", "items": [{"text": make()}]}
    with Governor("sqlite://", policy=policy("secrets", **options)) as governor:
        caller = Caller("sync")
        found, _ = caller(governor, given)
    assert (type(found), caller.ran) == ((kind, []) if kind else (str, [given]))


def test_a_condition_can_ask_it(make: Any) -> None:
    """Broken if a rule cannot depend on whether there is a secret in a call."""
    rule = {"id": "leak", "tools": ["*"], "when": {"evaluator": "secrets"}, "verdict": "ask"}
    told = {"version": 1, "name": "p", "default": "allow", "rules": [rule]}
    with Governor("sqlite://", policy=told) as governor:
        caller = Caller("sync")
        assert caller(governor, "as usual")[0] == "receipt"
        assert type(caller(governor, make())[0]) is ApprovalNeeded
    assert caller.ran == ["as usual"]


@pytest.mark.parametrize("use", ["secrets", "secrets-in-results"])
@pytest.mark.parametrize(
    "options",
    [
        {"kinds": ["github"]},
        {"kinds": []},
        {"max_bytes": 0},
        {"max_bytes": 10**9},
        {"verdict": "allow"},
        {"on_unreadable": "allow"},
        {"arguments": []},
        {"other": 1},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(use: str, options: Any) -> None:
    """Broken if a typing error in a policy leaves calls unsearched."""
    with pytest.raises((PolicyError, PluginError)):
        Governor("sqlite://", policy=policy(use, **options))


def test_what_a_tool_declares_secret_is_no_leak(make: Any) -> None:
    """Broken if a tool that needs a credential can no longer be given one, or another argument is passed over."""
    ran = []

    @governed(secrets=["token"])
    def fetch(token: str, url: str) -> None:
        ran.append(url)

    with (
        Governor("sqlite://", policy=policy("secrets")) as governor,
        governor.session("s", agent="bot"),
    ):
        fetch(make(), "https://example.com")
        with pytest.raises(Denied, match="github-pat in 'url'"):
            fetch(make(), f"https://example.com/{make()}")
    assert ran == ["https://example.com"]


RESULTS: dict[str, Callable[[str], Any]] = {
    **{name: made for name, made in NESTED.items() if name not in {"record", "utf-16"}},
    "list": lambda secret: ["a", f"b {secret}", 3],
    "tuple": lambda secret: (1, {"x": [secret, secret]}),
    "lines": lambda secret: ["one", secret[:20], secret[20:], "two"],
    "bytearray": lambda secret: bytearray(secret.encode()),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_comes_without_its_secrets(name: str, way: str, make: Any) -> None:
    """Broken if a secret in a result reaches the caller or the record, or more is taken out than it."""
    secret, recorder = make(), Recorder()
    gives = RESULTS[name](secret)
    with Governor("sqlite://", policy=policy("secrets-in-results"), plugins=[recorder]) as governor:
        caller = Caller(way, gives)
        found, _ = caller(governor)
    assert "[secret: github-pat]" in str(found)
    assert [form for form in spelled(secret) if form in str(found) + repr(recorder.events)] == []
    assert secret[:20] not in str(found)
    assert secret[20:] not in str(found)
    assert caller.gives is gives
    assert gives == RESULTS[name](secret)  # not changed


def test_only_the_secret_is_taken_out(make: Any) -> None:
    """Broken if what stands beside a secret is changed, of another type, or lost."""
    gives = {
        "a": [1, "é", (2.5, f"x {make()} y")],
        b"b": {"n": None, make(): {"in": 3}, make(): b"x " + make().encode()},
        3: {make("gitlab-pat")},
    }
    with Governor("sqlite://", policy=policy("secrets-in-results")) as governor:
        found, _ = Caller("sync", gives)(governor)
    assert found == {
        "a": [1, "é", (2.5, "x [secret: github-pat] y")],
        b"b": {
            "n": None,
            "[secret: github-pat]": {"in": 3},
            "[secret: github-pat] (2)": b"x [secret: github-pat]",
        },
        3: {"[secret: gitlab-pat]"},
    }


class Model(BaseModel, extra="allow"):
    """A model with more than its fields."""

    note: str = ""


class Row(msgspec.Struct):
    """A struct."""

    note: str


class Pair(tuple[str, ...]):
    """A tuple of its own type."""

    __slots__ = ()


CLEAN: list[Any] = [
    "as usual",
    {"a": [1, (b"x", {"c"})], 2: 2.5},
    None,
    Record("fine"),
    Model(note="a", other="b"),
    Row("fine"),
    Pair(["a", "b"]),
]


@pytest.mark.parametrize("gives", CLEAN, ids=lambda one: type(one).__name__)
def test_a_result_without_any_is_the_very_object(gives: Any, way: str) -> None:
    """Broken if a result is copied or withheld in which there is nothing to take out."""
    with Governor("sqlite://", policy=policy("secrets-in-results")) as governor:
        caller = Caller(way, gives)
        found, _ = caller(governor)
    assert found is gives


class Hidden(Record):
    """A record with an attribute that is no field."""


def hidden(secret: str) -> Hidden:
    """Make one."""
    made = Hidden("fine")
    made.__dict__["more"] = [secret]
    return made


def nested(secret: str) -> Any:
    """Bury a secret deeper than what is read."""
    data: Any = secret
    for _ in range(100):
        data = [data]
    return data


def endless(secret: str) -> Any:
    """A list within itself."""
    data: list[Any] = [secret]
    data.append(data)
    return data


UNREADABLE: dict[str, Callable[[str], Any]] = {
    "object": lambda secret: type("Thing", (), {"text": secret})(),
    "function": lambda secret: lambda: secret,
    "exception": ValueError,
    "nested": nested,
    "endless": endless,
    "long": lambda secret: "x " * 600_000 + secret,
    "many": lambda secret: [[]] * 200_000 + [secret],
}
RECORDS: dict[str, Callable[[str], Any]] = {
    "dataclass": Record,
    "hidden": hidden,
    "in-a-list": lambda secret: [{"x": Row(secret)}],
    "extra": lambda secret: Model(other=secret),
    "tuple": lambda secret: Pair(["a", secret]),
}


@pytest.mark.parametrize("name", UNREADABLE | RECORDS)
def test_what_cannot_be_searched_or_redacted_is_withheld(name: str, way: str, make: Any) -> None:
    """Broken if a result gets past that nobody could look into, or put together again."""
    secret = make()
    gives = (UNREADABLE | RECORDS)[name](secret)
    with Governor("sqlite://", policy=policy("secrets-in-results")) as governor:
        found, _ = Caller(way, gives)(governor)
    assert type(found) is Denied
    assert ("cannot be searched" in str(found)) == (name in UNREADABLE)
    assert secret not in str(found)


@pytest.mark.parametrize("name", UNREADABLE | RECORDS)
def test_the_unreadable_may_pass_when_told_so(name: str, make: Any) -> None:
    """Broken if `on_unreadable: pass` withholds, or lets through a secret that was found."""
    gives = (UNREADABLE | RECORDS)[name](make())
    told = policy("secrets-in-results", on_unreadable="pass")
    with Governor("sqlite://", policy=told) as governor:
        found, _ = Caller("sync", gives)(governor)
    assert (found is gives) == (name in UNREADABLE)


SPLITS: dict[str, Callable[[str], list[Any]]] = {
    "one-item": lambda secret: ["a ", secret, " b"],
    "two-items": lambda secret: ["a ", secret[:17], secret[17:], " b"],
    "letters": list,
    "around-numbers": lambda secret: [secret[:9], 7, None, secret[9:]],
    "in-mappings": lambda secret: [
        {"role": "bot", "delta": {"text": secret[:9]}},
        {"role": "bot", "delta": {"text": secret[9:]}},
    ],
    "bytes": lambda secret: [secret[:9].encode(), secret[9:].encode()],
}


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_secret_split_over_a_stream_is_caught(name: str, is_async: bool, make: Any) -> None:
    """Broken if the parts of a secret get through in the items of a stream."""
    secret = make()
    items = SPLITS[name](secret)

    @governed
    def read() -> Iterator[Any]:
        yield from items

    @governed
    async def aread() -> AsyncIterator[Any]:
        for item in items:
            yield item

    async def collect(governor: Governor) -> list[Any]:
        async with governor.session("s", agent="bot"):
            return [item async for item in aread()]

    with Governor("sqlite://", policy=policy("secrets-in-results")) as governor:
        if is_async:
            found = asyncio.run(collect(governor))
        else:
            with governor.session("s", agent="bot"):
                found = list(read())
    assert len(found) == len(items)
    assert [item for item in found if item in items and "text" in str(item)] == []
    texts = "".join(
        item.decode() if isinstance(item, bytes) else str(item) for item in found if item
    )
    assert "[secret: github-pat]" in texts
    assert secret[:9] not in texts
    assert secret[9:] not in texts


def test_what_a_generator_returns_is_searched(make: Any) -> None:
    """Broken if a secret gets past as the value that a generator returns."""
    secret = make()

    @governed
    def read() -> Any:
        yield "a"
        return {"token": secret}

    def outer() -> Any:
        returned.append((yield from read()))

    returned: list[Any] = []
    with (
        Governor("sqlite://", policy=policy("secrets-in-results")) as governor,
        governor.session("s", agent="bot"),
    ):
        assert list(outer()) == ["a"]
    assert returned == [{"token": "[secret: github-pat]"}]


def test_a_private_key_in_lines_is_taken_out_whole(make: Any) -> None:
    """Broken if a line of a key gets through because each is an item of a list."""
    lines = make("private-key").splitlines()
    with Governor("sqlite://", policy=policy("secrets-in-results")) as governor:
        found, _ = Caller("sync", ["before", *lines, "after"])(governor)
    assert found == ["before", *["[secret: private-key]"] * len(lines), "after"]
