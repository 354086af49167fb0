"""A loop of one's own over the openai package: model calls, a stream and tools under one policy."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai import OpenAI

from interlock import Denied, Governor, Misuse
from interlock_openai import govern, run_tools

USAGE = {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960}


class Provider(BaseHTTPRequestHandler):
    """In the place of a provider: wants a tool at first, and then says what it was told."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a chat completion, whole or as a stream."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = [one["content"] for one in body["messages"] if one["role"] == "tool"]
        message: dict[str, object] = {"role": "assistant", "content": "; ".join(said)}
        if not said:
            function = {"name": "refund", "arguments": '{"order": "o-1", "amount": 20}'}
            message["tool_calls"] = [{"id": "a", "type": "function", "function": function}]
        if body.get("stream"):
            parts = [{"choices": [{"index": 0, "delta": message}]}, {"choices": [], "usage": USAGE}]
            text = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
            self.answer("text/event-stream", text)
        else:
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self.answer("application/json", json.dumps({"choices": choices, "usage": USAGE}))

    def answer(self, kind: str, text: str) -> None:
        """Send a body."""
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def refund(order: str, amount: int) -> str:
    """Pay back, in dollars."""
    return f"{amount} dollars of {order} paid back"


POLICY = {
    "version": 1,
    "name": "desk",
    "rules": [
        {"id": "small", "models": ["gpt-5-mini"], "verdict": "allow"},
        {
            "id": "refunds",
            "tools": ["refund"],
            "when": {"argument": "amount", "at_most": 50},
            "verdict": "allow",
        },
    ],
    "budgets": [{"name": "run", "per": "session", "cost_usd": "0.05"}],
}

server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
original = OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.server_address[1]}/v1")
client = govern(original)
ask = {"model": "gpt-5-mini", "max_completion_tokens": 500}
messages = [{"role": "user", "content": "My lamp arrived broken."}]

with (
    Governor("sqlite://", policy=POLICY) as governor,
    governor.session("ticket-4711", agent="desk") as session,
):
    answer = client.chat.completions.create(messages=messages, **ask)
    messages += run_tools(answer, tools=[refund])
    for chunk in client.chat.completions.create(messages=messages, stream=True, **ask):
        print(chunk.choices[0].delta.content)

    for attempt in (
        lambda: client.chat.completions.create(messages=messages, **{**ask, "model": "gpt-5"}),
        client.batches.list,
    ):
        try:
            attempt()
        except (Denied, Misuse) as refused:
            print(f"! {refused}")

    print(f"{session.state().cost_usd:f} dollars")

original.close()
server.shutdown()
server.server_close()
