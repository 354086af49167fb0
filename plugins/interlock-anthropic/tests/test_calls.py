"""Model calls that are not streamed: judged before anything is sent, and booked as they were."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic, AnthropicBedrock
from pydantic import BaseModel

from interlock import (
    BudgetExceeded,
    Usage,
)
from interlock_anthropic import govern
from interlock_anthropic.dialect import DIALECT
from tests.clients.calls import CallSuite

ASK: dict[str, Any] = {
    "model": "m-1",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "hi"}],
}
USED = Usage(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=40,
    cache_write_tokens=10,
    reasoning_tokens=5,
)
FREE = Usage(input_tokens=0, output_tokens=0, cost_usd="0")  # type: ignore[arg-type]
NEVER = {"models": ["m-1"], "verdict": "deny", "reason": "not this one"}


class Word(BaseModel):
    """What a parsed answer is."""

    word: str


# Each: how it is called, what it is judged as, and what is booked.
CALLS: dict[str, Any] = {
    "messages": (lambda c: c.messages.create(**ASK), "chat", USED),
    "parse": (lambda c: c.messages.parse(**ASK), "chat", USED),
    "beta": (lambda c: c.beta.messages.create(**ASK), "chat", USED),
    "raw": (lambda c: c.messages.with_raw_response.create(**ASK), "chat", USED),
    "with options": (lambda c: c.with_options(timeout=9).messages.create(**ASK), "chat", USED),
    "count": (
        lambda c: c.messages.count_tokens(model="m-1", messages=[]),
        "count_tokens",
        FREE,
    ),
    "post": (lambda c: c.post("/v1/messages", body=dict(ASK), cast_to=object), "chat", USED),
}


class TestCalls(CallSuite):
    """What holds of every call."""

    ways = CALLS


@pytest.mark.promise(3)
async def test_what_cannot_be_estimated(desk: Any, done: Any) -> None:
    """Broken if a request whose input is kept at the provider is sent against a budget, or cannot be by any means."""
    budgets = [{"name": "run", "per": "session", "tokens": 4_000}]
    ask = {**ASK, "extra_body": {"thread": {"id": "t-1"}}}
    with desk.open(policy={"budgets": budgets}):
        with pytest.raises(BudgetExceeded, match="is not known"):
            await done(desk.client().messages.create(**ask))
        assert desk.provider.received == []
        await done(desk.client(assume=Usage(input_tokens=1_000)).messages.create(**ask))
    assert 1_200 < desk.decided()[-1].reserved.tokens < 1_240


async def test_what_fails_to_parse_was_paid(desk: Any, done: Any) -> None:
    """Broken if an answer that the SDK cannot make the wanted form of is not booked."""
    with desk.open(), pytest.raises(ValueError, match="Invalid JSON"):
        await done(desk.client().messages.parse(**ASK, output_format=Word))
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("raised", USED)]


def test_other_platforms() -> None:
    """Broken if the package's client of another platform cannot be governed, or is priced as this one."""
    client = govern(AnthropicBedrock(aws_region="r", aws_access_key="k", aws_secret_key="s"))
    assert isinstance(client, AnthropicBedrock)
    assert client._interlock_gate.terms.provider == "aws"
    client.close()


async def test_compressed_answers(desk: Any) -> None:
    """Broken if an answer that came compressed cannot be read any more."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if json.loads(request.content).get("stream"):
            content, kind = (
                b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
                "text/event-stream",
            )
        else:
            content, kind = b'{"content": [], "id": "m-9"}', "application/json"
        headers = {"content-type": kind, "content-encoding": "gzip"}
        return httpx2.Response(200, content=gzip.compress(content), headers=headers)

    transport = httpx2.MockTransport(answer)
    client = govern(
        Anthropic(api_key="k", base_url="http://x", http_client=httpx2.Client(transport=transport))
    )
    with desk.open():
        assert client.messages.create(**ASK).id == "m-9"
        (event,) = client.messages.create(**ASK, stream=True)
        assert event.type == "message_stop"


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        ({}, None),
        ({"usage": None}, None),
        ("text", None),
        ({"usage": {"input_tokens": -1, "output_tokens": 1}}, None),
        ({"usage": {"output_tokens": 1, "output_tokens_details": {"thinking_tokens": 2}}}, None),
        ({"usage": {"input_tokens": 5}}, Usage(input_tokens=5)),
        ({"usage": {"input_tokens": 5, "output_tokens": True}}, Usage(input_tokens=5)),
        (
            {"usage": {"input_tokens": 5, "cache_read_input_tokens": 9}},
            Usage(input_tokens=14, cache_read_tokens=9),
        ),
    ],
    ids=str,
)
def test_usage_that_is_odd(answer: object, used: Usage | None) -> None:
    """Broken if usage that cannot be is booked as true, or what is not said as zero."""
    assert DIALECT.used_by(answer) == used
