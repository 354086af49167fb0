"""Answers that evaluators review: whole or streamed, the caller reads what the review has left, and nothing else."""

from __future__ import annotations

from typing import Any

from tests.clients.reviews import CALLS, POLICY, SECRET, Reviewer, ReviewSuite, had

ASK: dict[str, Any] = {
    "model": "m-1",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}

WAYS: dict[str, Any] = {
    "messages": lambda c: c.messages.create(**ASK),
    "messages stream": lambda c: c.messages.create(**ASK, stream=True),
    "beta": lambda c: c.beta.messages.create(**ASK),
    "beta stream": lambda c: c.beta.messages.create(**ASK, stream=True),
}


class TestReviews(ReviewSuite):
    """What holds of every answer."""

    ways = WAYS


async def test_one_form_for_those_who_review(desk: Any, done: Any, every: Any) -> None:
    """Broken if a streamed answer is shown in another form than a whole one."""
    says = desk.says(text="a b", calls=(("1", "look", '{"a": 1}'), ("2", "see", "{}")))
    desk.provider.script = [says, says]
    Reviewer.seen.clear()
    with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
        client = desk.client()
        for way in ("messages", "messages stream"):
            await had(WAYS[way](client), done, every, streamed="stream" in way)
    whole, streamed = Reviewer.seen
    assert streamed["content"][0].pop("text") == "a b "
    assert whole["content"][0].pop("text") == "a b"
    assert streamed == whole


async def test_helpers_read_what_is_left(desk: Any, within: Any, done: Any) -> None:
    """Broken if a stream that was written anew is none that the SDK's helpers can read."""
    desk.provider.script = [desk.says(text=f"it is {SECRET}", calls=CALLS)]
    with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
        async with within(desk.client().messages.stream(**ASK)) as stream:
            message = await done(stream.get_final_message())
    assert message.content[0].text.strip() == "it is ****"
    assert message.content[1].input == {"card": "****"}
    assert (message.stop_reason, message.usage.output_tokens) == ("tool_use", 20)
