"""Governor: the host's object, which wires store, policy, plugins and telemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from opentelemetry.trace import TracerProvider
from sqlalchemy import Connection

from interlock._call import Identity
from interlock._clock import Clock, SystemClock
from interlock._drive import BackgroundLoop, Judges, Machinery
from interlock._plugins import Plugins
from interlock._session import Session
from interlock._telemetry import Telemetry
from interlock.evaluators import Panel
from interlock.events import Recorded
from interlock.policy import Policy
from interlock.store import policies
from interlock.store.engine import Store
from interlock.store.verify import Report, orphans, session_ids, verify
from interlock.store.writer import outcome

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Governor:
    """
    The host's governor: one store, one policy, one set of plugins, one clock.

    Use it as a context manager, sync or async, or call `close`. It may be used from any number of threads and tasks.
    """

    def __init__(
        self,
        url: str,
        *,
        policy: Policy | str | Path | Mapping[str, Any] | None = None,
        plugins: Iterable[object] = (),
        evaluators: Mapping[str, type] = MappingProxyType({}),
        clock: Clock | None = None,
        tracer_provider: TracerProvider | None = None,
        verdict_in_span_name: bool = True,
    ) -> None:
        """
        Open the store and make everything ready; whatever is wrong is said here, before the first call.

        Args:
            url: Where the books are: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `sqlite://` in memory.
            policy: A file's path, the same keys as a mapping, or a `Policy`. Without one nothing governed runs.
            plugins: Names of installed plugins, or modules and objects that implement hooks. Nothing is loaded
                because it is installed.
            evaluators: The host's own classes that satisfy `Evaluator`, by the name that policies use.
            clock: Where time is read; the machine's by default.
            tracer_provider: Where spans go instead of OpenTelemetry's global provider.
            verdict_in_span_name: Whether a refusal's span says so in its name, as `govern refund [deny]`.

        Raises:
            PolicyError, PluginError, Misuse: what is wrong, where, and what to do.
            StoreUnavailable: the store cannot be opened or written.
        """
        self.policy = _policy(policy)
        judges = (
            None
            if self.policy is None
            else Judges(policy=self.policy, panel=Panel(self.policy, evaluators))
        )
        clock = clock or SystemClock()
        self._machinery = Machinery(
            judges=judges,
            plugins=Plugins(plugins),
            telemetry=Telemetry(
                tracer_provider=tracer_provider, verdict_in_name=verdict_in_span_name
            ),
            clock=clock,
            loop=BackgroundLoop(),
            store=Store(url, clock=clock),
        )
        if self.policy is not None:
            self.write(
                policies.keep, self.policy.digest, name=self.policy.name, document=self.policy.text
            )

    def session(
        self,
        name: str,
        *,
        agent: str,
        user: str | None = None,
        team: str | None = None,
        org: str | None = None,
    ) -> Session:
        """
        Return a session, to be opened by `with` or `async with`: the governed run of one agent.

        Nothing is written until it is opened.

        Args:
            name: A label, such as the ticket or conversation worked on; need not be unique.
            agent: Which agent acts.
            user: For whom.
            team: In which team.
            org: In which organisation.
        """
        return Session(self._machinery, name, Identity(agent=agent, user=user, team=team, org=org))

    def write(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation*, a function of a `Connection`, in a transaction of its own; return its result once durable.

        Example: `governor.write(tickets.approve, ticket_id, by="ann")`. Plugins are shown the event that an operation
        returns.

        Raises:
            StoreUnavailable: nothing was written.
        """
        result = self._machinery.store.write(operation, *args, **kwargs)
        if isinstance(result, Recorded):
            self._machinery.plugins.recorded(result)
        return result

    async def awrite(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Do as `write` does without blocking the event loop.

        Raises:
            StoreUnavailable: nothing was written.
            BaseException: a cancellation, raised once the result is durable.
        """
        result, held = await outcome(self._machinery.store.submit(operation, *args, **kwargs))
        if isinstance(result, Recorded):
            self._machinery.plugins.recorded(result)
        if held is not None:
            raise held
        return result

    def read(
        self,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation* on a snapshot, beside the writer; it cannot write.

        Raises:
            StoreUnavailable: the store did not answer, or *operation* tried to write.
        """
        return self._machinery.store.read(operation, *args, **kwargs)

    def verify(self) -> Iterator[Report]:
        """Verify every session, newest first, then what is left of deleted ones, a report each; see `store.verify`."""
        before: str | None = None
        while page := self.read(session_ids, before=before):
            for session_id in page:
                yield self.read(verify, session_id)
            before = page[-1]
        for session_id in self.read(orphans):
            yield self.read(verify, session_id)

    def close(self) -> None:
        """
        Commit what waits and let go of the store. Calling it again does nothing.

        Sessions that are still open stay open in the books; calls made in them from now on raise StoreUnavailable.
        """
        self._machinery.loop.close()
        self._machinery.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def _policy(given: Policy | str | Path | Mapping[str, Any] | None) -> Policy | None:
    match given:
        case None | Policy():
            return given
        case Mapping():
            return Policy.build(given)
        case str() | Path():
            return Policy.load(given)
