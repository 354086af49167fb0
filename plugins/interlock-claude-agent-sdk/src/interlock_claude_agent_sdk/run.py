"""
Run: one connection to Claude Code, and the places in it where Interlock stands.

In flow the questions and reports of Claude Code; out flow its own forms of yes, no, and other results. Nothing is
decided here: `Session.acall` decides. Claude Code asks twice about each tool use: the hook `PreToolUse` only says that
the permission callback is to be asked, and that one, which is given the final arguments, has the call judged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from claude_agent_sdk import (
    ClaudeAgentOptions,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
    ToolPermissionContext,
)

from interlock import (
    ApprovalNeeded,
    HaltedError,
    InterlockError,
    Session,
    Tool,
    Usage,
    current_session,
)
from interlock_claude_agent_sdk.ongoing import NotRun, Ongoing
from interlock_claude_agent_sdk.refusals import Ungoverned, text
from interlock_claude_agent_sdk.results import Hook, Output, Results, said
from interlock_claude_agent_sdk.spending import Query, Spending, spent_before
from interlock_claude_agent_sdk.surfaces import SUBAGENTS, Names

HOOKS = (
    "PostToolBatch",
    "PostToolUse",
    "PostToolUseFailure",
    "PreToolUse",
    "Stop",
    "UserPromptSubmit",
)
"""The events that are listened to."""

TIMEOUT_S = 86_400
"""So long Claude Code waits for a hook. Where the host has calls wait for a person, a query waits in one."""

log = logging.getLogger("interlock")


class Governance(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the host has said to `govern`.

    Attributes:
        session: In which calls are made; None: in the one that is current when the run begins.
        tools: Declarations of tools.
        accept: What may run ungoverned.
        estimate: What one query will use at most; None: that is not known.
        stop_to_ask: Whether the run ends where a person must be asked, instead of going on without the call.
    """

    session: Session | None = None
    tools: tuple[Tool, ...] = ()
    accept: frozenset[str] = frozenset()
    estimate: Usage | None = None
    stop_to_ask: bool = False


