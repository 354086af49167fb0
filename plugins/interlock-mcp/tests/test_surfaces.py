"""What the protocol has: a release of its package that adds something fails here, before it can pass ungoverned."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import MCPError
from mcp_types import methods

from interlock_mcp.gate import Gate
from interlock_mcp.proxy import FORWARDED
from interlock_mcp.surfaces import JUDGED, PASSED, complete, described

NOTIFICATIONS = {
    # Applied by the package itself where it belongs: the call that is named is cancelled, or hears of progress.
    "notifications/cancelled": "applied",
    "notifications/progress": "applied",
    "notifications/initialized": "applied",
    # Passed on from the server to the client.
    "notifications/elicitation/complete": "passed on",
    "notifications/message": "passed on",
    "notifications/prompts/list_changed": "passed on",
    "notifications/resources/list_changed": "passed on",
    "notifications/resources/updated": "passed on",
    "notifications/tools/list_changed": "passed on",
    # Passed on from the client to the server.
    "notifications/roots/list_changed": "passed on",
    # Of subscriptions/listen, which a proxy does not have.
    "notifications/subscriptions/acknowledged": "not served",
}

CLIENT_ONLY = {"elicitation/create", "roots/list", "sampling/createMessage"}
NOT_SERVED = {"subscriptions/listen"}
OWN = {"initialize", "ping", "server/discover"}


def test_every_request_is_handled() -> None:
    """Broken if the protocol has a request that is neither judged nor known to need no judging, or the reverse."""
    assert set(methods.MONOLITH_REQUESTS) == JUDGED | PASSED
    assert set() == JUDGED & PASSED


def test_every_request_of_every_version_is_handled() -> None:
    """Broken if one of the protocol's versions has a request that the list of all does not have."""
    found = {method for method, _ in (*methods.CLIENT_REQUESTS, *methods.SERVER_REQUESTS)}
    assert found == JUDGED | PASSED


def test_proxy_forwards_every_request_of_clients() -> None:
    """Broken if the proxy leaves out a request that clients can make, without saying so."""
    clients = {method for method, _ in methods.CLIENT_REQUESTS}
    assert clients == FORWARDED | NOT_SERVED | OWN
    assert set(methods.MONOLITH_REQUESTS) - clients == CLIENT_ONLY


def test_every_notification_is_known() -> None:
    """Broken if the protocol has a notification that nobody has thought about."""
    assert set(NOTIFICATIONS) == set(methods.MONOLITH_NOTIFICATIONS)


@pytest.mark.parametrize("method", sorted(JUDGED))
def test_names_are_apart(method: str) -> None:
    """Broken if a server can offer a tool by the name of another kind of call."""
    params = {
        "name": "x",
        "uri": "x",
        "ref": {},
        "argument": {},
        "message": "",
        "notifications": {},
    }
    name = described("bank", method, params).tool.name
    assert name.startswith("bank." if method == "tools/call" else "bank:")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": 1},
        {"name": ""},
        {"name": "a\0"},
        {"name": "\ud800"},
        {"name": "x" * 257},
        {"name": "pay", "arguments": [1]},
        {"name": "pay", "arguments": "{}"},
    ],
)
async def test_malformed_call(params: dict[str, Any]) -> None:
    """Broken if a call that is none is judged by a name it does not have, or passed on."""
    ran: list[object] = []

    async def forward(sent: dict[str, Any]) -> dict[str, Any]:
        ran.append(sent)
        return {}

    with pytest.raises(MCPError, match="Invalid request parameters"):
        await Gate("bank").request("tools/call", params, forward)
    assert ran == []


def test_results_are_completed_for_their_version() -> None:
    """Broken if a client is sent a result that its version of the protocol does not have."""
    assert complete("tools/list", {"tools": []}, "2025-11-25") == {"tools": []}
    assert complete("tools/call", {"content": []}, "2026-07-28") == {
        "resultType": "complete",
        "content": [],
    }
    assert complete("tools/list", {"ttlMs": 5, "tools": []}, "2026-07-28") == {
        "resultType": "complete",
        "ttlMs": 5,
        "cacheScope": "private",
        "tools": [],
    }


def test_what_was_changed_is_passed_on() -> None:
    """Broken if a person's change to a request that is no tool's call is recorded, and not what is sent."""
    prompt = described("s", "prompts/get", {"name": "p"})
    changed = {**prompt.arguments, "arguments": {"a": "b"}}
    assert prompt.passed_on(changed) == {"name": "p", "arguments": {"a": "b"}}
    assert prompt.passed_on(prompt.arguments) == {"name": "p"}
    given = {"messages": [], "maxTokens": 9}
    sampling = described("s", "sampling/createMessage", given)
    assert sampling.passed_on({**sampling.arguments, "maxTokens": 5}) == {**given, "maxTokens": 5}
    with pytest.raises(MCPError, match="cannot be changed"):
        sampling.passed_on({**sampling.arguments, "model": "m"})
