"""A provider on a loopback socket: it speaks messages, whole and as streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

USAGE = {
    "input_tokens": 50,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 10,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 5},
}


class Says(msgspec.Struct, frozen=True):
    """
    What the provider answers to one request.

    Attributes:
        text: The text of the answer.
        calls: The calls of tools in it: id, name, arguments.
        status: Another HTTP status, with an error.
        breaks: Whether the connection breaks within the stream.
        waits: What the stream waits for after its first event.
        usage: Whether usage is told.
    """

    text: str = "hello big world"
    calls: tuple[tuple[str, str, str], ...] = ()
    status: int = 200
    breaks: bool = False
    waits: threading.Event | None = None
    usage: bool = True


class Provider:
    """
    The server, within a `with` block.

    Attributes:
        url: Its base URL.
        script: What it answers, one after the other; when that is used up, a plain answer.
        received: Method, path and body of each request.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.script: list[Says] = []
        self.received: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.provider = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bodies(self) -> list[Any]:
        """The bodies of what was received."""
        return [body for _, _, body in self.received]

    def next(self) -> Says:
        """Return what is answered next."""
        return self.script.pop(0) if self.script else Says()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer what needs no body."""
        self._provider.received.append(("GET", self.path, None))
        self._json({"object": "list", "data": []})

    do_DELETE = do_GET  # noqa: N815 - as the base class has it

    def do_POST(self) -> None:
        """Answer what a model is asked."""
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        provider = self._provider
        provider.received.append(("POST", self.path, body))
        provider.headers.append(dict(self.headers))
        path = self.path.partition("?")[0]
        if path == "/v1/messages/count_tokens":
            self._json({"input_tokens": 9})
            return
        if path != "/v1/messages":
            self._json({"id": "x"})
            return
        says = provider.next()
        if says.status != 200:
            self._json(
                {"type": "error", "error": {"type": "api_error", "message": "no"}}, says.status
            )
            return
        answer = _message(body, says)
        if body.get("stream"):
            self._stream(_events(answer, says), says)
        else:
            self._json(answer)

    @property
    def _provider(self) -> Provider:
        found: Provider = self.server.provider  # type: ignore[attr-defined]
        return found

    def _json(self, answer: Any, status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, events: Iterator[str], says: Says) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if number == 1 and says.waits is not None:
                says.waits.wait(30)
            if number == 2 and says.breaks:
                self.close_connection = True
                return
            content = event.encode()
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            except OSError:  # the client has left
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")


def _message(body: Mapping[str, Any], says: Says) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if says.text:
        content.append({"type": "text", "text": says.text})
    for one, name, arguments in says.calls:
        content.append(
            {"type": "tool_use", "id": one, "name": name, "input": json.loads(arguments)}
        )
    head = {"id": "m-1", "type": "message", "role": "assistant", "model": body.get("model", "")}
    reason = "tool_use" if says.calls else "end_turn"
    usage = USAGE if says.usage else {"input_tokens": None, "output_tokens": None}
    return {
        **head,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _events(answer: dict[str, Any], says: Says) -> Iterator[str]:
    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    usage = {**answer["usage"], "output_tokens_details": None}
    usage["output_tokens"] = 1 if says.usage else None
    empty = {"content": [], "stop_reason": None, "usage": usage}
    yield event("message_start", message={**answer, **empty})
    yield event("ping")
    for place, block in enumerate(answer["content"]):
        at = {"index": place}
        if block["type"] == "text":
            yield event("content_block_start", content_block={**block, "text": ""}, **at)
            deltas = [
                {"type": "text_delta", "text": f"{word} "} for word in block["text"].split(" ")
            ]
        else:
            yield event("content_block_start", content_block={**block, "input": {}}, **at)
            text = json.dumps(block["input"])
            parts = (text[: len(text) // 2], text[len(text) // 2 :])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        for delta in deltas:
            yield event("content_block_delta", delta=delta, **at)
        yield event("content_block_stop", **at)
    ended = {key: answer[key] for key in ("stop_reason", "stop_sequence")}
    told = {
        "usage": {
            key: answer["usage"].get(key) for key in ("output_tokens", "output_tokens_details")
        }
    }
    yield event("message_delta", delta=ended, **told)
    yield event("message_stop")
