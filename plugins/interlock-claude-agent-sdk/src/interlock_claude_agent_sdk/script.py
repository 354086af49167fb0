"""
Script: a model that says what was written down, for Claude Code to talk to on this machine, without network and key.

It speaks as much of the Messages API as Claude Code asks for. The canary and the tests are driven by it, and a host can
see by it what its policy makes of its own options.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

Block: TypeAlias = dict[str, Any]
Request: TypeAlias = dict[str, Any]
Turn: TypeAlias = "Sequence[Block] | int | Callable[[Request], Sequence[Block] | int]"
"""What the model says at once; a number is the status of an error; or what is called with the request to say either."""

USAGE: Mapping[str, int] = {
    "input_tokens": 1000,
    "output_tokens": 50,
    "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 30,
}
"""What each answer takes."""


def say(text: str) -> Block:
    """Return a block in which the model says *text*."""
    return {"type": "text", "text": text}


def use(name: str, /, **arguments: Any) -> Block:
    """Return a block in which the model uses the tool *name*."""
    return {
        "type": "tool_use",
        "id": f"toolu_{uuid.uuid4().hex[:24]}",
        "name": name,
        "input": arguments,
    }


class Script:
    """
    A server on the loopback interface; a `with` block around the runs that talk to it.

    Attributes:
        requests: What the model was asked, in order.
    """

    def __init__(self, *turns: Turn, subagents: Mapping[str, Sequence[Turn]] | None = None) -> None:
        """
        Write down what the model says.

        Args:
            turns: One after the other; the last again and again.
            subagents: The turns of sub-agents, by a text that is in the prompt that each is given.
        """
        self.requests: list[Request] = []
        self._turns = turns
        self._subagents = dict(subagents or {})
        self._lock = threading.Lock()
        script = self

        class Handler(_Handler):
            def answer(self, request: Request) -> Sequence[Block] | int:
                return script.answer(request)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """Where the model is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def env(self, directory: str | Path) -> dict[str, str]:
        """
        Return the environment with which Claude Code talks to this model, and to nobody else.

        Args:
            directory: Where Claude Code keeps its files.
        """
        return {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "sk-ant-script",
            "CLAUDE_CONFIG_DIR": str(directory),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
            "HOME": str(directory),
            "NO_PROXY": "127.0.0.1",
        }

    def told(self) -> list[str]:
        """Return what the model had been given of its tool uses when it was asked last, in their order."""
        return list(_results(self.requests[-1])) if self.requests else []

    def answer(self, request: Request) -> Sequence[Block] | int:
        """Return what the model says to *request*."""
        with self._lock:
            self.requests.append(request)
        first = json.dumps(request["messages"][:1])
        turns = next(
            (found for text, found in self._subagents.items() if text in first), self._turns
        )
        said = sum(1 for message in request["messages"] if message["role"] == "assistant")
        turn = turns[min(said, len(turns) - 1)]
        return turn(request) if callable(turn) else turn

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _results(request: Request) -> Iterator[str]:
    """Give the results in a request, in the order in which the model wanted them."""
    blocks = [
        block
        for message in request["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else ())
    ]
    found = {one["tool_use_id"]: one for one in blocks if one.get("type") == "tool_result"}
    for block in blocks:
        if block.get("type") == "tool_use" and block["id"] in found:
            given = found[block["id"]].get("content") or ""
            text = given if isinstance(given, str) else _text(given)
            yield text.partition("<system-reminder>")[0].strip()


def _text(parts: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(str(part.get("text", "")) for part in parts)


class _Handler(BaseHTTPRequestHandler):
    """Speaks the protocol; what is said is up to `answer`."""

    protocol_version = "HTTP/1.1"

    def answer(self, request: Request) -> Sequence[Block] | int:
        raise NotImplementedError

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self._json(200, {"data": []})

    def do_POST(self) -> None:
        body: Request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        path = self.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            self._json(200, {"input_tokens": 7})
        elif not path.endswith("/v1/messages"):
            self._json(200, {})
        else:
            said = self.answer(body)
            if isinstance(said, int):
                error = {"type": "invalid_request_error", "message": "the script says so"}
                self._json(said, {"type": "error", "error": error})
            elif body.get("stream"):
                self._stream(body, said)
            else:
                self._json(200, _message(body, said))

    def _json(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: Request, said: Sequence[Block]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in _events(_message(body, said)):
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


def _message(body: Request, said: Sequence[Block]) -> dict[str, Any]:
    uses = any(block["type"] == "tool_use" for block in said)
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": list(said),
        "stop_reason": "tool_use" if uses else "end_turn",
        "stop_sequence": None,
        "usage": dict(USAGE),
    }


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the events in which an answer is streamed."""
    begun = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            text = json.dumps(block["input"])
            empty, delta = (
                {**block, "input": {}},
                {"type": "input_json_delta", "partial_json": text},
            )
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": dict(USAGE)}
    yield {"type": "message_stop"}
