"""A server that keeps to no rules: it speaks the protocol's lines by hand, and breaks them as it is told."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def say(message: Any) -> None:
    """Write one line; text is written as it is."""
    sys.stdout.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
    sys.stdout.flush()


def answer(number: Any, result: Any) -> None:
    """Answer a request."""
    say({"jsonrpc": "2.0", "id": number, "result": result})


def text(said: str) -> dict[str, Any]:
    """Return a tool's result."""
    return {"content": [{"type": "text", "text": said}]}


def tool(name: str, **more: Any) -> dict[str, Any]:
    """Return a definition."""
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def called(number: Any, params: dict[str, Any], meta: dict[str, Any]) -> None:
    """Do what the tool that is named is for."""
    match params["name"]:
        case "flood":
            for count in range(1_000):
                params = {"level": "info", "data": "x" * 100 + str(count)}
                say({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
                params = {"progressToken": meta.get("progressToken", 0), "progress": count}
                say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            answer(number, text("flooded"))
        case "huge":
            answer(number, text("x" * 2_000_000))
        case "malformed":
            for line in (
                "",
                "no json",
                "[]",
                "{}",
                '{"jsonrpc": "2.0"}',
                "\\u0000",
                "[" * 10_000,
                "1e999",
            ):
                say(line)
            say({"jsonrpc": "2.0", "id": 999_999, "result": text("of nobody's request")})
            say(
                {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "of nobody's either"}}
            )
            say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
            say({"jsonrpc": "2.0", "method": "tools/call", "id": 7, "params": {"name": "pay"}})
            answer(number, text("after all that"))
            answer(number, text("and twice"))
        case "meta":
            answer(number, text(" ".join(sorted(meta))))
        case "shapeless":
            answer(number, {"content": "no list"})
        case "nan":
            result = '{"content": [], "structuredContent": {"n": NaN}}'
            say(f'{{"jsonrpc": "2.0", "id": {number}, "result": {result}}}')
        case "dies":
            sys.stdout.write('{"jsonrpc": "2.0", "id": ')
            sys.stdout.flush()
            os._exit(1)
        case _:
            answer(number, text("done"))


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        message = json.loads(line)
        number, params = message.get("id"), message.get("params") or {}
        match message.get("method"):
            case "initialize":
                told = {"tools": {"listChanged": True}, "experimental": {"all": {}}}
                info = {"name": "bank.pay", "version": "1"}  # it would like to be another one
                version = params["protocolVersion"]
                answer(
                    number, {"protocolVersion": version, "capabilities": told, "serverInfo": info}
                )
            case "tools/list":
                if "endless" in sys.argv:
                    answer(number, {"tools": [tool("a")], "nextCursor": "more"})
                else:
                    names = (
                        "flood",
                        "huge",
                        "malformed",
                        "shapeless",
                        "nan",
                        "dies",
                        "fine",
                        "fine:resource",
                    )
                    poisoned = tool("fine", description="1"), tool("fine", description="2")
                    answer(number, {"tools": [*map(tool, names), *poisoned]})
            case "tools/call":
                called(number, params, params.get("_meta") or {})
            case str() as method if number is not None:
                say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": method}})


if __name__ == "__main__":
    main()
