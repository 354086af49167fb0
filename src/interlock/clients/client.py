"""
govern(): a client all of whose requests pass one gate.

Every method of the SDK ends in its client's `request`: resources, helpers that parse and stream, raw responses, and
`client.post`. A governed client is of a class of its own, derived from its original's, and takes it from there.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Generator, Iterable
from functools import cache, cached_property
from typing import Any, Self, TypeVar

import msgspec

from interlock._session import Session, current_session
from interlock._usage import Usage
from interlock.clients.dialect import Dialect
from interlock.clients.exchange import Exchange
from interlock.clients.request import Request, Terms, options_with
from interlock.clients.surfaces import SOCKETS
from interlock.errors import Misuse

_C = TypeVar("_C")

_RAW = "X-Stainless-Raw-Response"
"""The header by which the SDK's resources ask its client for a response that is not parsed, or not read."""


def govern(
    client: _C,
    dialect: Dialect,
    *,
    session: Session | None,
    accepted: Iterable[str],
    assume: Usage,
    provider: str | None,
    secrets: Iterable[str],
) -> _C:
    """
    Return a copy of *client*, one of *dialect*, whose model calls are made only as an Interlock session lets them.

    The distributions of providers have this as their own `govern`, with what the arguments mean there.

    Raises:
        Misuse: *client* is none of the dialect, or governed already.
    """
    if isinstance(client, (GovernedClient, GovernedAsyncClient)):
        raise Misuse("this client is governed already; govern the original once")
    if not isinstance(client, dialect.clients):
        raise Misuse(
            f"a {type(client).__name__} cannot be governed here; give a client of the {dialect.name} package"
        )
    if isinstance(accepted, str) or isinstance(secrets, str):
        raise Misuse("accepted and secrets are lists of names, not one text")
    terms = Terms(
        dialect=dialect,
        accepted=frozenset(accepted),
        assumed=assume,
        provider=provider or dialect.provider(client),
        secrets=tuple(secrets),
    )
    found: _C = _governed(client, Gate(terms, session))
    return found


class Gate(msgspec.Struct, frozen=True, eq=False):
    """
    What every request of a governed client passes.

    Attributes:
        terms: What the host has said.
        session: In which calls are made; None: in the one that is current then.
    """

    terms: Terms
    session: Session | None

    def exchange(self, client: Any, options: Any, *, stream: bool) -> Exchange | None:
        """
        Return the exchange that a request begins; None where it may pass without being judged.

        Raises:
            Misuse, NotConfigured: it may not be made.
        """
        request = self.terms.request(options, str(client.base_url))
        if request is None:
            return None
        headers = options.headers if isinstance(options.headers, dict) else {}
        is_unread = stream or headers.get(_RAW) == "stream"
        session = self.session_for(request)
        is_passed_on = (
            is_unread
            and request.body.get("stream") is True
            and not session.reviews(request.tool, request.body)
        )
        return Exchange(self.terms.dialect, request, is_passed_on=is_passed_on)

    def session_for(self, request: Request) -> Session:
        """Return the session that *request* is made in."""
        return self.session or current_session(request.tool.name)


class _Governed:
    """What governed clients have in common."""

    _interlock_gate: Gate | None = None
    _interlock_exchange: Exchange | None = None

    def copy(self, **options: Any) -> Any:
        """Do as the client's own `copy`; the copy is governed as this one is."""
        return _governed(_original(self).copy(**options), self._gate())

    with_options = copy

    def _gate(self) -> Gate:
        if self._interlock_gate is None:
            raise Misuse(
                "this client was not made by govern(…), so nothing was sent; govern a client"
            )
        return self._interlock_gate

    def _bound(self, exchange: Exchange) -> Self:
        """Return this client for one exchange: the SDK hands the response to the client that asked for it."""
        bound = copy.copy(self)
        vars(bound)["_interlock_exchange"] = exchange
        return bound


