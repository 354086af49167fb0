"""
One exchange with the provider, within a governed call: its response passes here before the SDK reads it.

What it says of usage is booked. A whole response is read, and reviewed as JSON. A stream is passed on byte for byte as
it comes, and settled before its last event is given: callers stop there, which would look as if they had left early.
"""

from __future__ import annotations

import json
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from functools import cache
from typing import Any

from anyio.lowlevel import cancel_shielded_checkpoint

from interlock import Usage, report_usage
from interlock_openai.answer import (
    Event,
    Splitter,
    answer_in,
    assembled,
    events_in,
    no_answer,
    used_by,
    written,
)
from interlock_openai.request import Request

_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Exchange:
    """
    What goes to and fro for one call.

    Attributes:
        request: The call.
        is_passed_on: Whether its stream is passed on as it comes, instead of being read to its end.
        has_run: Whether the SDK was asked to make it.
        answer: What came, as JSON; for those who review it.
        value: What the SDK makes of it, for the caller.
        parts: What gives the events of a stream that is passed on.
        tail: The last event of that stream, given once the call is settled.
    """

    def __init__(self, request: Request, *, is_passed_on: bool) -> None:
        """Begin with nothing sent."""
        self.request = request
        self.is_passed_on = is_passed_on
        self.has_run = False
        self.answer: Any = None
        self.value: Any = None
        self.parts: Any = None
        self.tail = b""
        self._process: Callable[..., Any] | None = None
        self._response: Any = None
        self._given: Any = None
        self._splitter = Splitter()
        self._seen: list[Event] = []
        self._is_hiding = False
        self._used: Usage | None = None

    def body(self, judged: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is sent: what was judged, and the wish to be told the usage, which streams need."""
        body = dict(judged)
        self.has_run = True
        if (
            "stream" in self.request.body
        ):  # how the answer comes is the caller's, whatever an approver writes
            body["stream"] = self.request.body["stream"]
        if body.get("stream") is True and self.request.operation.name != "embeddings":
            options = body.get("stream_options")
            options = options if isinstance(options, Mapping) else {}
            if ("messages" in body or "prompt" in body) and "input" not in body:
                self._is_hiding = not options.get("include_usage")
                body["stream_options"] = {**options, "include_usage": True}
        return body

    def received(self, response: Any, process: Callable[..., Any]) -> Any:
        """Take the response, and return the one that the SDK is to read; *process* makes of one what callers get."""
        if response.is_error:  # it is the SDK's to raise
            return response
        if self.is_passed_on:
            return self._passing(response, "SyncByteStream", _Passing)
        response.read()
        return self._whole(response, process)

    async def areceived(self, response: Any, process: Callable[..., Any]) -> Any:
        """Do as `received` does, awaiting."""
        if response.is_error:
            return response
        if self.is_passed_on:
            return self._passing(response, "AsyncByteStream", _APassing)
        await response.aread()
        return self._whole(response, process)

    def book(self) -> None:
        """Report what the answer says that was used; of what says nothing, nothing."""
        if self._used is not None:
            report_usage(self._used)

    def anew(self, left: Any) -> Any:
        """
        Return what the SDK makes of the answer that a review has left.

        Raises:
            Misuse: it is none of the protocol.
        """
        if self._process is None or not isinstance(left, type(self.answer)):
            raise no_answer()
        if _is_stream(self._response):
            content = written(left, usage=not self._is_hiding)
        else:
            content = left.encode() if isinstance(left, str) else json.dumps(left).encode()
        return self._process(_with_content(self._response, content))

    def events(self, send: Callable[[], Any]) -> Generator[Any, None, None]:
        """
        Give what *send* returns for the caller, and then the events of the stream but the last.

        What the stream says is booked when it ends, is left or breaks.
        """
        value = send()
        try:
            yield value
            for chunk in self._response.iter_bytes():
                yield from self._shown(self._splitter.feed(chunk))
                if self._is_done():
                    break
            yield from self._shown(self._splitter.rest())
        except GeneratorExit:
            raise
        except BaseException:
            self._broken()
            raise
        finally:
            if self._response is not None:  # or the SDK has not come by here
                self._response.close()
            self._ended()

    async def aevents(self, send: Callable[[], Awaitable[Any]]) -> AsyncGenerator[Any, None]:
        """Do as `events` does, awaiting."""
        value = await send()
        try:
            yield value
            async for chunk in self._response.aiter_bytes():
                for raw in self._shown(self._splitter.feed(chunk)):
                    yield raw
                if self._is_done():
                    break
            for raw in self._shown(self._splitter.rest()):
                yield raw
        except GeneratorExit:
            raise
        except BaseException:
            self._broken()
            raise
        finally:
            if self._response is not None:
                await self._response.aclose()
            self._ended()

    def disconnect(self) -> None:
        """Close the connection under a stream that another thread reads."""
        self._response.close()

    async def adisconnect(self) -> None:
        """Close the connection under a stream that is left."""
        if self._response is not None:
            await self._response.aclose()

    def _whole(self, response: Any, process: Callable[..., Any]) -> Any:
        self._response, self._process = response, process
        if not _is_stream(response):
            self.answer = answer_in(response.content)
            self._used = self._free() or used_by(self.answer)
            return response
        events = events_in(response.content)
        self.answer = assembled(events)
        self._used = self._free() or used_by(self.answer)
        kept = [event.raw for event in events if not (self._is_hiding and event.is_usage)]
        return _with_content(response, b"".join(kept))

    def _passing(self, response: Any, kind: str, stream: Any) -> Any:
        self._response = response
        base = getattr(sys.modules[type(response).__module__.partition(".")[0]], kind)
        given = type(response)(
            response.status_code,
            headers=_headers(response),
            stream=_class_of(base, stream)(self),
            request=response.request,
            extensions=response.extensions,
            default_encoding=response.default_encoding,
            history=response.history,
        )
        self._given = given
        return given

    def _shown(self, events: Iterator[Event]) -> Iterator[bytes]:
        for event in events:
            self._seen = [*self._seen[-1:], event]
            self._used = used_by(_telling(event)) or self._used
            if self._is_hiding and event.is_usage:
                continue
            if self.tail or event.is_last:
                self.tail += event.raw
            else:
                yield event.raw

    def _is_done(self) -> bool:
        return bool(self._seen) and self._seen[-1].is_done

    def _broken(self) -> None:
        # What was generated until it broke was paid for, and nobody says how much it was. A call that raises and says
        # nothing is booked as nothing, which would be less than the truth.
        self._used = self._used or self.request.estimate

    def _ended(self) -> None:
        self._used = self._free() or self._used
        self.book()
        if self._given is not None and hasattr(self._response, "_elapsed"):
            self._given.elapsed = self._response.elapsed

    def _free(self) -> Usage | None:
        return self.request.estimate if self.request.operation.is_free else None


class _Passing:
    """The bytes of a governed stream, for a sync client."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # No generator: the collector would close it and the one that it reads from in any order.
        for part in self._exchange.parts:
            return bytes(part)
        tail, self._exchange.tail = self._exchange.tail, b""
        if not tail:
            raise StopIteration
        return tail

    def close(self) -> None:
        """End the call: settled if it ended, abandoned if it did not."""
        if (
            self._exchange.parts.gi_running
        ):  # in another thread, which then finds the connection closed
            self._exchange.disconnect()
        else:
            self._exchange.parts.close()


class _APassing:
    """The bytes of a governed stream, for an async client."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        async for part in self._exchange.parts:
            return bytes(part)
        tail, self._exchange.tail = self._exchange.tail, b""
        if not tail:
            raise StopAsyncIteration
        return tail

    async def aclose(self) -> None:
        """End the call: settled if it ended, abandoned if it did not."""
        # An event loop closes all generators that are dropped together at the same time, and to close one that is being
        # closed is an error. Those of the HTTP library have nothing to wait for once the connection is closed, and of
        # ours another may have begun by the next step.
        if self._exchange.parts.ag_running:
            return
        await self._exchange.adisconnect()
        await cancel_shielded_checkpoint()
        if not self._exchange.parts.ag_running:
            await self._exchange.parts.aclose()


@cache
def _class_of(base: Any, stream: Any) -> type[Any]:
    """Return *stream* as a stream of the HTTP library that the client uses, of which there are two."""
    return type(stream.__name__, (stream, base), {})


def _telling(event: Event) -> Any:
    """Return what of an event may tell the usage."""
    data = event.data or {}
    return data["response"] if event.is_last and "response" in data else data


def _is_stream(response: Any) -> bool:
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _headers(response: Any) -> list[tuple[str, str]]:
    return [
        (key, value)
        for key, value in response.headers.multi_items()
        if key.lower() not in _OF_THE_BODY
    ]


def _with_content(response: Any, content: bytes) -> Any:
    """Return *response* with another body."""
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
