"""Governor: the host's object, which wires store, policy, plugins and telemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from opentelemetry.trace import TracerProvider
from sqlalchemy import Connection, MetaData

from interlock._call import Identity
from interlock._clock import Clock, SystemClock
from interlock._drive import BackgroundLoop, Judges, Machinery
from interlock._ledger import Entry
from interlock._model_call import MODEL_CALL, ModelCall
from interlock._plugins import Plugins
from interlock._session import Session, session_of
from interlock._telemetry import Telemetry
from interlock._usage import Estimate, Fields
from interlock.errors import Misuse, NotConfigured
from interlock.evaluators import Panel
from interlock.events import Recorded
from interlock.policy import Policy
from interlock.policy.budgets import Budgets
from interlock.store import policies
from interlock.store.engine import Store
from interlock.store.usage import Receipt
from interlock.store.verify import Report, orphans, session_ids, verify
from interlock.store.verify_budgets import disagreements

if TYPE_CHECKING:  # it costs a host's start-up a tenth of a second
    from sqlalchemy.orm import Session as OrmSession

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
        budgets: Iterable[Mapping[str, Any]] = (),
        plugins: Iterable[object] = (),
        evaluators: Mapping[str, type] = MappingProxyType({}),
        clock: Clock | None = None,
        tracer_provider: TracerProvider | None = None,
        verdict_in_span_name: bool = True,
        table_prefix: str = "",
        schema: str | None = None,
        metadata: MetaData | None = None,
    ) -> None:
        """
        Open the store and make everything ready; whatever is wrong is said here, before the first call.

        Args:
            url: Where the books are: `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` in memory, or
                `postgresql://user:password@host/database`.
            policy: A file's path, the same keys as a mapping, or a `Policy`. Without one nothing governed runs.
            budgets: Limits on usage that is recorded without a policy, with the keys of `budgets:` in one.
            plugins: Names of installed plugins, or modules and objects that implement hooks. Nothing is loaded
                because it is installed.
            evaluators: The host's own classes that satisfy `Evaluator`, by the name that policies use.
            clock: Where time is read; by default the machine's, and the server's for what Postgres stores.
            tracer_provider: Where spans go instead of OpenTelemetry's global provider.
            verdict_in_span_name: Whether a refusal's span says so in its name, as `govern refund [deny]`.
            table_prefix: Put before the name of each table, so that several governors can share a database.
            schema: The schema of Postgres that holds the tables.
            metadata: The host's own, in which the tables are to be defined, so that its migrations see them.

        Raises:
            PolicyError, PluginError, Misuse: what is wrong, where, and what to do.
            StoreUnavailable: the store cannot be opened or written.
        """
        self.policy = _policy(policy)
        self._budgets = _budgets(self.policy, budgets)
        judges = (
            None
            if self.policy is None
            else Judges(policy=self.policy, panel=Panel(self.policy, evaluators))
        )
        self._machinery = Machinery(
            judges=judges,
            plugins=Plugins(plugins),
            telemetry=Telemetry(
                tracer_provider=tracer_provider, verdict_in_name=verdict_in_span_name
            ),
            clock=clock or SystemClock(),
            loop=BackgroundLoop(),
            store=Store(
                url, clock=clock, prefix=table_prefix, schema_name=schema, metadata=metadata
            ),
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

    def record_usage(
        self, *, within: Connection | OrmSession | None = None, **fields: Unpack[Fields]
    ) -> Receipt:
        """
        Write down what a model call took, in a session or not, and charge it to the budgets that count it.

        It was paid for already, so it is recorded whatever the budgets allow. What it cost is what the caller says,
        else what plugins say, else the list price; an unknown price is recorded as unknown. Without a policy the
        budgets are those that the governor was given.

        Example: `governor.record_usage(model="gpt-5-mini", input_tokens=812, output_tokens=96, identity=…)`.

        Args:
            within: A connection or session of the host's in whose transaction it is written, and which the host
                commits or rolls back.
            fields: What was used, by keyword; see `interlock.Usage`.

        Raises:
            Misuse: a number makes no sense; nothing was written.
            StoreUnavailable: nothing was written.
            BudgetExceeded: it was recorded, and with it a budget is overspent.
        """
        entry = self._entry(fields)
        if within is not None:
            return entry.checked(self.join(within, entry.operation))
        return self._shown(entry, self.write(entry.operation))

    async def arecord_usage(self, **fields: Unpack[Fields]) -> Receipt:
        """Do as `record_usage` does without blocking the event loop."""
        entry = self._entry(fields)
        return self._shown(entry, await self.awrite(entry.operation))

    def model_call(
        self,
        *,
        model: str,
        provider: str | None = None,
        estimate: Estimate | None = None,
        arguments: Mapping[str, object] = MappingProxyType({}),
        name: str = MODEL_CALL,
    ) -> ModelCall:
        """
        Return a model call in the session around; see `Session.model_call`.

        Raises:
            NotConfigured: there is no session of this governor around.
        """
        session = session_of(self._machinery)
        if session is None:
            raise NotConfigured(
                "a governed model call needs a session of this governor around it: "
                "`with governor.session(name, agent=…):`. To book usage without one there is record_usage(…)."
            )
        return session.model_call(
            model=model, provider=provider, estimate=estimate, arguments=arguments, name=name
        )

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
        result, held = await self._machinery.store.awrite(operation, *args, **kwargs)
        if isinstance(result, Recorded):
            self._machinery.plugins.recorded(result)
        if held is not None:
            raise held
        return result

    def join(
        self,
        transaction: Connection | OrmSession,
        operation: Callable[Concatenate[Connection, _P], _T],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Run *operation* in the host's own transaction, on this governor's tables; commit and rollback stay the host's.

        Of an `AsyncSession` give the session that `run_sync` passes on. Plugins are not shown the event, which may yet
        be rolled back.

        Raises:
            Exception: what the database raises, as in all that the host does in this transaction.
        """
        connection = (
            transaction if isinstance(transaction, Connection) else transaction.connection()
        )
        return operation(self._machinery.store.bind(connection), *args, **kwargs)

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

    def _shown(self, entry: Entry, receipt: Receipt) -> Receipt:
        if receipt.recorded is not None:
            self._machinery.plugins.recorded(receipt.recorded)
        return entry.checked(receipt)

    def _entry(self, fields: Fields) -> Entry:
        around = session_of(self._machinery)
        return Entry(
            fields,
            plugins=self._machinery.plugins,
            budgets=self._budgets,
            identity=None if around is None else around.identity,
            session_id=None if around is None else around.id,
        )

    def verify_budgets(self) -> list[str]:
        """Recompute what is reserved and spent of every budget; return a sentence for each row that disagrees."""
        return self.read(disagreements)

    def close(self) -> None:
        """
        Commit what waits and let go of the store. Calling it again does nothing.

        Sessions that are still open stay open in the books; calls made in them from now on raise StoreUnavailable.
        """
        self._machinery.loop.close()
        if self._machinery.judges is not None:
            self._machinery.judges.panel.close()
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


def _budgets(policy: Policy | None, given: Iterable[Mapping[str, Any]]) -> Budgets:
    if policy is None:
        # What is no list of mappings is told so by the same words as in a policy.
        listed = (
            given
            if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable)
            else [*given]
        )
        return Policy.build({"version": 1, "name": "budgets", "budgets": listed}).budgets
    if given:
        raise Misuse("budgets= is for a governor without a policy; write them into the policy")
    return policy.budgets


def _policy(given: Policy | str | Path | Mapping[str, Any] | None) -> Policy | None:
    match given:
        case None | Policy():
            return given
        case Mapping():
            return Policy.build(given)
        case str() | Path():
            return Policy.load(given)
