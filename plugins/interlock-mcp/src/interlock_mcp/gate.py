"""
The gate: every request of the protocol passes it, on whichever side of a connection it stands.

In flows a request and a way to pass it on; out flows its result, or a refusal in the protocol's own form. Nothing is
decided here: `Session.acall` and `Session.model_call` decide.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

import anyio
import msgspec
from mcp import MCPError
from mcp_types import INTERNAL_ERROR, METHOD_NOT_FOUND
from opentelemetry import trace

from interlock import (
    ApprovalNeeded,
    InterlockError,
    Session,
    Tool,
    Usage,
    current_call,
    current_session,
    tool_of,
)
from interlock_mcp.catalogue import Catalogue, Change, Definition
from interlock_mcp.refusals import answer, tool_error
from interlock_mcp.surfaces import JUDGED, PASSED, Request, changed, checked_server, described

Result: TypeAlias = dict[str, Any]
"""The result of a request as it is on the wire."""

Forward: TypeAlias = Callable[[dict[str, Any]], Awaitable[Result]]
"""Passes a request on with these parameters, and returns its result; raises MCPError for an error."""

Lister: TypeAlias = Callable[[], Awaitable[list[Definition]]]
"""Returns the definitions of all tools of a server, as they are on the wire."""

_WANTED = frozenset({"elicitation/create", "roots/list", "sampling/createMessage"})
"""What a server can want of its client."""

_LISTINGS = 3
"""So often tools are listed for one call: a server that says again and again that they changed must not hold it up."""

_OPERATION = "gen_ai.operation.name"
_TOOL = "gen_ai.tool.name"

_CHARACTERS = 3
"""So many characters are one token at least, for the estimate of what a server wants to be sampled."""


class Gate:
    """
    What stands before one server.

    Attributes:
        server: The host's name for it.
        catalogue: Its tools, as they were first listed.
        waiting: The ids of tickets that calls were told to wait for.
    """

    def __init__(
        self,
        server: str,
        session: Session | None = None,
        *,
        tools: Iterable[Any] = (),
        accept: Iterable[str] = (),
        catalogue: Catalogue | None = None,
    ) -> None:
        """
        Put a gate before *server*.

        Args:
            server: What policies call it.
            session: In which calls are made; None: in the one that is current then.
            tools: Governed functions, or declarations by `Tool`, of the tools that have their names.
            accept: Methods that are not known here, and that may pass without being judged.
            catalogue: What is pinned of its tools.

        Raises:
            Misuse: it cannot be called so.
        """
        self.server = checked_server(server)
        self.catalogue = catalogue or Catalogue()
        self.waiting: set[str] = set()
        self._session = session
        self._accept = frozenset(accept)
        found = [one if isinstance(one, Tool) else tool_of(one) for one in tools]
        self._declared = {tool.name: tool for tool in found if tool is not None}
        self._suspended: set[str] = set()
        self._listing = anyio.Lock()

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        forward: Forward,
        *,
        lister: Lister | None = None,
    ) -> Result:
        """
        Judge one request, and pass it on by *forward* if it may be.

        Raises:
            MCPError: the error that *forward* raised, itself; or the refusal of what is no tool's call.
        """
        if method in PASSED or method in self._accept:
            result = await forward(dict(params))
            return self._listed(result) if method == "tools/list" else result
        if method not in JUDGED:
            raise MCPError(
                code=METHOD_NOT_FOUND,
                message=f"{method} is not governed, so it is not passed on; the host can accept it by name",
                data=method,
            )
        call = described(self.server, method, params, self._declared)
        if method == "tools/call":
            _name_span(str(params["name"]), call.tool.name)
            refused = await self._unchanged(str(params["name"]), lister)
            if refused is not None:
                _disown_span(call.tool.name)
                return refused
            if call.tool.schema is None:
                schema = self.catalogue.schema(str(params["name"]))
                tool = msgspec.structs.replace(call.tool, schema=schema)
                call = msgspec.structs.replace(call, tool=tool)
        return await self._judged(method, call, forward, of=str(params.get("name")))

    async def _judged(self, method: str, call: Request, forward: Forward, *, of: str) -> Result:
        raised: list[BaseException] = []
        result: Any = None
        begun = False

        async def run(judged: Mapping[str, Any]) -> Result:
            nonlocal begun
            begun = True
            try:
                return _noted(await forward(call.passed_on(judged)))
            except BaseException as error:
                raised.append(error)
                raise

        try:
            session = self._session or current_session(call.tool.name)
            result = await _made(session, call, run)
            for wish in _wishes(result):
                await self._wished(session, wish)
        except InterlockError as error:
            if raised and error is raised[0]:  # of what is behind, which is not ours to translate
                raise
            self._note(of, error)
            if not begun:
                _disown_span(call.tool.name)
            return answer(method, error)
        if result is None and session.mode == "dry_run":
            return _simulated(method, call.tool.name)
        if not isinstance(result, Mapping):
            raise MCPError(
                code=INTERNAL_ERROR,
                message=f"{call.tool.name} ran, and its review left no result of the protocol; do not run it again",
            )
        return dict(result)

    async def _wished(self, session: Session, wish: Mapping[str, Any]) -> None:
        """
        Judge what a server wants of its client by a result, where it does not ask by a request of its own.

        Raises:
            InterlockError: it may not have it.
            MCPError: it is none of what a server can want.
        """
        method, params = wish.get("method"), wish.get("params")
        if method not in _WANTED:
            raise MCPError(
                code=INTERNAL_ERROR,
                message="the MCP server asks its client for what it cannot have",
            )

        async def passed(_: Mapping[str, Any]) -> Result:
            return {}

        wanted = described(self.server, str(method), params if isinstance(params, Mapping) else {})
        await _made(session, wanted, passed)

    async def _unchanged(self, name: str, lister: Lister | None) -> Result | None:
        """Return the refusal of a tool that has changed and was not accepted; None if it has not, or was."""
        change = await self._change(name, lister)
        if change is None:
            return None
        found: Change = change

        async def accept(_: Mapping[str, Any]) -> None:
            self.catalogue.accept(found)

        arguments = {
            "tool": name,
            "was": found.was,
            "now": found.now,
            "definition": found.definition,
        }
        tool = changed(self.server)
        try:
            await (self._session or current_session(tool.name)).acall(tool, arguments, accept)
        except InterlockError as error:
            self._note(name, error)
            before = (
                f"The server has changed its tool {name} since it was pinned, so it was not run. "
            )
            return answer("tools/call", error, before)
        return None

    async def _change(self, name: str, lister: Lister | None) -> Change | None:
        if lister is not None:
            for _ in range(_LISTINGS):
                if not self._must_list(name):
                    break
                async with self._listing:  # calls that come meanwhile wait for what it finds
                    if self._must_list(name):
                        await self._list(name, lister)
            if self._must_list(name):
                raise MCPError(
                    code=INTERNAL_ERROR,
                    message="the MCP server changes its tools faster than they can be listed, so nothing was run",
                )
        return self.catalogue.change(name)

    def _must_list(self, name: str) -> bool:
        return self.catalogue.is_stale or name in self._suspended

    async def _list(self, name: str, lister: Lister) -> None:
        revision = self.catalogue.revision
        try:
            self.catalogue.note(await lister())
        except MCPError as error:
            if error.error.code != METHOD_NOT_FOUND:  # it has no tools to list
                raise
        self.catalogue.is_listed(revision)
        self._suspended.discard(name)

    def _listed(self, result: Result) -> Result:
        tools = result.get("tools")
        if not isinstance(tools, list):
            return result
        self.catalogue.note(tools)
        session = self._session
        if session is not None and session.mode == "observe":
            return result
        return {**result, "tools": self.catalogue.shown(tools)}

    def _note(self, name: str, error: InterlockError) -> None:
        if isinstance(error, ApprovalNeeded):
            self.waiting.add(error.ticket.id)
            self._suspended.add(name)  # what is approved is looked at once more before it runs


def _noted(result: Result) -> Result:
    """Return *result*; of a call that a person has changed with a note, for the model to know what has run."""
    call = current_call()
    note = None if call is None else call.note
    content = result.get("content")
    if note is None or not isinstance(content, list):
        return result
    return {**result, "content": [*content, {"type": "text", "text": note}]}


async def _made(session: Session, call: Request, run: Callable[..., Awaitable[Result]]) -> Any:
    """Make *call* in *session*."""
    if call.tool.kind == "model":
        return await _sampled(session, call, run)
    return await session.acall(call.tool, call.arguments, run)


def _wishes(result: Any) -> list[Mapping[str, Any]]:
    """Return what a result asks the client for."""
    if not isinstance(result, Mapping) or result.get("resultType") != "input_required":
        return []
    asked = result.get("inputRequests")
    found = list(asked.values()) if isinstance(asked, Mapping) else []
    return [one if isinstance(one, Mapping) else {} for one in found]


async def _sampled(
    session: Session, call: Request, run: Callable[..., Awaitable[Result]]
) -> Result:
    """Make a model call of a server's wish to have the client's model answer."""
    given = dict(call.arguments)
    model = given.pop("model")
    limit = given.get("maxTokens")
    estimate = Usage(
        input_tokens=len(str(given.get("messages"))) // _CHARACTERS
        + len(str(given.get("systemPrompt", ""))) // _CHARACTERS,
        output_tokens=limit if isinstance(limit, int) and limit >= 0 else 0,
    )
    made = session.model_call(model=model, estimate=estimate, arguments=given, name=call.tool.name)
    async with made:
        made.review(await run(call.arguments))
    left: Result = made.reviewed
    return left


def _name_span(name: str, governed: str) -> None:
    """
    Give the protocol's span of the call of *name* the name that policies have for it.

    By that Interlock knows the span as the call's own, and does not make a second one beside it.
    """
    if (span := _span_of(name)) is not None:
        span.set_attribute(_TOOL, governed)


def _disown_span(governed: str) -> None:
    """Have the protocol's span of a call that was refused not say that a tool was executed."""
    if (span := _span_of(governed)) is not None:
        span.set_attribute(_OPERATION, "govern")


def _span_of(name: str) -> trace.Span | None:
    """Return the span around, if the protocol's package has made it for a call of the tool *name*."""
    span = trace.get_current_span()
    shown: Mapping[str, object] = getattr(span, "attributes", None) or {}
    is_its = shown.get(_OPERATION) == "execute_tool" and shown.get(_TOOL) == name
    return span if is_its else None


def _simulated(method: str, name: str) -> Result:
    """Return what stands for a result in a dry run."""
    if method == "tools/call":
        # As an error: a result without what the tool's schema of results wants would be one at the client.
        return tool_error(
            f"This is a dry run: {name} was not run.", {"kind": "DryRun", "ran": False}
        )
    empty: dict[str, Result] = {
        "resources/read": {"contents": []},
        "prompts/get": {"messages": []},
        "completion/complete": {"completion": {"values": []}},
        "roots/list": {"roots": []},
        "elicitation/create": {"action": "cancel"},
    }
    return empty.get(method, {})
