"""
One exchange with the provider, within a governed call: its response passes here before the SDK reads it.

What it says of usage is booked. A whole response is read, and reviewed as JSON. A stream is passed on byte for byte as
it comes, and settled before its last event is given: callers stop there, which would look as if they had left early.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from typing import Any

from interlock._scope import report_usage
from interlock._usage import Usage
from interlock.clients.bodies import apassing, is_stream, passing, with_content
from interlock.clients.dialect import Dialect, Tally
from interlock.clients.request import Request
from interlock.clients.sse import Event, Splitter, events_in, json_in, sse
from interlock.errors import Misuse


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

    def __init__(self, dialect: Dialect, request: Request, *, is_passed_on: bool) -> None:
        """Begin with nothing sent."""
        self.request = request
        self.is_passed_on = is_passed_on
        self.has_run = False
        self.answer: Any = None
        self.value: Any = None
        self.parts: Any = None
        self.tail = b""
        self._dialect = dialect
        self._process: Callable[..., Any] | None = None
        self._response: Any = None
        self._given: Any = None
        self._splitter = Splitter()
        self._tally = Tally(dialect)
        self._is_done = False
        self._is_hiding = False
        self._used: Usage | None = None

    def body(self, judged: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is sent: what was judged, and the wish to be told the usage, where streams need it."""
        body = dict(judged)
        self.has_run = True
        if (
            "stream" in self.request.body
        ):  # how the answer comes is the caller's, whatever an approver writes
            body["stream"] = self.request.body["stream"]
        if body.get("stream") is True:
            body, self._is_hiding = self._dialect.with_usage(self.request.operation, body)
        return body

    def received(self, response: Any, process: Callable[..., Any]) -> Any:
        """Take the response, and return the one that the SDK is to read; *process* makes of one what callers get."""
        if response.is_error:  # it is the SDK's to raise
            return response
        if self.is_passed_on:
            self._response, self._given = response, passing(response, self)
            return self._given
        response.read()
        return self._whole(response, process)

    async def areceived(self, response: Any, process: Callable[..., Any]) -> Any:
        """Do as `received` does, awaiting."""
        if response.is_error:
            return response
        if self.is_passed_on:
            self._response, self._given = response, apassing(response, self)
            return self._given
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
        content: bytes | None = None
        if self._process is not None and isinstance(left, type(self.answer)):
            if is_stream(self._response):
                content = self._written(left)
            else:
                content = left.encode() if isinstance(left, str) else json.dumps(left).encode()
        if self._process is None or content is None:
            raise Misuse(
                "the call of the model ran and was booked, and its review left no answer of the protocol; "
                "do not make it again"
            )
        return self._process(with_content(self._response, content))

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
                if self._is_done:
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
                if self._is_done:
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
        if not is_stream(response):
            self.answer = json_in(response.content)
            self._used = self._free() or self._dialect.used_by(self.answer)
            return response
        events = events_in(response.content)
        self.answer = self._dialect.assembled([one.data for one in events if one.data is not None])
        self._used = self._free() or self._dialect.used_by(self.answer)
        if not self._is_hiding:
            return response
        return with_content(response, b"".join(one.raw for one in events if not self._hides(one)))

    def _written(self, left: Any) -> bytes | None:
        if isinstance(left, list):
            return b"".join(sse(data, data.get("type")) for data in left if isinstance(data, dict))
        if not isinstance(left, dict):
            return None
        hidden = {"usage"} if self._is_hiding else set()
        return self._dialect.written({key: left[key] for key in left if key not in hidden})

    def _shown(self, events: Iterator[Event]) -> Iterator[bytes]:
        for event in events:
            self._tally.add(event)
            self._is_done = event.is_done
            if self._hides(event):
                continue
            if self.tail or self._dialect.is_last(event):
                self.tail += event.raw
            else:
                yield event.raw

    def _hides(self, event: Event) -> bool:
        return self._is_hiding and event.data is not None and self._dialect.is_usage(event.data)

    def _broken(self) -> None:
        # What was generated until it broke was paid for, and nobody says how much it was. A call that raises and says
        # nothing is booked as nothing, which would be less than the truth.
        most = self.request.estimate
        self._used = self._tally.used(most.output_tokens) or most

    def _ended(self) -> None:
        self._used = self._free() or self._used or self._tally.used()
        self.book()
        if self._given is not None and hasattr(self._response, "_elapsed"):
            self._given.elapsed = self._response.elapsed

    def _free(self) -> Usage | None:
        return self.request.estimate if self.request.operation.is_free else None
