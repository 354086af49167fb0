"""Streams: judged before anything is sent, settled however they end."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from interlock import BudgetExceeded, Denied, HaltedError, Usage


class StreamSuite:
    """
    What holds of every stream.

    Attributes:
        streams: By name, how one is had.
    """

    streams: Mapping[str, Any]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give a test that wants one each way to have a stream."""
        if "stream" in metafunc.fixturenames:
            metafunc.parametrize("stream", self.streams.values(), ids=self.streams)

    @pytest.mark.promise(1)
    async def test_denied_stream(self, desk: Any, every: Any, stream: Any) -> None:
        """Broken if a denied stream is sent, or refused only when it is read."""
        with (
            desk.open({"models": ["m-1"], "verdict": "deny"}),
            pytest.raises(Denied),
        ):
            await every(stream(desk.client()))
        assert desk.provider.received == []

    @pytest.mark.promise(3)
    @pytest.mark.parametrize("way", ["left", "forgotten", "context"])
    async def test_abandoned_stream(self, desk: Any, done: Any, within: Any, way: str) -> None:
        """Broken if a stream that is left early holds its reservation for ever, or is free."""
        budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
        held = threading.Event()
        desk.provider.script = [desk.says(waits=held)]
        with desk.open(policy={"budgets": budgets}) as (_, session):
            made = desk.create(desk.client(), stream=True, max_tokens=50)
            stream = await done(made)
            try:
                if way == "context":
                    async with within(stream):
                        await one(stream)
                else:
                    await one(stream)
                    assert session.budgets()[0].reserved.tokens > 50
                if way == "left":
                    await done(stream.close())
                if way == "forgotten":  # the others are closed, and need no collector
                    del stream, made
                    gc.collect()
                await anyio.lowlevel.checkpoint()
                with anyio.fail_after(20):
                    while not desk.finished():  # noqa: ASYNC110 - the collector tells nobody
                        await anyio.sleep(0.01)
            finally:
                held.set()
            (account,) = session.budgets()
        assert (account.reserved.tokens, account.spent.tokens) == (
            0,
            desk.decided()[0].reserved.tokens,
        )
        assert [(one.outcome, one.usage) for one in desk.finished()] == [
            ("abandoned", desk.sdk.begun)
        ]

    async def test_stream_without_usage(self, desk: Any, every: Any) -> None:
        """Broken if a provider that tells no usage makes calls free."""
        desk.provider.script = [desk.says(usage=False)]
        budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
        with desk.open(policy={"budgets": budgets}) as (_, session):
            await every(desk.create(desk.client(), stream=True, max_tokens=50))
            assert session.budgets()[0].spent.tokens == desk.decided()[0].reserved.tokens
        assert [one.usage for one in desk.finished()] == [Usage()]

    @pytest.mark.promise(4)
    async def test_halt_stops_a_stream(self, desk: Any, done: Any, every: Any) -> None:
        """Broken if a stream goes on once its session is halted."""
        held = threading.Event()
        desk.provider.script = [desk.says(waits=held)]
        with desk.open() as (_, session):
            stream = await done(desk.create(desk.client(), stream=True, max_tokens=50))
            await one(stream)
            session.halt(reason="stop", by="ann")
            held.set()
            with pytest.raises(HaltedError, match="stop"):
                await every(stream)
        assert [one.outcome for one in desk.finished()] == ["cancelled"]

    async def test_overrun_is_told_at_the_end(self, desk: Any, every: Any) -> None:
        """Broken if a stream that cost more than was left is booked as if it had not, or nobody is told."""
        budgets = [{"name": "run", "per": "session", "tokens": 100, "on_overrun": "raise"}]
        with (
            desk.open(policy={"budgets": budgets}),
            pytest.raises(BudgetExceeded, match="ran, was booked"),
        ):
            await every(desk.create(desk.client(), stream=True, max_tokens=50))
        assert [one.usage for one in desk.finished()] == [desk.sdk.used]

    async def test_raw_streams(self, desk: Any, within: Any, done: Any, every: Any) -> None:
        """Broken if a stream that is read as bytes, or parsed by the caller, is not booked."""
        with desk.open():
            client = desk.sdk.endpoint(desk.client())
            raw = await done(client.with_raw_response.create(**desk.sdk.body, stream=True))
            assert len(await every(await done(raw.parse()))) == desk.sdk.parts
            async with within(
                client.with_streaming_response.create(**desk.sdk.body, stream=True)
            ) as unread:
                lines = await every(unread.iter_lines())
            assert lines[-2:] == [desk.sdk.last, ""]
        assert [(one.outcome, one.usage) for one in desk.finished()] == [
            ("returned", desk.sdk.used)
        ] * 2


async def one(stream: Any) -> Any:
    """Return the first that a stream gives, of either kind."""
    return await anext(stream) if hasattr(stream, "__anext__") else next(stream)
