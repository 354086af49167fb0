"""
Responses and streams of the HTTP library that a client uses, made without importing it: there are two that SDKs use.

Both have the same classes by the same names, and a response says which of the two it is of.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any, Protocol

from anyio.lowlevel import cancel_shielded_checkpoint

_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Source(Protocol):
    """
    What gives the bytes of a governed stream.

    Attributes:
        parts: The generator of the governed call.
        tail: What is given once that has ended.
    """

    parts: Any
    tail: bytes

    def disconnect(self) -> None:
        """Close the connection under a stream that another thread reads."""

    async def adisconnect(self) -> None:
        """Close the connection under a stream that is left."""


class _Passing:
    """The bytes of a governed stream, for a sync client."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # No generator: the collector would close it and the one that it reads from in any order.
        for part in self._source.parts:
            return bytes(part)
        tail, self._source.tail = self._source.tail, b""
        if not tail:
            raise StopIteration
        return tail

    def close(self) -> None:
        """End the call: settled if it ended, abandoned if it did not."""
        if self._source.parts.gi_running:  # in another thread, which then finds no connection
            self._source.disconnect()
        else:
            self._source.parts.close()


class _APassing:
    """The bytes of a governed stream, for an async client."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        async for part in self._source.parts:
            return bytes(part)
        tail, self._source.tail = self._source.tail, b""
        if not tail:
            raise StopAsyncIteration
        return tail

    async def aclose(self) -> None:
        """End the call: settled if it ended, abandoned if it did not."""
        # An event loop closes all generators that are dropped together at the same time, and to close one that is being
        # closed is an error. Those of the HTTP library have nothing to wait for once the connection is closed, and of
        # ours another may have begun by the next step.
        if self._source.parts.ag_running:
            return
        await self._source.adisconnect()
        await cancel_shielded_checkpoint()
        if not self._source.parts.ag_running:
            await self._source.parts.aclose()


def passing(response: Any, source: Source) -> Any:
    """Return *response* with a body that a sync client reads from *source*."""
    return _streaming(response, "SyncByteStream", _Passing, source)


def apassing(response: Any, source: Source) -> Any:
    """Return *response* with a body that an async client reads from *source*."""
    return _streaming(response, "AsyncByteStream", _APassing, source)


def with_content(response: Any, content: bytes) -> Any:
    """Return *response* with another body, which has been read."""
    given = type(response)(
        response.status_code,
        headers=_headers(response),
        content=content,
        request=response.request,
        extensions=response.extensions,
        history=response.history,
    )
    given.elapsed = response.elapsed
    return given


def is_stream(response: Any) -> bool:
    """Return whether *response* is a stream of events."""
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _streaming(response: Any, kind: str, stream: Any, source: Source) -> Any:
    base = getattr(sys.modules[type(response).__module__.partition(".")[0]], kind)
    return type(response)(
        response.status_code,
        headers=_headers(response),
        stream=_class_of(base, stream)(source),
        request=response.request,
        extensions=response.extensions,
        default_encoding=response.default_encoding,
        history=response.history,
    )


@cache
def _class_of(base: Any, stream: Any) -> type[Any]:
    """Return *stream* as a stream of the HTTP library that the client uses."""
    return type(stream.__name__, (stream, base), {})


def _headers(response: Any) -> list[tuple[str, str]]:
    return [
        (key, value)
        for key, value in response.headers.multi_items()
        if key.lower() not in _OF_THE_BODY
    ]
