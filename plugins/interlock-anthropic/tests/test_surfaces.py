"""What the SDK has: each of its methods is called on a governed client, and a release that adds one fails here."""

from __future__ import annotations

import inspect
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from interlock import Misuse
from interlock_anthropic.surfaces import operation_of

KNOWN = json.loads((Path(__file__).parent / "surfaces.json").read_text("utf-8"))
"""
By name, what becomes of each public method of each resource on a governed client.

`judged`: it is a model call. `passed`: it asks for nothing but a list of models. `refused`: nothing is sent. `silent`:
with what the test gives it, it sends nothing.
"""

ASK: dict[str, Any] = {"model": "m-1", "max_tokens": 9, "messages": []}

HELPERS = frozenset({"with_raw_response", "with_streaming_response"})


def resources(of: Any, name: str = "") -> dict[str, Any]:
    """Return all resources of a client or a resource, by name."""
    found: dict[str, Any] = {}
    for key, value in inspect.getmembers_static(type(of)):
        if isinstance(value, cached_property) and not key.startswith("_"):
            if key in HELPERS or not getattr(of, key).__class__.__module__.startswith(
                "anthropic.resources"
            ):
                continue
            inner = getattr(of, key)
            path = f"{name}.{key}".strip(".")
            found |= {path: inner, **resources(inner, path)}
    return found


def surfaces(client: Any) -> dict[str, Any]:
    """Return all public methods of all resources of *client*, by name."""
    found: dict[str, Any] = {}
    for path, resource in resources(client).items():
        for key, value in inspect.getmembers(resource):
            if not key.startswith("_") and inspect.isroutine(value):
                found[f"{path}.{key}"] = value
    return found


def arguments(method: Any, filler: Any) -> dict[str, Any]:
    """Return *filler*, or what is known to be wanted, for each argument that *method* needs."""
    made: dict[str, Any] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is not parameter.empty or parameter.kind in {
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        }:
            continue
        made[name] = _VALUES.get(name, filler)
    return made


_VALUES: dict[str, Any] = {
    "max_tokens": 9,
    "messages": [],
    "model": "m-1",
    "tools": [],
    "file": b"x",
    "files": [b"x"],
    "image": b"x",
    "metadata": {},
    "requests": [],
    "bytes": 1,
    "part_ids": [],
    "file_ids": [],
    "chunks": [],
    "payload": "{}",
    "headers": {},
    "max_num_results": 1,
}

CLIENTS = {"sync": Anthropic, "async": AsyncAnthropic}


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_method_is_known(kind: str) -> None:
    """Broken if the SDK has a method that nobody has thought about."""
    plain = CLIENTS[kind](api_key="k")
    assert sorted(set(surfaces(plain)) - set(KNOWN)) == []


@pytest.mark.promise(1)
async def test_every_method_is_judged_or_refused(desk: Any) -> None:
    """Broken if a method of the SDK sends something that is neither a recorded model call nor a list of models."""
    with desk.open():
        client = desk.client()
        found = {}
        for name, method in surfaces(client).items():
            for filler in ("x", b"x", {}, []):  # what the SDK does not take, it does not send
                found[name] = await _became(desk, method, filler)
                if found[name] != "silent":
                    break
    assert found == {name: KNOWN[name] for name in found}
    assert {"judged", "passed", "refused", "silent"} >= set(found.values())


async def _became(desk: Any, method: Any, filler: Any) -> str:
    sent, judged = len(desk.provider.received), len(desk.decided())
    refused = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            await _used(method(**arguments(method, filler)))
    except Misuse as error:
        refused = "not governed" in str(error) or "cannot judge" in str(error)
    except Exception as error:  # noqa: BLE001 - what the SDK makes of odd arguments and answers
        refused = isinstance(error.__cause__, Misuse) or isinstance(error.__context__, Misuse)
    sent, judged = len(desk.provider.received) - sent, len(desk.decided()) - judged
    if sent:
        return "judged" if judged == sent else "passed"
    return "refused" if refused else "silent"


async def _used(made: Any) -> None:
    if hasattr(made, "__await__"):
        made = await made
    for enter in ("__aenter__", "__enter__"):
        if hasattr(made, enter) and "Manager" in type(made).__name__:
            entered = getattr(made, enter)()
            if hasattr(entered, "__await__"):
                entered = await entered
            leave = getattr(made, enter.replace("enter", "exit"))(None, None, None)
            if hasattr(leave, "__await__"):
                await leave
            return


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("/v1/messages/../files", ()),
        ("/v1//messages", ()),
        ("//other/v1/messages", ()),
        ("https://elsewhere/v1/messages", ("messages",)),
        ("/v1/unheard/of", ("files",)),
        ("/v1/files/../messages", ("files",)),
        ("/v1/messages/batches", ("message",)),
        ("/v2/messages", ()),
        ("", ("files",)),
    ],
)
def test_what_is_not_known_is_refused(url: str, accepted: tuple[str, ...]) -> None:
    """Broken if a path gets past the tables by the way it is written."""
    with pytest.raises(Misuse, match="not governed"):
        operation_of("POST", url, "https://api", accepted)


def test_what_is_accepted_passes() -> None:
    """Broken if a name that a host accepts does not let its endpoint through, or lets a model call through."""

    def judged(method: str, url: str, *accepted: str) -> str | None:
        found = operation_of(method, url, "https://api", accepted)
        return None if found is None else found.name

    assert judged("POST", "/v1/files?beta=true", "files") is None
    assert judged("POST", "/v1/messages/batches/b-1/cancel", "messages.batches") is None
    assert judged("POST", "/v1/messages", "messages") == "chat"
    assert judged("POST", "https://api/v1/messages?beta=true") == "chat"
    assert judged("POST", "v1/messages/count_tokens/") == "count_tokens"
    assert judged("GET", "/v1/models") is None


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "code_execution_20250825"}]}, "code_execution"),
        ({"tools": ["odd"]}, "None"),
        ({"mcp_servers": [{"type": "url", "url": "x", "name": "x"}]}, "mcp"),
        ({"container": "c-1"}, "container"),
        ({"fallbacks": [{"model": "m-2"}]}, "fallbacks"),
    ],
    ids=str,
)
async def test_what_runs_at_the_provider(desk: Any, done: Any, sent: Any, name: str) -> None:
    """Broken if a request has the provider run what nobody judges, without the host having said so."""
    with desk.open():
        with pytest.raises(Misuse, match=name):
            await done(desk.client().messages.create(**ASK, extra_body=dict(sent)))
        assert desk.provider.received == []
        client = desk.client(accepted=[name])
        await done(client.messages.create(**ASK, extra_body=dict(sent)))
    assert len(desk.provider.received) == 1


async def test_tools_of_the_callers_pass(desk: Any, done: Any) -> None:
    """Broken if a tool that the caller runs is taken for one of the provider's."""
    tools = [
        {"name": "pay", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "x", "input_schema": {"type": "object"}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "editor"},
    ]
    with desk.open():
        await done(desk.client().messages.create(**ASK, tools=tools))
    assert len(desk.provider.received) == 1
