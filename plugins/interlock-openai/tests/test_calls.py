"""Model calls that are not streamed: judged before anything is sent, and booked as they were."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

from interlock import (
    ApprovalNeeded,
    BudgetExceeded,
    Denied,
    HaltedError,
    Misuse,
    Usage,
)
from interlock.errors import NotConfigured
from interlock.store import tickets
from interlock_openai import govern
from interlock_openai.answer import used_by

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


@pytest.mark.parametrize("way", CALLS)
async def test_it_is_judged_and_booked(desk: Any, done: Any, way: str) -> None:
    """Broken if a way to ask a model is not recorded, or its usage not booked, or the answer another one."""
    call, name, used = CALLS[way]
    plain = await done(call(desk.plain()))
    with desk.open():
        governed = await done(call(desk.client()))
    assert type(governed) is type(plain)
    if isinstance(governed, BaseModel):
        assert governed == plain
    assert [(one.tool, one.tool_kind, one.model) for one in desk.decided()] == [
        (name, "model", "m-1")
    ]
    assert [(one.tool, one.outcome, one.usage) for one in desk.finished()] == [
        (name, "returned", used)
    ]
    assert desk.provider.bodies[0] == desk.provider.bodies[1]


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", CALLS)
async def test_what_is_denied_is_not_sent(desk: Any, done: Any, way: str) -> None:
    """Broken if a request leaves that the policy denies."""
    with desk.open(NEVER), pytest.raises(Denied, match="not this one"):
        await done(CALLS[way][0](desk.client()))
    assert desk.provider.received == []
    assert [one.admitted for one in desk.decided()] == [False]


@pytest.mark.promise(1)
async def test_without_a_session_nothing_is_sent(desk: Any, done: Any) -> None:
    """Broken if a governed client works where nobody governs."""
    client = desk.client()
    with pytest.raises(NotConfigured, match="outside any session"):
        await done(client.chat.completions.create(**ASK))
    other = desk.keep(type(client)(api_key="k", base_url=desk.provider.url))
    with desk.open(), pytest.raises(Misuse, match="not made by govern"):
        await done(other.chat.completions.create(**ASK))
    assert desk.provider.received == []


async def test_session_that_is_given(desk: Any, done: Any) -> None:
    """Broken if a client is not bound to the session that it was given."""
    with desk.open() as (governor, session):
        with governor.session("other", agent="desk"):
            await done(desk.client(session=session).chat.completions.create(**ASK))
        assert [one.session_id for one in desk.recorder.recorded if one.kind == "call_decided"] == [
            session.id
        ]


@pytest.mark.promise(3)
async def test_budget(desk: Any, done: Any) -> None:
    """Broken if a call is not reserved at its estimate, sent without room for it, or charged anything but the truth."""
    budgets = [{"name": "run", "per": "session", "tokens": 400}]
    ask = {**ASK, "max_completion_tokens": 200}
    with desk.open(policy={"budgets": budgets}) as (_, session):
        client = desk.client()
        await done(client.chat.completions.create(**ask))
        (account,) = session.budgets()
        assert (account.spent.tokens, account.reserved.tokens) == (120, 0)
        reserved = desk.decided()[0].reserved.tokens
        assert 200 < reserved < 230
        with pytest.raises(BudgetExceeded):
            await done(client.chat.completions.create(**{**ask, "max_completion_tokens": 300}))
    assert len(desk.provider.received) == 1


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


async def test_price_and_provider(desk: Any, done: Any) -> None:
    """Broken if what a call costs is not booked, or not by its provider's list of prices."""
    with desk.open():
        await done(desk.client().chat.completions.create(**{**ASK, "model": "gpt-4o-mini"}))
    (finished,) = desk.finished()
    assert finished.cost_usd > 0
    assert finished.priced_by.startswith("genai-prices")


async def test_model_access(desk: Any, done: Any) -> None:
    """Broken if a session may use a model that its organisation may not."""
    models = {"tiers": {"m-1": "premium"}, "access": [{"tier": "premium", "orgs": ["acme"]}]}
    with desk.open(policy={"models": models}), pytest.raises(Denied):
        await done(desk.client().chat.completions.create(**ASK))
    assert desk.provider.received == []


async def test_arguments_are_judged(desk: Any, done: Any) -> None:
    """Broken if a rule cannot look at what is sent, or sees less of it than the provider."""
    long = {"argument": "max_tokens", "at_least": 100}
    with desk.open({"tools": ["chat"], "when": long, "verdict": "deny"}):
        client = desk.client()
        await done(client.chat.completions.create(**ASK, max_tokens=9))
        with pytest.raises(Denied):
            await done(client.chat.completions.create(**ASK, max_tokens=100))
        with pytest.raises(Denied):
            await done(client.chat.completions.create(**ASK, extra_body={"max_tokens": 100}))
    assert [body["max_tokens"] for body in desk.provider.bodies] == [9]