class GovernedClient(_Governed):
    """A governed sync client. The class of each derives from this one and from its original's."""

    def request(
        self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        """Do as the client's own `request`, as the session lets it."""
        made: dict[str, Any] = {"stream": stream, "stream_cls": stream_cls}
        gate, own = self._gate(), _own(GovernedClient, self)
        if gate.terms.dialect.is_prepared:
            options = own._copy_and_prepare(options)  # noqa: SLF001 - the SDK's; what is judged is what is sent
        exchange = gate.exchange(self, options, stream=stream)
        if exchange is None:
            return own.request(cast_to, options, **made)
        request, session = exchange.request, gate.session_for(exchange.request)
        send = _own(GovernedClient, self._bound(exchange)).request

        def run(judged: dict[str, Any]) -> Any:
            try:
                exchange.value = send(cast_to, options_with(options, exchange.body(judged)), **made)
            finally:
                exchange.book()
            return exchange.answer

        def parts(judged: dict[str, Any]) -> Generator[Any, None, None]:
            return exchange.events(
                lambda: send(cast_to, options_with(options, exchange.body(judged)), **made)
            )

        if exchange.is_passed_on:
            exchange.parts = session.stream(
                request.tool, request.body, parts, estimate=request.estimate
            )
            return _first(next(exchange.parts, None))
        left = session.call(request.tool, request.body, run, estimate=request.estimate)
        if not exchange.has_run:
            return _first(None)
        return exchange.value if left is exchange.answer else exchange.anew(left)

    def _process_response(self, *, response: Any, **rest: Any) -> Any:
        exchange, process = (
            self._interlock_exchange,
            _own(GovernedClient, self)._process_response,  # noqa: SLF001 - the SDK's
        )
        if exchange is None:
            return process(response=response, **rest)
        return process(
            response=exchange.received(response, lambda other: process(response=other, **rest)),
            **rest,
        )


class GovernedAsyncClient(_Governed):
    """A governed async client, likewise."""

    async def request(
        self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        """Do as the client's own `request`, as the session lets it."""
        made: dict[str, Any] = {"stream": stream, "stream_cls": stream_cls}
        gate, own = self._gate(), _own(GovernedAsyncClient, self)
        if gate.terms.dialect.is_prepared:
            options = await own._copy_and_prepare(options)  # noqa: SLF001 - the SDK's; what is judged is what is sent
        exchange = gate.exchange(self, options, stream=stream)
        if exchange is None:
            return await own.request(cast_to, options, **made)
        request, session = exchange.request, gate.session_for(exchange.request)
        send = _own(GovernedAsyncClient, self._bound(exchange)).request

        async def run(judged: dict[str, Any]) -> Any:
            try:
                body = exchange.body(judged)
                exchange.value = await send(cast_to, options_with(options, body), **made)
            finally:
                exchange.book()
            return exchange.answer

        def parts(judged: dict[str, Any]) -> AsyncGenerator[Any, None]:
            return exchange.aevents(
                lambda: send(cast_to, options_with(options, exchange.body(judged)), **made)
            )

        if exchange.is_passed_on:
            exchange.parts = session.astream(
                request.tool, request.body, parts, estimate=request.estimate
            )
            return _first(await anext(exchange.parts, None))
        left = await session.acall(request.tool, request.body, run, estimate=request.estimate)
        if not exchange.has_run:
            return _first(None)
        return exchange.value if left is exchange.answer else await exchange.anew(left)

    async def _process_response(self, *, response: Any, **rest: Any) -> Any:
        exchange, process = (
            self._interlock_exchange,
            _own(GovernedAsyncClient, self)._process_response,  # noqa: SLF001 - the SDK's
        )
        if exchange is None:
            return await process(response=response, **rest)
        received = await exchange.areceived(response, lambda other: process(response=other, **rest))
        return await process(response=received, **rest)


def _own(kind: type[Any], client: Any) -> Any:
    """Return *client* as the SDK's class has it, which comes after *kind*."""
    return super(kind, client)


def _first(value: Any) -> Any:
    """Return *value*; there is none in a dry run, and a caller cannot be given nothing for an answer."""
    if value is None:
        raise Misuse(
            "the model was not asked: this is a dry run, and nobody said what stands in for its answer. "
            "Put @governed(kind='model', simulate=…) on a function that makes the call."
        )
    return value


def _closed(name: str) -> property:
    """Return the attribute *name* of a client, which the SDK asks for before it opens a socket."""

    def opening(client: Any) -> Any:
        if SOCKETS not in client._gate().terms.accepted:  # noqa: SLF001 - of our own class
            raise Misuse(
                "a connection by websocket is not governed by Interlock, so it was not opened; "
                f'accept that: govern(client, accepted=["{SOCKETS}"])'
            )
        return vars(client).get(name)

    def keep(client: Any, value: Any) -> None:
        vars(client)[name] = value

    return property(opening, keep)


@cache
def _class_for(original: Any, dialect: Dialect) -> type[Any]:
    members = {name: getattr(original, name) for name in ("__module__", "__qualname__", "__doc__")}
    members["_interlock_original"] = original
    if dialect.sockets is not None:
        members[dialect.sockets] = _closed(dialect.sockets)
    sync, _ = dialect.clients
    base = GovernedClient if issubclass(original, sync) else GovernedAsyncClient
    return type(original.__name__, (base, original), members)


def _governed(client: Any, gate: Gate) -> Any:
    found = _retyped(client, _class_for(_kind(client), gate.terms.dialect))
    found._interlock_gate = gate  # noqa: SLF001 - of our own class
    return found


def _kind(client: Any) -> Any:
    return type(client)


def _original(client: Any) -> Any:
    found = _retyped(client, client._interlock_original)  # noqa: SLF001 - of our own class
    vars(found).pop("_interlock_gate", None)
    return found


def _retyped(client: Any, kind: type[Any]) -> Any:
    """Return a copy of *client* of another class, with resources of its own: each knows the client that it is of."""
    found: Any = object.__new__(kind)
    for name, value in vars(client).items():
        if not isinstance(getattr(type(client), name, None), cached_property):
            vars(found)[name] = value
    return found
