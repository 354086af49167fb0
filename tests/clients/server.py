"""A provider on a loopback socket: what all of them have in common, whatever they speak."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec


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
    The server, within a `with` block; what it speaks is said by those who derive from it.

    Attributes:
        root: What of a path is in its base URL.
        url: Its base URL.
        script: What it answers, one after the other; when that is used up, a plain answer.
        received: Method, path and body of each request.
    """

    root = ""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.script: list[Says] = []
        self.received: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.provider = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{self.root}"

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

    def is_asked(self, path: str) -> bool:
        """Return whether the next that is scripted is the answer at *path*."""
        raise NotImplementedError

    def other(self, path: str) -> Any:
        """Return what is answered at any other *path*."""
        return {"id": "x"}

    def answer(self, path: str, body: Mapping[str, Any], says: Says) -> Any:
        """Return the answer that *says* something."""
        raise NotImplementedError

    def stream(self, path: str, answer: Any, body: Mapping[str, Any], says: Says) -> Iterator[str]:
        """Return *answer* as events."""
        raise NotImplementedError


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
        path = self.path.partition("?")[0].removeprefix(provider.root)
        if not provider.is_asked(path):
            self._json(provider.other(path))
            return
        says = provider.next()
        if says.status != 200:
            self._json(
                {"type": "error", "error": {"type": "api_error", "message": "no"}}, says.status
            )
            return
        answer = provider.answer(path, body, says)
        if body.get("stream"):
            self._stream(provider.stream(path, answer, body, says), says)
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
