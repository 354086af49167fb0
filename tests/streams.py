"""A stream that writes down all it goes through, and its async twin, for the tests of generators."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import anyio.lowlevel


class Answered(Exception):
    """What a consumer throws in."""


class Conversation:
    """A generator's body that writes down all it goes through, and its async twin."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.said: list[object] = []

    def stream(self) -> Generator[object, object, str]:
        """Answer what is sent and thrown; end on `stop`."""
        try:
            heard: object = yield "first"
            while heard != "stop":
                self.said.append(heard)
                try:
                    heard = yield f"heard {heard}"
                except Answered as answer:
                    self.said.append(answer)
                    heard = yield "caught"
        finally:
            self.said.append("finally")
        return "result"

    async def astream(self) -> AsyncGenerator[object, object]:
        """Answer what is sent and thrown; end on `stop`."""
        try:
            heard: object = yield "first"
            while heard != "stop":
                await anyio.lowlevel.checkpoint()
                self.said.append(heard)
                try:
                    heard = yield f"heard {heard}"
                except Answered as answer:
                    self.said.append(answer)
                    heard = yield "caught"
        finally:
            self.said.append("finally")
