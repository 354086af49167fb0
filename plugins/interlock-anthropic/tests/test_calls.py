"""Model calls that are not streamed: judged before anything is sent, and booked as they were."""

from __future__ import annotations

import gzip
import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AnthropicBedrock
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
from interlock_anthropic import govern
from interlock_anthropic.answer import used_by

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
        await done(client.messages.create(**ASK))
    other = desk.keep(type(client)(api_key="k", base_url=desk.provider.url))
    with desk.open(), pytest.raises(Misuse, match="not made by govern"):
        await done(other.messages.create(**ASK))
    assert desk.provider.received == []


async def test_session_that_is_given(desk: Any, done: Any) -> None:
    """Broken if a client is not bound to the session that it was given."""
    with desk.open() as (governor, session):
        with governor.session("other", agent="desk"):
            await done(desk.client(session=session).messages.create(**ASK))
        assert [one.session_id for one in desk.recorder.recorded if one.kind == "call_decided"] == [
            session.id
        ]


@pytest.mark.promise(3)
async def test_budget(desk: Any, done: Any) -> None:
    """Broken if a call is not reserved at its estimate, sent without room for it, or charged anything but the truth."""
    budgets = [{"name": "run", "per": "session", "tokens": 400}]
    with desk.open(policy={"budgets": budgets}) as (_, session):
        client = desk.client()
        await done(client.messages.create(**ASK))
        (account,) = session.budgets()
        assert (account.spent.tokens, account.reserved.tokens) == (120, 0)
        reserved = desk.decided()[0].reserved.tokens
        assert 200 < reserved < 230
        with pytest.raises(BudgetExceeded):
            await done(client.messages.create(**{**ASK, "max_tokens": 300}))
    assert len(desk.provider.received) == 1


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


async def test_price_and_provider(desk: Any, done: Any) -> None:
    """Broken if what a call costs is not booked, or not by its provider's list of prices."""
    with desk.open():
        await done(desk.client().messages.create(**{**ASK, "model": "claude-haiku-4-5"}))
    (finished,) = desk.finished()
    assert finished.cost_usd > 0
    assert finished.priced_by.startswith("genai-prices")


async def test_model_access(desk: Any, done: Any) -> None:
    """Broken if a session may use a model that its organisation may not."""
    models = {"tiers": {"m-1": "premium"}, "access": [{"tier": "premium", "orgs": ["acme"]}]}
    with desk.open(policy={"models": models}), pytest.raises(Denied):
        await done(desk.client().messages.create(**ASK))
    assert desk.provider.received == []


async def test_arguments_are_judged(desk: Any, done: Any) -> None:
    """Broken if a rule cannot look at what is sent, or sees less of it than the provider."""
    long = {"argument": "max_tokens", "at_least": 100}
    with desk.open({"tools": ["chat"], "when": long, "verdict": "deny"}):
        client = desk.client()
        await done(client.messages.create(**{**ASK, "max_tokens": 9}))
        with pytest.raises(Denied):
            await done(client.messages.create(**{**ASK, "max_tokens": 100}))
        with pytest.raises(Denied):
            await done(
                client.messages.create(**{**ASK, "max_tokens": 9}, extra_body={"max_tokens": 100})
            )
    assert [body["max_tokens"] for body in desk.provider.bodies] == [9]


async def test_secrets_are_not_recorded(desk: Any, done: Any) -> None:
    """Broken if a field that was declared secret is stored, or is not sent."""
    with desk.open():
        await done(desk.client(secrets=["messages"]).messages.create(**ASK))
    assert "hi" in json.dumps(desk.provider.bodies)
    assert [json.loads(one.arguments)["messages"] for one in desk.decided()] == [{"$secret": True}]


@pytest.mark.promise(5)
async def test_a_person_approves_and_edits(desk: Any, done: Any) -> None:
    """Broken if a request that waits is sent, or what an approver has written is not what is sent."""
    with desk.open({"tools": ["chat"], "verdict": "ask", "approvers": ["ann"]}) as (governor, _):
        client = desk.client()
        with pytest.raises(ApprovalNeeded) as asked:
            await done(client.messages.create(**{**ASK, "max_tokens": 900}))
        assert desk.provider.received == []
        governor.write(
            tickets.approve, asked.value.ticket.id, by="ann", arguments={"max_tokens": 9}
        )
        await done(client.messages.create(**{**ASK, "max_tokens": 900}))
    assert [body["max_tokens"] for body in desk.provider.bodies] == [9]


@pytest.mark.promise(4)
async def test_halt(desk: Any, done: Any) -> None:
    """Broken if a halted session asks a model."""
    with desk.open() as (_, session):
        session.halt(reason="stop", by="ann")
        with pytest.raises(HaltedError):
            await done(desk.client().messages.create(**ASK))
    assert desk.provider.received == []


async def test_retries_are_one_call(desk: Any, done: Any) -> None:
    """Broken if an attempt that the SDK repeats is judged or booked twice, or the last error is not the SDK's own."""
    desk.provider.script = [desk.says(status=529), desk.says(status=529), desk.says()]
    with desk.open():
        client = desk.client().with_options(max_retries=2)
        await done(client.messages.create(**ASK, extra_headers={"x-stainless-retry": "1"}))
        desk.provider.script = [desk.says(status=400)]
        with pytest.raises(anthropic.BadRequestError):
            await done(client.messages.create(**ASK))
    assert len(desk.provider.received) == 4
    assert desk.finished()[0].usage == USED
    assert desk.outcomes() == [("chat", "returned"), ("chat", "raised")]
    assert desk.finished()[1].error_type == "BadRequestError"


async def test_what_fails_to_parse_was_paid(desk: Any, done: Any) -> None:
    """Broken if an answer that the SDK cannot make the wanted form of is not booked."""
    with desk.open(), pytest.raises(ValueError, match="Invalid JSON"):
        await done(desk.client().messages.parse(**ASK, output_format=Word))
    assert [(one.outcome, one.usage) for one in desk.finished()] == [("raised", USED)]


async def test_dry_run(desk: Any, done: Any) -> None:
    """Broken if a dry run asks a model, or a caller is given nothing for an answer."""
    with desk.open(dry_run=True):
        with pytest.raises(Misuse, match="dry run"):
            await done(desk.client().messages.create(**ASK))
        with pytest.raises(Misuse, match="dry run"):
            await done(desk.client().messages.create(**ASK, stream=True))
    assert desk.provider.received == []


async def test_unread_responses(desk: Any, within: Any, done: Any) -> None:
    """Broken if an answer that a caller reads by itself is not booked, or is not the provider's."""
    with desk.open():
        made = desk.client().messages.with_streaming_response.create(**ASK)
        async with within(made) as response:
            text = await done(response.text())
            parsed = await done(response.parse())
    assert json.loads(text)["id"] == parsed.id == "m-1"
    assert [one.usage for one in desk.finished()] == [USED]


async def test_the_original_stays_as_it_is(desk: Any) -> None:
    """Broken if the client that was given is changed, or one is governed twice."""
    plain = desk.plain()
    before = plain.messages
    client = govern(plain)
    assert type(plain).__mro__ != type(client).__mro__
    assert isinstance(client, type(plain))
    assert plain.messages is before
    assert client.messages is not before
    for again in (client, client.with_options(timeout=1)):
        with pytest.raises(Misuse, match="governed already"):
            govern(again)
    with pytest.raises(Misuse, match="a str cannot be governed"):
        govern("client")  # type: ignore[type-var]
    with pytest.raises(Misuse, match="lists of names"):
        govern(plain, accepted="files")


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
    assert used_by(answer) == used