async def test_secrets_are_not_recorded(desk: Any, done: Any) -> None:
    """Broken if a field that was declared secret is stored, or is not sent."""
    with desk.open():
        await done(desk.client(secrets=["messages"]).chat.completions.create(**ASK))
    assert "hi" in json.dumps(desk.provider.bodies)
    assert [json.loads(one.arguments)["messages"] for one in desk.decided()] == [{"$secret": True}]


@pytest.mark.promise(5)
async def test_a_person_approves_and_edits(desk: Any, done: Any) -> None:
    """Broken if a request that waits is sent, or what an approver has written is not what is sent."""
    with desk.open({"tools": ["chat"], "verdict": "ask", "approvers": ["ann"]}) as (governor, _):
        client = desk.client()
        with pytest.raises(ApprovalNeeded) as asked:
            await done(client.chat.completions.create(**ASK, max_tokens=900))
        assert desk.provider.received == []
        governor.write(
            tickets.approve, asked.value.ticket.id, by="ann", arguments={"max_tokens": 9}
        )
        await done(client.chat.completions.create(**ASK, max_tokens=900))
    assert [body["max_tokens"] for body in desk.provider.bodies] == [9]


@pytest.mark.promise(4)
async def test_halt(desk: Any, done: Any) -> None:
    """Broken if a halted session asks a model."""
    with desk.open() as (_, session):
        session.halt(reason="stop", by="ann")
        with pytest.raises(HaltedError):
            await done(desk.client().chat.completions.create(**ASK))
    assert desk.provider.received == []


async def test_retries_are_one_call(desk: Any, done: Any) -> None:
    """Broken if an attempt that the SDK repeats is judged or booked twice, or the last error is not the SDK's own."""
    desk.provider.script = [desk.says(status=503), desk.says(status=503), desk.says()]
    with desk.open():
        client = desk.client().with_options(max_retries=2)
        await done(client.chat.completions.create(**ASK, extra_headers={"x-stainless-retry": "1"}))
        desk.provider.script = [desk.says(status=400)]
        with pytest.raises(openai.BadRequestError):
            await done(client.chat.completions.create(**ASK))
    assert len(desk.provider.received) == 4
    assert desk.finished()[0].usage == CHAT
    assert desk.outcomes() == [("chat", "returned"), ("chat", "raised")]
    assert desk.finished()[1].error_type == "BadRequestError"


async def test_what_fails_to_parse_was_paid(desk: Any, done: Any) -> None:
    """Broken if an answer that the SDK cannot make the wanted form of is not booked."""
    with desk.open(), pytest.raises(ValueError, match="Invalid JSON"):
        await done(desk.client().chat.completions.parse(**ASK, response_format=Word))
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("raised", CHAT)]


async def test_dry_run(desk: Any, done: Any) -> None:
    """Broken if a dry run asks a model, or a caller is given nothing for an answer."""
    with desk.open(dry_run=True):
        with pytest.raises(Misuse, match="dry run"):
            await done(desk.client().chat.completions.create(**ASK))
        with pytest.raises(Misuse, match="dry run"):
            await done(desk.client().chat.completions.create(**ASK, stream=True))
    assert desk.provider.received == []


async def test_unread_responses(desk: Any, within: Any, done: Any) -> None:
    """Broken if an answer that a caller reads by itself is not booked, or is not the provider's."""
    with desk.open():
        made = desk.client().chat.completions.with_streaming_response.create(**ASK)
        async with within(made) as response:
            text = await done(response.text())
            parsed = await done(response.parse())
    assert json.loads(text)["id"] == parsed.id == "c-1"
    assert [one.usage for one in desk.finished()] == [CHAT]


async def test_the_original_stays_as_it_is(desk: Any) -> None:
    """Broken if the client that was given is changed, or one is governed twice."""
    plain = desk.plain()
    before = plain.chat.completions
    client = govern(plain)
    assert type(plain).__mro__ != type(client).__mro__
    assert isinstance(client, type(plain))
    assert plain.chat.completions is before
    assert client.chat.completions is not before
    for again in (client, client.with_options(timeout=1)):
        with pytest.raises(Misuse, match="governed already"):
            govern(again)
    with pytest.raises(Misuse, match="a str cannot be governed"):
        govern("client")  # type: ignore[type-var]
    with pytest.raises(Misuse, match="lists of names"):
        govern(plain, accepted="files")


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
    assert used_by(answer) == used
