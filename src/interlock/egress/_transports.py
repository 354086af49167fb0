"""
Transports for httpx that ask the guard, and network backends that connect only to addresses that were checked.

Rule: what is sent is what was judged. The request's target, host and port are taken from the guard's pass and from
nothing else; a backend resolves, checks and connects in one place; each grant has a pool of connections of its own,
so that no request is sent over a connection which another grant opened.

Source: httpcore's documentation of network backends, and httpx's own transports.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import httpcore
import httpx

from interlock.egress._addresses import Blocked, checked, system_resolver
from interlock.egress._guard import Guard, Pass, denied
from interlock.evaluators._grants import Grant

__all__ = ["AsyncGuarded", "Guarded", "httpx"]

Resolver = Callable[[str, int], Iterable[str]]

_PASSED_ON = ("timeout",)
"""Extensions of a request that reach httpcore. `target`, `sni_hostname` and `trace` can change where it is sent."""


class Guarded(httpx.BaseTransport):
    """Sends what the guard admits."""

    def __init__(
        self,
        grants: list[Grant],
        resolver: Resolver | None,
        verify: ssl.SSLContext | None,
        limits: httpx.Limits | None,
    ) -> None:
        self._guard = Guard(grants)
        settings = _settings(verify, limits)
        self._pools = {
            grant: httpcore.ConnectionPool(
                network_backend=_Backend(grant, resolver or system_resolver), **settings
            )
            for grant in grants
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*, or raise `Denied`."""
        leave = self._guard.admit(request.method, str(request.url), request.headers.raw)
        with _translated(request):
            response = self._pools[leave.grant].handle_request(_core(request, leave))
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Stream(response.stream),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()


class AsyncGuarded(httpx.AsyncBaseTransport):
    """Sends what the guard admits."""

    def __init__(
        self,
        grants: list[Grant],
        resolver: Resolver | None,
        verify: ssl.SSLContext | None,
        limits: httpx.Limits | None,
    ) -> None:
        self._guard = Guard(grants)
        settings = _settings(verify, limits)
        self._pools = {
            grant: httpcore.AsyncConnectionPool(
                network_backend=_AsyncBackend(grant, resolver or system_resolver), **settings
            )
            for grant in grants
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*, or raise `Denied`."""
        leave = self._guard.admit(request.method, str(request.url), request.headers.raw)
        with _translated(request):
            response = await self._pools[leave.grant].handle_async_request(_core(request, leave))
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_AsyncStream(response.stream),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()


class _Backend(httpcore.NetworkBackend):
    """Connects to the addresses that *grant* gives, and to no other."""

    def __init__(self, grant: Grant, resolver: Resolver) -> None:
        self._grant = grant
        self._resolver = resolver
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve once, check all, then try them in order."""
        failed: Exception = httpcore.ConnectError("the host has no address")
        for address in _resolved(self._grant, self._resolver, host, port):
            try:
                return self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that *grant* gives, and to no other."""

    def __init__(self, grant: Grant, resolver: Resolver) -> None:
        self._grant = grant
        self._resolver = resolver
        self._inner: Any = httpcore.AnyIOBackend()  # for trio, too

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve once, check all, then try them in order."""
        failed: Exception = httpcore.ConnectError("the host has no address")
        try:
            with anyio.fail_after(timeout):
                addresses = await anyio.to_thread.run_sync(
                    _resolved, self._grant, self._resolver, host, port, abandon_on_cancel=True
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from error
        for address in addresses:
            try:
                stream: httpcore.AsyncNetworkStream = await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return stream
        raise failed


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _resolved(grant: Grant, resolver: Resolver, host: str, port: int) -> list[str]:
    if grant.is_address:
        return checked([host], grant.networks)
    try:
        found = list(resolver(host, port))
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return checked(found, grant.networks)


def _settings(verify: ssl.SSLContext | None, limits: httpx.Limits | None) -> dict[str, Any]:
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    return {
        "ssl_context": verify or httpx.create_ssl_context(),
        "max_connections": limits.max_connections,
        "max_keepalive_connections": limits.max_keepalive_connections,
        "keepalive_expiry": limits.keepalive_expiry,
    }


def _core(request: httpx.Request, leave: Pass) -> httpcore.Request:
    to = leave.destination
    passed_on = {name: value for name, value in request.extensions.items() if name in _PASSED_ON}
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=to.scheme, host=to.host.strip("[]"), port=to.port, target=to.target
        ),
        headers=request.headers.raw,
        content=request.stream,
        extensions=passed_on,
    )


@contextmanager
def _translated(request: httpx.Request | None = None) -> Iterator[None]:
    """Raise httpcore's errors as httpx's of the same name, as httpx's own transports do, and ours as `Denied`."""
    try:
        yield
    except Blocked as error:
        assert request is not None  # noqa: S101 - only connecting is blocked, and only requests connect
        raise denied(str(error), request.method, str(request.url)) from None
    except Exception as error:
        kind = next((_ERRORS[base] for base in type(error).__mro__ if base in _ERRORS), None)
        if kind is None:
            raise
        raise kind(str(error)) from error


_ERRORS: Mapping[type, type[httpx.TransportError]] = {
    getattr(httpcore, kind.__name__): kind
    for kind in (
        httpx.TimeoutException,
        httpx.ConnectTimeout,
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        httpx.PoolTimeout,
        httpx.NetworkError,
        httpx.ConnectError,
        httpx.ReadError,
        httpx.WriteError,
        httpx.ProtocolError,
        httpx.LocalProtocolError,
        httpx.RemoteProtocolError,
        httpx.UnsupportedProtocol,
    )
}
