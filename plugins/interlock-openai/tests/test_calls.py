"""Model calls that are not streamed: judged before anything is sent, and booked as they were."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

from interlock import (
    BudgetExceeded,
    Usage,
)
from interlock_openai import govern
from interlock_openai.dialect import DIALECT
from tests.clients.calls import CallSuite

ASK: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
CHAT = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40, reasoning_tokens=5)
RESPONSE = Usage(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=40,
    cache_write_tokens=10,
    reasoning_tokens=5,
)
NEVER = {"models": ["m-1"], "verdict": "deny", "reason": "not this one"}


class Word(BaseModel):
    """What a parsed answer is."""

    word: str


# Each: how it is called, what it is judged as, and what is booked.
CALLS: dict[str, Any] = {
    "chat": (lambda c: c.chat.completions.create(**ASK), "chat", CHAT),
    "chat parse": (lambda c: c.chat.completions.parse(**ASK), "chat", CHAT),
    "chat raw": (lambda c: c.chat.completions.with_raw_response.create(**ASK), "chat", CHAT),
    "chat with options": (
        lambda c: c.with_options(timeout=9).chat.completions.create(**ASK),
        "chat",
        CHAT,
    ),
    "responses": (lambda c: c.responses.create(model="m-1", input="hi"), "chat", RESPONSE),
    "responses parse": (lambda c: c.responses.parse(model="m-1", input="hi"), "chat", RESPONSE),
    "responses compact": (lambda c: c.responses.compact(model="m-1", input="hi"), "chat", RESPONSE),
    "embeddings": (
        lambda c: c.embeddings.create(model="m-1", input="hi", encoding_format="float"),
        "embeddings",
        Usage(input_tokens=7, output_tokens=0),
    ),
    "completions": (
        lambda c: c.completions.create(model="m-1", prompt="hi"),
        "text_completion",
        CHAT,
    ),
    "count": (
        lambda c: c.responses.input_tokens.count(model="m-1", input="hi"),
        "count_tokens",
        Usage(input_tokens=0, output_tokens=0, cost_usd="0"),  # type: ignore[arg-type]
    ),
    "moderation": (
        lambda c: c.moderations.create(model="m-1", input="hi"),
        "moderation",
        Usage(input_tokens=0, output_tokens=0, cost_usd="0"),  # type: ignore[arg-type]
    ),
    "post": (
        lambda c: c.post("/chat/completions", body=dict(ASK), cast_to=object),
        "chat",
        CHAT,
    ),
}


class TestCalls(CallSuite):
    """What holds of every call."""

    ways = CALLS


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.chat.completions.create(**ASK),
        lambda c: c.responses.create(
            model="m-1", input="hi", max_output_tokens=5, previous_response_id="r-0"
        ),
    ],
    ids=["output", "input"],
)
async def test_what_cannot_be_estimated(desk: Any, done: Any, ask: Any) -> None:
    """Broken if a request of unknown size is sent against a budget, or cannot be sent by any means."""
    budgets = [{"name": "run", "per": "session", "tokens": 4_000}]
    with desk.open(policy={"budgets": budgets}):
        with pytest.raises(BudgetExceeded, match="is not known"):
            await done(ask(desk.client()))
        assert desk.provider.received == []
        assume = Usage(input_tokens=1_000, output_tokens=1_000)
        await done(ask(desk.client(assume=assume)))
    assert 1_000 < desk.decided()[-1].reserved.tokens < 1_040


async def test_what_fails_to_parse_was_paid(desk: Any, done: Any) -> None:
    """Broken if an answer that the SDK cannot make the wanted form of is not booked."""
    with desk.open(), pytest.raises(ValueError, match="Invalid JSON"):
        await done(desk.client().chat.completions.parse(**ASK, response_format=Word))
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("raised", CHAT)]


@pytest.mark.parametrize("kind", [AzureOpenAI, AsyncAzureOpenAI])
async def test_azure(kind: Any, desk: Any, done: Any) -> None:
    """Broken if a client of Azure's, which writes paths of its own, is not governed or does not work."""
    url = desk.provider.url.removesuffix("/v1")
    plain = desk.keep(kind(api_key="k", azure_endpoint=url, api_version="1"))
    with desk.open():
        client = govern(plain).with_options(max_retries=0)
        answer = await done(client.chat.completions.create(**ASK))
    assert answer.id == "x"  # what the provider answers where it does not know a path
    assert [(one.tool, one.model) for one in desk.decided()] == [("chat", "m-1")]
    assert desk.provider.received[0][1].startswith("/openai/deployments/m-1/chat/completions")


async def test_compressed_answers(desk: Any) -> None:
    """Broken if an answer that came compressed cannot be read any more."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if json.loads(request.content).get("stream"):
            content, kind = (
                b'data: {"choices": [], "n": 1}\n\ndata: [DONE]\n\n',
                "text/event-stream",
            )
        else:
            content, kind = b'{"choices": [], "n": 1}', "application/json"
        headers = {"content-type": kind, "content-encoding": "gzip"}
        return httpx2.Response(200, content=gzip.compress(content), headers=headers)

    transport = httpx2.MockTransport(answer)
    client = govern(
        OpenAI(api_key="k", base_url="http://x/v1", http_client=httpx2.Client(transport=transport))
    )
    with desk.open():
        assert client.chat.completions.create(**ASK).model_extra == {"n": 1}
        (chunk,) = client.chat.completions.create(**ASK, stream=True)
        assert chunk.model_extra == {"n": 1}


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        ({}, None),
        ({"usage": None}, None),
        ("text", None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 1}}, None),
        (
            {"usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}},
            None,
        ),
        ({"usage": {"prompt_tokens": 5}}, Usage(input_tokens=5)),
        ({"usage": {"input_tokens": 5, "output_tokens": True}}, Usage(input_tokens=5)),
    ],
    ids=str,
)
def test_usage_that_is_odd(answer: object, used: Usage | None) -> None:
    """Broken if usage that cannot be is booked as true, or what is not said as zero."""
    assert DIALECT.used_by(answer) == used
