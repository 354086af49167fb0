"""Answers that evaluators review: whole or streamed, the caller reads what the review has left, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from interlock import Call, Denied, Misuse, Opinion, Verdict
from interlock.evaluators import Redacted

SECRET = "4111 planted"
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


def read(found: list[Any]) -> str:
    """Return all text of an answer or of the events of a stream."""
    return json.dumps([one.model_dump(mode="json", warnings=False) for one in found])


async def had(made: Any, done: Any, every: Any, *, streamed: bool) -> list[Any]:
    """Return all that a call gives."""
    return await every(made) if streamed else [await done(made)]


class ReviewSuite:
    """
    What holds of every answer.

    Attributes:
        ways: By name, how it is asked for; the name says whether that is a stream.
        unasked: The fields of a stream that are there only because Interlock has asked for them.
    """

    ways: Mapping[str, Any]
    unasked: frozenset[str] = frozenset()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give a test that wants one each way to ask a model."""
        if "way" in metafunc.fixturenames:
            each = [pytest.param(self.ways[name], "stream" in name, id=name) for name in self.ways]
            metafunc.parametrize(("way", "streamed"), each)

    @pytest.mark.promise(1)
    async def test_the_caller_reads_what_is_left(
        self, desk: Any, done: Any, every: Any, way: Any, streamed: bool
    ) -> None:
        """Broken if what a review has taken out reaches the caller, in the text or in the calls of tools."""
        desk.provider.script = [desk.says(text=f"the card is {SECRET}.", calls=CALLS)]
        with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
            text = read(await had(way(desk.client()), done, every, streamed=streamed))
        assert "****" in text
        assert "4111" not in text
        assert "planted" not in text
        assert "****" in json.dumps(Reviewer.seen[-1]) or SECRET in json.dumps(Reviewer.seen[-1])
        assert [one.outcome for one in desk.finished()] == ["returned"]

    @pytest.mark.promise(1)
    async def test_withheld(
        self, desk: Any, done: Any, every: Any, way: Any, streamed: bool
    ) -> None:
        """Broken if an answer that a review withholds reaches the caller, or is not booked."""
        desk.provider.script = [desk.says(text="withhold this")]
        with (
            desk.open(policy=POLICY, evaluators={"cards": Reviewer}),
            pytest.raises(Denied, match="ran and was booked, but its result is withheld"),
        ):
            await had(way(desk.client()), done, every, streamed=streamed)
        assert [one.usage.tokens for one in desk.finished()] == [120]

    async def test_what_nobody_objects_to(
        self, desk: Any, done: Any, every: Any, way: Any, streamed: bool
    ) -> None:
        """Broken if a review that leaves an answer as it is changes it."""
        plain = await had(way(desk.plain()), done, every, streamed=streamed)
        with desk.open(policy=POLICY, evaluators={"cards": Reviewer}):
            governed = await had(way(desk.client()), done, every, streamed=streamed)
        excluded = self.unasked if streamed else frozenset()
        assert [(type(one), one.model_dump(exclude=excluded)) for one in governed] == [
            (type(one), one.model_dump(exclude=excluded)) for one in plain
        ]

    async def test_what_is_left_is_no_answer(
        self, desk: Any, done: Any, every: Any, way: Any, streamed: bool
    ) -> None:
        """Broken if a review that leaves what is no answer breaks the SDK, or shows the answer."""
        desk.provider.script = [desk.says(text="nonsense")]
        with (
            desk.open(policy=POLICY, evaluators={"cards": Reviewer}),
            pytest.raises(Misuse, match="left no answer of the protocol"),
        ):
            await had(way(desk.client()), done, every, streamed=streamed)

    async def test_input_is_judged(self, desk: Any, done: Any) -> None:
        """Broken if what looks at the text that is sent cannot stop it."""
        content = {"argument": "messages.0.content"}
        evaluators = [{"use": "regex", "tools": ["chat"], "with": {**content, "block": ["4111"]}}]
        ask = [{"role": "user", "content": f"my card is {SECRET}"}]
        with desk.open(policy={"evaluators": evaluators}), pytest.raises(Denied):
            await done(desk.create(desk.client(), messages=ask))
        assert desk.provider.received == []