class Run:
    """
    What Interlock knows of one run.

    Attributes:
        session: In which its calls are made.
        model: Which model is asked next.
        refused: Why its last query was not asked; None: it was.
        stopped: What has stopped it; None: nothing.
        on_stop: Is called once, when it is stopped.
        is_watched: Whether its messages are seen, and it can be interrupted.
        is_begun: Whether what its conversation had used before is known.
    """

    def __init__(
        self, governance: Governance, options: ClaudeAgentOptions, *, is_watched: bool
    ) -> None:
        """Stand ready for a run with the host's own *options*."""
        self.governance = governance
        self.model = str(options.model or "default")
        self.is_watched = is_watched
        self.refused: InterlockError | None = None
        self.stopped: InterlockError | None = None
        self.on_stop: Callable[[], None] | None = None
        self._session = governance.session
        self._own = options.can_use_tool
        self._allowed = frozenset(_whole(entry) for entry in options.allowed_tools)
        self._subagents = {
            name: definition.model for name, definition in (options.agents or {}).items()
        }
        servers = options.mcp_servers if isinstance(options.mcp_servers, Mapping) else {}
        self._names = Names(servers, governance.tools)
        self._options = options
        self.is_begun = False
        self._calls: dict[str, Ongoing] = {}
        self._seen: dict[str, str | None] = {}
        self._judged: set[str] = set()
        self._results = Results(self._calls, self._stopping)
        self.spending = Spending()

    @property
    def session(self) -> Session:
        """
        The session of the run: the host's, or the one that is current when this is first asked for.

        Raises:
            NotConfigured: there is none.
        """
        if self._session is not None:
            return self._session
        found = current_session("a run of Claude Code")
        if self.is_watched:  # others may be several runs, each with a session of its own around it
            self._session = found
        return found

    @property
    def is_busy(self) -> bool:
        """Whether something was judged that has no outcome yet."""
        return bool(self._calls) or self.spending.is_open

    def find(self, tool_use_id: str) -> Ongoing | None:
        """Return the call that is under way for a tool use."""
        return self._calls.get(tool_use_id)

    def hooks(self, own: Mapping[Any, list[HookMatcher]] | None) -> dict[Any, list[HookMatcher]]:
        """Return the hooks of the run, those of the host among them."""
        result: dict[Any, list[HookMatcher]] = {
            event: list(matchers) for event, matchers in (own or {}).items()
        }
        result["PostToolUse"] = [
            self._results.after_review(one) for one in result.get("PostToolUse", [])
        ]
        ours: dict[str, Hook] = {
            "PostToolBatch": self._results.batch,
            "PostToolUse": self._results.returned,
            "PostToolUseFailure": self._failed,
            "PreToolUse": self._before,
            "Stop": self._turn_over,
            "UserPromptSubmit": self._prompt,
        }
        for event in HOOKS:
            made = HookMatcher(hooks=[ours[event]], timeout=TIMEOUT_S, on_failure="block")
            result[event] = [*result.get(event, []), made]
        return result

    async def can_use_tool(
        self, name: str, given: dict[str, Any], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """Answer Claude Code whether it may use a tool: the one place where tool uses are judged."""
        use = str(context.tool_use_id)
        if self.stopped is not None:
            return PermissionResultDeny(message=str(self.stopped), interrupt=True)
        if use not in self._seen or not self.spending.is_asked:
            return self._stop(
                Ungoverned(
                    f"{name} was not run: Claude Code asks about it without having called Interlock's hooks, which "
                    "it does when they are turned off. The run is stopped."
                )
            )
        if use in self._judged:
            return PermissionResultDeny(message=f"{name} was not run: it was judged already.")
        self._judged.add(use)
        arguments = given
        if self._own is not None and name not in self._allowed:
            answer = await self._own(name, given, context)
            if not isinstance(answer, PermissionResultAllow):
                return answer
            arguments = given if answer.updated_input is None else answer.updated_input
        return await self._judge(use, name, given, arguments)

    async def _judge(
        self, use: str, name: str, given: dict[str, Any], arguments: dict[str, Any]
    ) -> PermissionResultAllow | PermissionResultDeny:
        tool = self._names.tool(name, arguments, self._seen[use])
        call = Ongoing(self.session, tool, arguments, on_halt=self._halted)
        try:
            judged = await call.begin()
            model = self._other_model(name, judged)
            if model is not None:
                await self._ask(model, str(judged.get("prompt", "")))
        except BaseException as error:
            await call.cancel()  # where it is not the call itself that was refused
            if not isinstance(error, InterlockError | NotRun):
                raise
            if isinstance(error, NotRun):
                return PermissionResultDeny(message=str(error))
            if isinstance(error, HaltedError) and error.halt.target.scope != "tool":
                return self._stop(error)
            pauses = isinstance(error, ApprovalNeeded) and self.governance.stop_to_ask
            if pauses:
                self.refused = error
            return PermissionResultDeny(message=text(error), interrupt=pauses)
        self._calls[use] = call
        return PermissionResultAllow(updated_input=None if judged == given else judged)

    async def _before(self, given: Any, _: str | None, __: Any) -> Output:
        """Have the permission callback asked, whatever else would let the tool run."""
        is_sub = given.get("agent_id") is not None
        self._seen[given["tool_use_id"]] = str(given.get("agent_type")) if is_sub else None
        return said(
            "PreToolUse", permissionDecision="ask", permissionDecisionReason="Interlock judges it"
        )

    async def _failed(self, given: Any, _: str | None, __: Any) -> Output:
        """Settle a call that has run and failed; what the model reads of it cannot be changed."""
        call = self._calls.pop(given["tool_use_id"], None)
        if call is None:
            return {}
        if given.get("is_interrupt"):
            await call.cancel()
            return {}
        try:
            await call.raised(str(given.get("error", "")))
        except HaltedError as error:
            return self._stopping(error)
        return {}

    async def _prompt(self, given: Any, _: str | None, __: Any) -> Output:
        """Have a query judged before any model is asked."""
        if self.stopped is not None:
            return {"decision": "block", "reason": str(self.stopped)}
        if not self.is_watched and "usage" not in self.governance.accept:
            return {
                "decision": "block",
                "reason": "this run is governed, and nobody sees what it spends. Run it with "
                "interlock_claude_agent_sdk.query or GovernedClient; or accept that with "
                'govern(options, accept=["usage"]).',
            }
        try:
            await self._begin(Path(str(given.get("transcript_path"))))
            await self._ask(self.model, str(given.get("prompt", "")))
        except InterlockError as error:
            self.refused = error
            if isinstance(error, HaltedError):
                self._halted(error)
            return {"decision": "block", "reason": text(error)}
        except NotRun as why:
            return {"decision": "block", "reason": str(why)}
        return {}

    async def _begin(self, transcript: Path) -> None:
        """Learn, once, what the conversation had used before this run."""
        if self.is_begun or not self.is_watched:
            return
        self.is_begun = True
        try:
            before = await anyio.to_thread.run_sync(spent_before, transcript, self._options)
        except (OSError, ValueError) as error:
            log.warning(
                "what the conversation has used before is not known, and charged again: %s", error
            )
        else:
            self.spending.resume(before)

    async def _ask(self, model: str, prompt: str) -> None:
        query = Query(
            self.session,
            model,
            prompt,
            estimate=self.governance.estimate,
            on_halt=self._halted,
        )
        await query.begin()
        self.spending.add(query)

    async def _turn_over(self, given: Any, _: str | None, __: Any) -> Output:
        """End the query of a run whose messages nobody sees: what it has used is not known then."""
        if not self.is_watched:
            answer = given.get("last_assistant_message")
            for query in self.spending.take():
                try:
                    await query.returned(answer)
                except InterlockError as error:
                    return {} if not isinstance(error, HaltedError) else self._stopping(error)
        return {}

    async def settled_otherwise(self, use: str, told: str, *, failed: bool) -> None:
        """Settle a call of whose end no hook has told, by what the model is given of it."""
        call = self._calls.pop(use, None)
        if call is not None:
            try:
                await (call.raised(told) if failed else call.cancel())
            except HaltedError as error:
                self._halted(error)

    async def noted(self, message: ResultMessage, used: Mapping[str, Mapping[str, Any]]) -> None:
        """Write into the session's history what a result says of models; a failure keeps no result from the host."""
        data = {
            "claude_session": message.session_id,
            "turns": message.num_turns,
            "models": {
                model: {
                    key: str(value) if key == "costUSD" else int(value)
                    for key, value in row.items()
                }
                for model, row in used.items()
            },
        }
        try:
            await self.session.arecord("claude_code.result", data)
        except InterlockError as error:
            log.warning("what a result says of models was not noted: %s", error)

    async def break_off(self) -> None:
        """Settle what has no outcome: it was broken off."""
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            await call.cancel()

    def _other_model(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """Return which other model a tool use would ask; None where it would ask none."""
        if name not in SUBAGENTS:
            return None
        chosen = arguments.get("model") or self._subagents.get(str(arguments.get("subagent_type")))
        return None if chosen in {None, "inherit", self.model} else str(chosen)

    def _halted(self, error: HaltedError) -> None:
        self._stop(error)

    def _stopping(self, error: InterlockError) -> Output:
        self._stop(error)
        return {"continue_": False, "stopReason": str(error)}

    def _stop(self, error: InterlockError) -> PermissionResultDeny:
        if self.stopped is None and (self.is_watched or not isinstance(error, HaltedError)):
            self.stopped = error
            if self.on_stop is not None:
                self.on_stop()
        return PermissionResultDeny(message=str(error), interrupt=True)


def _whole(entry: str) -> str:
    """Return the tool that an entry of `allowed_tools` allows whatever its arguments are; else nothing's name."""
    name, _, rest = entry.partition("(")
    return name if rest in {"", ")", "*)"} else ""
