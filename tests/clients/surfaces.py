"""What an SDK has: each of its methods is called on a governed client, and a release that adds one fails here."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pytest

from interlock import Misuse
from interlock.clients.surfaces import operation_of
from tests.clients.desk import Sdk

OWN = frozenset(
    {
        "close",
        "copy",
        "delete",
        "get",
        "get_api_list",
        "is_closed",
        "patch",
        "platform_headers",
        "post",
        "put",
        "request",
        "with_options",
    }
)
"""What clients of this generation do themselves: those that send something do it by `request`."""

HELPERS = frozenset({"with_raw_response", "with_streaming_response"})


def resources(sdk: str, of: Any, name: str = "") -> dict[str, Any]:
    """Return all resources of a client or a resource of the package *sdk*, by name."""
    found: dict[str, Any] = {}
    for key, value in inspect.getmembers_static(type(of)):
        if isinstance(value, cached_property) and not key.startswith("_"):
            if key in HELPERS or not getattr(of, key).__class__.__module__.startswith(
                sdk + ".resources"
            ):
                continue
            inner = getattr(of, key)
            path = f"{name}.{key}".strip(".")
            found |= {path: inner, **resources(sdk, inner, path)}
    return found


def surfaces(sdk: str, client: Any) -> dict[str, Any]:
    """Return all public methods of all resources of *client*, by name."""
    found: dict[str, Any] = {}
    for path, resource in resources(sdk, client).items():
        for key, value in inspect.getmembers(resource):
            if not key.startswith("_") and inspect.isroutine(value):
                found[f"{path}.{key}"] = value
    return found


def own(client: Any) -> set[str]:
    """Return the names of the public methods of *client* itself."""
    found = inspect.getmembers_static(type(client))
    return {name for name, value in found if inspect.isfunction(value) and name[0] != "_"}


def arguments(method: Any, filler: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *filler*, or what is known to be wanted, for each argument that *method* needs."""
    made: dict[str, Any] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.default is not parameter.empty or parameter.kind in {
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        }:
            continue
        made[name] = values.get(name, filler)
    # A method that names none may still want some: it says so only when it is called.
    return made or values.get(method.__qualname__, {})


class SurfaceSuite:
    """
    What holds of every SDK.

    Attributes:
        known: By name, what becomes of each public method of each resource on a governed client. `judged`: it is a
            model call. `passed`: it asks for nothing but a list of models. `refused`: nothing is sent. `silent`: with
            what the test gives it, it sends nothing.
        values: By name, what an argument has to be; by a method's name, what it needs that does not say so.
        base_url: The root of the API.
        own: The public methods of a client itself.
    """

    known: Mapping[str, str]
    values: Mapping[str, Any]
    base_url: str
    own: frozenset[str] = OWN

    def ask(self, client: Any, **more: Any) -> Any:
        """Make a call that can have tools."""
        raise NotImplementedError

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_every_method_is_known(self, sdk: Sdk, kind: str) -> None:
        """Broken if the SDK has a method that nobody has thought about."""
        plain = sdk.clients[kind](api_key="k")
        assert sorted(set(surfaces(sdk.module.__name__, plain)) - set(self.known)) == []
        assert sorted(own(plain) - self.own) == []

    @pytest.mark.promise(1)
    async def test_every_method_is_judged_or_refused(self, desk: Any) -> None:
        """Broken if a method of the SDK sends something that is neither a recorded model call nor a list of models."""
        with desk.open():
            client = desk.client()
            found = {}
            for name, method in surfaces(desk.sdk.module.__name__, client).items():
                for filler in ("x", b"x", {}, []):  # what the SDK does not take, it does not send
                    made = arguments(method, filler, self.values)
                    found[name] = await _became(desk, method, made)
                    if found[name] != "silent":
                        break
        assert found == {name: self.known[name] for name in found}
        assert {"judged", "passed", "refused", "silent"} >= set(found.values())

    def test_what_is_not_known_is_refused(self, sdk: Sdk, unknown: tuple[str, Any]) -> None:
        """Broken if a path gets past the tables by the way it is written."""
        url, accepted = unknown
        with pytest.raises(Misuse, match="not governed"):
            operation_of(sdk.dialect, "POST", url, self.base_url, accepted)

    async def test_what_runs_at_the_provider(
        self, desk: Any, done: Any, beside: tuple[dict[str, Any], str]
    ) -> None:
        """Broken if a request has the provider run what nobody judges, without the host having said so."""
        sent, name = beside
        with desk.open():
            with pytest.raises(Misuse, match=name):
                await done(self.ask(desk.client(), extra_body=dict(sent)))
            assert desk.provider.received == []
            await done(self.ask(desk.client(accepted=[name]), extra_body=dict(sent)))
        assert len(desk.provider.received) == 1

    def judged(self, sdk: Sdk, method: str, url: str, *accepted: str) -> str | None:
        """Return the name that a request is judged by; None where it passes."""
        found = operation_of(sdk.dialect, method, url, self.base_url, accepted)
        return None if found is None else found.name


async def _became(desk: Any, method: Any, made: Mapping[str, Any]) -> str:
    sent, judged = len(desk.provider.received), len(desk.decided())
    refused = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            await _used(method(**made))
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
