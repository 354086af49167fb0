"""GovernedClient and query(): runs whose results are charged, and which a halt interrupts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    ResultMessage,
    ToolResultBlock,
    Transport,
    UserMessage,
)
from claude_agent_sdk.types import PermissionMode

from interlock import InterlockError, Misuse
from interlock_claude_agent_sdk.options import GovernedOptions, options_for
from interlock_claude_agent_sdk.run import Run
from interlock_claude_agent_sdk.spending import shared
from interlock_claude_agent_sdk.surfaces import PERMISSION_MODES

GRACE_S = 5.0
"""So long Claude Code may take to obey an interruption, before it is ended."""

log = logging.getLogger("interlock")


class GovernedClient(ClaudeSDKClient):
    """
    The SDK's client, for options that `govern` has made.

    A refused query, a halt, and what cannot be governed are raised from where messages are received. It runs on
    asyncio.
    """

    def __init__(self, options: ClaudeAgentOptions, transport: Transport | None = None) -> None:
        """
        Make a client; nothing is started yet.

        Raises:
            Misuse: *options* are not governed.
        """
        found = options if isinstance(options, GovernedOptions) else None
        if found is None or found.governance is None or found.original is None:
            raise Misuse(
                "these options are not governed: give GovernedClient and query what govern(options) returns, unchanged"
            )
        self._accept = found.governance.accept
        self._run = Run(found.governance, found.original, is_watched=True)
        self._run.on_stop = self._interrupted
        self._is_interrupted = False
        self._stopping: asyncio.Task[None] | None = None
        super().__init__(options_for(self._run, found.governance, found.original), transport)

    async def connect(self, prompt: str | AsyncIterable[dict[str, Any]] | None = None) -> None:
        """
        Do as `ClaudeSDKClient.connect`.

        Raises:
            NotConfigured: there is no session around, and none was given.
        """
        _ = self._run.session
        self._run.is_begun = False
        await super().connect(prompt)

    async def receive_messages(self) -> AsyncIterator[Message]:
        """
        Do as `ClaudeSDKClient.receive_messages`; a result is charged before it is given.

        Raises:
            Refused: the query was not asked; or the result is withheld, or the session was halted meanwhile.
            Undecided: the query could not be judged.
            Ungoverned: the run met what cannot be governed, and was stopped.
        """
        try:
            async for message in super().receive_messages():
                yield await self._seen(message)
        except InterlockError:
            raise
        except Exception:
            if self._run.stopped is not None:  # Claude Code was interrupted because of it
                raise self._run.stopped from None
            raise

    async def set_model(self, model: str | None = None) -> None:
        """
        Do as `ClaudeSDKClient.set_model`; the next query is judged as one to *model*.

        Raises:
            Misuse: no model is named.
        """
        if model is None and "model" not in self._accept:
            raise Misuse("name a model, or which one answers cannot be judged")
        await super().set_model(model)
        self._run.model = model or "default"

    async def set_permission_mode(self, mode: PermissionMode) -> None:
        """
        Do as `ClaudeSDKClient.set_permission_mode`.

        Raises:
            Misuse: in that mode calls are not asked about as Interlock knows it, and it is not accepted.
        """
        if mode not in PERMISSION_MODES and f"permission_mode:{mode}" not in self._accept:
            raise Misuse(f"permission_mode {mode} cannot be governed; nothing was changed")
        await super().set_permission_mode(mode)

    async def interrupt(self) -> None:
        """Do as `ClaudeSDKClient.interrupt`; what it breaks off is booked as cancelled."""
        self._is_interrupted = True
        await super().interrupt()

    async def disconnect(self) -> None:
        """Do as `ClaudeSDKClient.disconnect`; what runs is interrupted first, and booked as cancelled."""
        with anyio.CancelScope(shield=True):
            try:
                if self._run.is_busy:
                    await self._interrupt()
                await super().disconnect()
            finally:
                await self._run.break_off()
                for query in self._run.spending.take():
                    await query.cancel()
                if self._stopping is not None and self._stopping is not asyncio.current_task():
                    self._stopping.cancel()

    async def _seen(self, message: Message) -> Message:
        if isinstance(message, ResultMessage):
            return await self._charged(message)
        if isinstance(message, UserMessage) and isinstance(message.content, list):
            for block in message.content:
                if isinstance(block, ToolResultBlock):
                    await self._run.settled_otherwise(
                        block.tool_use_id, str(block.content), failed=not self._is_interrupted
                    )
        return message

    async def _charged(self, message: ResultMessage) -> Message:
        """Charge what a result says, settle its query, and return it with what a review has left of the answer."""
        run, self._is_interrupted = self._run, False
        queries = run.spending.take()
        # Nobody to charge it to: what the next result says is then more by that.
        used = run.spending.used(message) if queries else {}
        if message.is_error or (message.terminal_reason or "").startswith("aborted"):
            await run.break_off()
        error: InterlockError | None = None
        for at, (query, usage) in enumerate(zip(queries, shared(queries, used), strict=True)):
            try:
                if run.stopped is not None or run.refused is not None:
                    await query.cancel(usage)
                elif message.is_error:
                    await query.raised(message.subtype, usage)
                else:
                    left = await query.returned(message.result if at == 0 else None, usage)
                    if at == 0 and left != message.result:
                        message = replace(message, result=left)
            except InterlockError as raised:
                error = error or raised
        if used:
            await run.noted(message, used)
        refused, run.refused = run.refused, None
        for one in (run.stopped, refused, error):
            if one is not None:
                raise one
        return message

    def _interrupted(self) -> None:
        """Interrupt Claude Code, and end it should it not obey."""
        self._stopping = asyncio.get_running_loop().create_task(self._interrupt())

    async def _interrupt(self) -> None:
        """Interrupt Claude Code, and end it should it not obey; what fails otherwise is that it has gone already."""
        with suppress(Exception):
            try:
                with anyio.fail_after(GRACE_S):
                    await self.interrupt()
            except TimeoutError:
                log.error("Claude Code did not obey an interruption, so it is ended")  # noqa: TRY400
                await super().disconnect()


async def query(
    *,
    prompt: str | AsyncIterable[dict[str, Any]],
    options: ClaudeAgentOptions,
    transport: Transport | None = None,
) -> AsyncIterator[Message]:
    """
    Do as `claude_agent_sdk.query`, with options that `govern` has made.

    Raises:
        Refused, Undecided, Ungoverned: as `GovernedClient.receive_messages`.
        Misuse: *options* are not governed, or there is no session.
    """
    client = GovernedClient(options, transport)
    try:
        await client.connect(_prompts(prompt))
        async for message in client.receive_messages():
            yield message
    finally:
        await client.disconnect()


async def _prompts(prompt: str | AsyncIterable[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    if isinstance(prompt, str):
        yield {
            "type": "user",
            "session_id": "",
            "message": {"role": "user", "content": prompt},
            "parent_tool_use_id": None,
        }
        return
    async for one in prompt:
        yield one
