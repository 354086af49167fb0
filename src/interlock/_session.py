"""Session: one governed run of an agent, as the host holds it: opened, paused, ended."""

from __future__ import annotations

import logging
from contextvars import Token
from types import TracebackType
from typing import Self, cast

import msgspec
from sqlalchemy import Connection

from interlock import events
from interlock._asking import OnAsk
from interlock._call import Identity, is_text
from interlock._halt import Halted, HaltTarget
from interlock._perform import Machinery
from interlock._redaction import redacted_data
from interlock._scope import Scope, current_scope, enter, leave, session_for
from interlock._session_calls import SessionCalls
from interlock._state import SessionState, SessionStatus
from interlock._verdict import Mode
from interlock.errors import ApprovalNeeded, Conflict, InterlockError, Misuse, StoreUnavailable
from interlock.store import owners, policies, sessions
from interlock.store.statements import binding

log = logging.getLogger("interlock")

MAX_NAME = 512
"""Characters of a name: what every index can hold."""

MAX_NESTED = 64
"""So many sessions may be around one."""


class Session(SessionCalls):
    """
    One governed run of an agent. Inside its `with` block, governed functions are judged, recorded and run in it.

    Attributes:
        name: The host's label.
        identity: On whose behalf it runs.
        mode: What becomes of decisions in it.
        ancestors: The ids of the sessions that it was opened in, the innermost first.
    """

    def __init__(
        self,
        machinery: Machinery,
        name: str,
        identity: Identity,
        *,
        dry_run: bool = False,
        on_ask: OnAsk | None = None,
        exclusive: bool | str = False,
        resumes: str | None = None,
        ancestors: tuple[str, ...] = (),
    ) -> None:
        """
        Describe a session of *machinery*'s governor; `with` opens it, or lets the one go on whose id is *resumes*.

        Raises:
            Misuse: the name, a part of the identity, or the key is no text that can be stored.
        """
        key = name if exclusive is True else None if exclusive is False else exclusive
        parts = {"name": name, **msgspec.structs.asdict(identity)}
        parts |= {} if key is None and exclusive is not None else {"exclusive": key}
        optional = {"user", "team", "org"}
        wrong = [
            key
            for key, part in parts.items()
            if not (is_text(part) and len(part) <= MAX_NAME)
            and not (part is None and key in optional)
        ]
        if wrong:
            raise Misuse(
                f"{' and '.join(wrong)} of a session must be text that can be stored, of at most {MAX_NAME} "
                "characters: without lone surrogates and null characters"
            )
        super().__init__(
            machinery, name, identity, dry_run=dry_run, on_ask=on_ask, ancestors=ancestors
        )
        self._exclusive = key
        self._scope: Scope | None = None
        self._token: Token[Scope | None] | None = None
        self._resumes = resumes
        self._owner: str | None = None
        self._is_over = False

    def is_of(self, machinery: Machinery) -> bool:
        """Whether this is a session of the governor that has this *machinery*, or had it before another policy."""
        return self._machinery.store is machinery.store

    def state(self) -> SessionState:
        """
        Return what the session's events add up to now; the whole history is read for it.

        Raises:
            Misuse: the session was never opened.
            StoreUnavailable: the store did not answer.
        """
        return self._machinery.store.read(sessions.state, self.id)

    def pause(self) -> None:
        """
        Let the session wait: no call is admitted in it until `Governor.resume_session` lets it go on.

        Leaving its block then leaves it paused. Leaving it by an `ApprovalNeeded` pauses it, too.

        Raises:
            Conflict: it is not open.
            StoreUnavailable: it goes on as before.
        """
        self._show(self._machinery.store.write(sessions.pause_session, self.id))
        self._is_over = True

    async def apause(self) -> None:
        """Do as `pause` does, awaiting."""
        recorded, cancelled = await self._machinery.store.awrite(sessions.pause_session, self.id)
        self._show(recorded)
        self._is_over = True
        if cancelled is not None:
            raise cancelled

    def abort(self, *, reason: str) -> None:
        """
        End the session now, as aborted: no call is admitted in it afterwards, and what waits for a human is cancelled.

        Calls that run go on. Leaving its block then writes nothing more.

        Args:
            reason: Why: a sentence. Plugins that redact are shown it, and 500 characters of it are kept.

        Raises:
            Misuse: the session was never opened, or there is no reason.
            Conflict: it has ended.
            StoreUnavailable: it goes on as before.
        """
        recorded = self._machinery.store.write(
            sessions.abort_session, self.id, reason=self._sentence(reason)
        )
        self._show(*recorded)
        self._is_over = True

    async def aabort(self, *, reason: str) -> None:
        """Do as `abort` does, awaiting."""
        recorded, cancelled = await self._machinery.store.awrite(
            sessions.abort_session, self.id, reason=self._sentence(reason)
        )
        self._show(*recorded)
        self._is_over = True
        if cancelled is not None:
            raise cancelled

    def halt(self, *, reason: str, by: str) -> Halted:
        """
        Halt this session: nothing is admitted in it until the halt is released; see `Governor.halt`.

        Raises:
            Misuse: the session was never opened; or nobody is named, or no reason.
        """
        target = HaltTarget.of(session=self.id)
        done = self._machinery.flights.halt(target, reason=reason, by=by)
        if done.recorded is not None:
            self._show(done.recorded)
        return done

    def __enter__(self) -> Self:
        self._nest()
        self._opened(self._machinery.store.write(self._open))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._detach()
        ending = self._ending(error)  # not in the transaction: plugins are asked
        try:
            self._show(*self._machinery.store.write(self._close, error, ending))
        except StoreUnavailable as lost:
            self._unclosed(lost, error)

    async def __aenter__(self) -> Self:
        self._nest()
        recorded, cancelled = await self._machinery.store.awrite(self._open)
        self._opened(recorded)
        if cancelled is not None:
            await self.__aexit__(type(cancelled), cancelled, None)
            raise cancelled
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._detach()
        ending = self._ending(error)
        try:
            recorded, cancelled = await self._machinery.store.awrite(self._close, error, ending)
        except StoreUnavailable as lost:
            self._unclosed(lost, error)
        else:
            self._show(*recorded)
            if cancelled is not None:
                raise cancelled

    def _nest(self) -> None:
        """Find the session around; whatever keeps that from doing anything in the world holds in this one, too."""
        if self._id is not None or self._resumes is not None:
            return
        around = session_of(self._machinery)
        self.ancestors = ()
        if around is None:
            return
        if len(around.ancestors) >= MAX_NESTED:
            raise Misuse(
                f"session {self.name!r} would be nested more than {MAX_NESTED} deep, as by agents that call each other "
                "in a circle; it was not opened"
            )
        self.ancestors = (around.id, *around.ancestors)
        if around.mode is Mode.DRY_RUN:
            self.mode = Mode.DRY_RUN

    def _open(self, connection: Connection) -> events.Recorded:
        if self._id is not None:
            raise Misuse(
                f"session {self.name!r} was opened before; make another with governor.session(…)"
            )
        if self._resumes is not None:
            recorded = sessions.resume_session(connection, self._resumes)
            self._owner = binding(connection).me
            return recorded
        judges = self._machinery.judges
        if judges is not None:  # it may have been reloaded since the governor stored its own
            policy = judges.policy
            policies.keep(connection, policy.digest, name=policy.name, document=policy.text)
        recorded = sessions.open_session(
            connection,
            self.name,
            self.identity,
            policy=None if judges is None else judges.policy.digest,
            mode=self.mode,
            parent=next(iter(self.ancestors), None),
            exclusive=self._exclusive,
        )
        self._owner = binding(connection).me
        return recorded

    def _opened(self, recorded: events.Recorded) -> None:
        self._id = recorded.session_id
        # Not by a `with` of a generator: were the session dropped unclosed, the collector would leave it for us, at
        # any moment, and whatever was entered since would be gone.
        self._scope = Scope(self)
        self._token = enter(self._scope)
        self._show(recorded)

    def _close(
        self, connection: Connection, error: BaseException | None, ending: dict[str, str]
    ) -> list[events.Recorded]:
        if self._is_over:
            return []
        if owners.is_lost(connection, self._owner):  # it may go on elsewhere by now
            log.error(
                "session %s is not closed here: this process was declared lost, and recovery has the session",
                self.id,
            )
            return []
        waits = isinstance(error, ApprovalNeeded)  # the human's answer must find it alive
        try:
            if waits:
                return [sessions.pause_session(connection, self.id)]
            return sessions.close_session(connection, self.id, **ending)
        except Conflict:
            status = sessions.get(connection, self.id).status
            if status is SessionStatus.ABORTED:
                log.warning("session %s was aborted before its block was left", self.id)
            elif not (waits and status is SessionStatus.PAUSED):
                raise
            return []

    def _ending(self, error: BaseException | None) -> dict[str, str]:
        if error is None:
            return {}
        ending = {"error_type": type(error).__qualname__}
        # The text of anybody else's exception may hold whatever the agent worked on.
        return ending | (
            {"reason": self._sentence(str(error))} if isinstance(error, InterlockError) else {}
        )

    def _sentence(self, reason: str) -> str:
        """Return *reason* as it is stored: shown to plugins that redact, and bounded."""
        redact = self._machinery.plugins.redaction()
        if redact is None or not isinstance(reason, str):
            return sessions.bounded(reason)
        left = redacted_data("session", reason, redact)
        return sessions.bounded(left if isinstance(left, str) else "withheld by a plugin")

    def _detach(self) -> None:
        if self._token is not None:
            leave(self._token, self._scope)
            self._token = self._scope = None

    def _unclosed(self, lost: StoreUnavailable, error: BaseException | None) -> None:
        if error is None:
            raise lost
        log.error(
            "session %s ended with %s and could not be closed: %s",
            self.id,
            type(error).__name__,
            lost,
        )


def session_of(machinery: Machinery) -> Session | None:
    """Return the session that the code around is in, if it is one of the governor that has this *machinery*."""
    scope = current_scope()
    if scope is None or not isinstance(scope.session, Session):
        return None
    return scope.session if scope.session.is_of(machinery) else None


def current_session(tool: str) -> Session:
    """
    Return the session that the code around is in, for an adapter that is about to make a call of *tool* in it.

    Raises:
        NotConfigured: there is none.
    """
    return cast("Session", session_for(tool))
