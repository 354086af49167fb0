"""Answers that evaluators review: whole or streamed, the caller reads what the review has left, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.reviews import CALLS, POLICY, SECRET, Reviewer, ReviewSuite, had

ASK: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}

WAYS: dict[str, Any] = {
    "chat": lambda c: c.chat.completions.create(**ASK),
    "chat stream": lambda c: c.chat.completions.create(**ASK, stream=True),
    "completions stream": lambda c: c.completions.create(model="m-1", prompt="hi", stream=True),
    "responses": lambda c: c.responses.create(model="m-1", input="hi"),
    "responses stream": lambda c: c.responses.create(model="m-1", input="hi", stream=True),
}


class TestReviews(ReviewSuite):
    """What holds of every answer."""

    unasked = frozenset({"usage"})
    ways = WAYS


async def test_one_form_for_those_who_review(desk: Any, done: Any, every: Any) -> None:
    """Broken if a streamed answer is shown in another form than a whole one."""
    says = desk.says(text="a b", calls=(("1", "look", '{"a": 1}'), ("2", "see", "{}")))
    desk.provider.script = [says, says, says, says]
    Reviewer.seen.clear()
    with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
        client = desk.client()
        for way in ("chat", "chat stream", "responses", "responses stream"):
            await had(WAYS[way](client), done, every, streamed="stream" in way)
    whole, streamed, response, streamed_response = Reviewer.seen
    assert streamed_response == response
    assert streamed["choices"][0].pop("finish_reason") == "tool_calls"
    whole["choices"][0].pop("finish_reason")
    whole["choices"][0].pop("logprobs")
    assert streamed["choices"][0]["message"].pop("content") == "a b "
    assert whole["choices"][0]["message"].pop("content") == "a b"
    assert streamed == whole


@pytest.mark.parametrize("name", ["chat", "responses"])
async def test_helpers_read_what_is_left(desk: Any, within: Any, done: Any, name: str) -> None:
    """Broken if a stream that was written anew is none that the SDK's helpers can read."""
    desk.provider.script = [desk.says(text=f"it is {SECRET}", calls=CALLS)]
    with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
        client = desk.client()
        if name == "chat":
            async with within(client.chat.completions.stream(**ASK)) as stream:
                message = (await done(stream.get_final_completion())).choices[0].message
            text, arguments = message.content, message.tool_calls[0].function.arguments
        else:
            async with within(client.responses.stream(model="m-1", input="hi")) as stream:
                response = await done(stream.get_final_response())
            text, arguments = response.output_text, response.output[1].arguments
    assert (text.strip(), json.loads(arguments)) == ("it is ****", {"card": "****"})
