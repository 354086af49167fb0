"""Answers that evaluators review: whole or streamed, the caller reads what the review has left, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from interlock import Call, Denied, Misuse, Opinion, Verdict
from interlock.evaluators import Redacted

SECRET = "4111 planted"
ASK: dict[str, Any] = {
    "model": "m-1",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}
POLICY = {"evaluators": [{"use": "cards", "tools": ["*"]}]}
CALLS = (("1", "look", json.dumps({"card": SECRET})),)


class Config(BaseModel):
    """Nothing to configure."""


class Reviewer:
    """Takes the secret out wherever it is; withholds an answer that says so; leaves nonsense on request."""

    Config = Config
    stage = "after"
    seen: list[Any] = []  # noqa: RUF012 - what the class has seen, for the test

    def __init__(self, config: Config) -> None:
        """Begin."""

    async def review(self, call: Call, result: Any) -> Opinion | Redacted | None:
        """Look for the secret."""
        text = json.dumps(result)
        self.seen.append(result)
        if "withhold" in text:
            return Opinion(verdict=Verdict.DENY, reason="a card number", author="me")
        if "nonsense" in text:
            return Redacted(result=7, reason="nonsense")
        if SECRET in text:
            return Redacted(result=json.loads(text.replace(SECRET, "****")), reason="1 number")
        return None


WAYS: dict[str, Any] = {
    "messages": lambda c: c.messages.create(**ASK),
    "messages stream": lambda c: c.messages.create(**ASK, stream=True),
    "beta": lambda c: c.beta.messages.create(**ASK),
    "beta stream": lambda c: c.beta.messages.create(**ASK, stream=True),
}


def read(found: list[Any]) -> str:
    """Return all text of an answer or of the events of a stream."""
    return json.dumps([one.model_dump(mode="json", warnings=False) for one in found])


async def had(made: Any, done: Any, every: Any, *, streamed: bool) -> list[Any]:
    """Return all that a call gives."""
    return await every(made) if streamed else [await done(made)]


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", WAYS)
async def test_the_caller_reads_what_is_left(desk: Any, done: Any, every: Any, way: str) -> None:
    """Broken if what a review has taken out reaches the caller, in the text or in the calls of tools."""
    streamed = "stream" in way
    desk.provider.script = [desk.says(text=f"the card is {SECRET}.", calls=CALLS)]
    with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
        text = read(await had(WAYS[way](desk.client()), done, every, streamed=streamed))
    assert "****" in text
    assert "4111" not in text
    assert "planted" not in text
    assert "****" in json.dumps(Reviewer.seen[-1]) or SECRET in json.dumps(Reviewer.seen[-1])
    assert [one.outcome for one in desk.finished()] == ["returned"]


@pytest.mark.promise(1)
@pytest.mark.parametrize("way", WAYS)
async def test_withheld(desk: Any, done: Any, every: Any, way: str) -> None:
    """Broken if an answer that a review withholds reaches the caller, or is not booked."""
    desk.provider.script = [desk.says(text="withhold this")]
    with (
        desk.open(policy=POLICY, evaluators={"cards": Reviewer}),
        pytest.raises(Denied, match="ran and was booked, but its result is withheld"),
    ):
        await had(WAYS[way](desk.client()), done, every, streamed="stream" in way)
    assert [one.usage.tokens for one in desk.finished()] == [120]


@pytest.mark.parametrize("way", WAYS)
async def test_what_nobody_objects_to(desk: Any, done: Any, every: Any, way: str) -> None:
    """Broken if a review that leaves an answer as it is changes it."""
    streamed = "stream" in way
    plain = await had(WAYS[way](desk.plain()), done, every, streamed=streamed)
    with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
        governed = await had(WAYS[way](desk.client()), done, every, streamed=streamed)
    assert governed == plain


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


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_left_is_no_answer(desk: Any, done: Any, every: Any, way: str) -> None:
    """Broken if a review that leaves what is no answer breaks the SDK, or shows the answer."""
    desk.provider.script = [desk.says(text="nonsense")]
    with (
        desk.open(policy=POLICY, evaluators={"cards": Reviewer}),
        pytest.raises(Misuse, match="left no answer of the protocol"),
    ):
        await had(WAYS[way](desk.client()), done, every, streamed="stream" in way)


async def test_input_is_judged(desk: Any, done: Any) -> None:
    """Broken if what looks at the text that is sent cannot stop it."""
    content = {"argument": "messages.0.content"}
    evaluators = [{"use": "regex", "tools": ["chat"], "with": {**content, "block": ["4111"]}}]
    ask = {**ASK, "messages": [{"role": "user", "content": f"my card is {SECRET}"}]}
    with desk.open(policy={"evaluators": evaluators}), pytest.raises(Denied):
        await done(desk.client().messages.create(**ask))
    assert desk.provider.received == []
