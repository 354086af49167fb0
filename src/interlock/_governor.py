"""Governor: the host's object, which wires store, policy, plugins and telemetry."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

import anyio
import anyio.to_thread
import msgspec
from opentelemetry.trace import TracerProvider
from sqlalchemy import Connection, MetaData

from interlock import _canonical
from interlock._again import Replay, again
from interlock._asking import OnAsk, checked
from interlock._books import Books
from interlock._call import Identity
from interlock._capture import Capture, Capturing, Keyed, capture_of
from interlock._clock import Clock, SystemClock
from interlock._consult import Judges
from interlock._flights import Flights
from interlock._given import UNNAMED, budgets_of, policy_of, probes_of
from interlock._halt import Halt, Halted, HaltTarget, Named
from interlock._ledger import Entry
from interlock._model_call import MODEL_CALL, ModelCall
from interlock._perform import Machinery
from interlock._plugins import Plugins
from interlock._recover import look, recover
from interlock._recovery import Escalation, Recovered
from interlock._renewals import Renewals
from interlock._resumable import Opening, Resumable, opening, resumable
from interlock._session import Session, session_of
from interlock._telemetry import Telemetry
from interlock._ticket import Ticket
from interlock._trial import Trial
from interlock._usage import Estimate, Fields
from interlock._verdict import Mode
from interlock.errors import Conflict, Misuse, NotConfigured, PluginError, PolicyError
from interlock.evaluators import Panel
from interlock.events import Recorded
from interlock.policy import Policy, PolicyFile
from interlock.store import halts, policies, sessions
from interlock.store.commands import Command
from interlock.store.engine import Store
from interlock.store.events import history
from interlock.store.owner import BEAT
from interlock.store.usage import Receipt

if TYPE_CHECKING:  # it costs a host's start-up a tenth of a second
    from sqlalchemy.orm import Session as OrmSession

log = logging.getLogger("interlock")

_T = TypeVar("_T")


class Governor(Books):
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
        watch_policy: bool = False,
        on_ask: OnAsk | None = None,
        capture: Capture | str = Capture.REDACTED,
        capture_result: Capture | str = Capture.DIGEST,
        digest_key: str | bytes | None = None,
        heartbeat: timedelta = BEAT,
    ) -> None:
        """
        Open the store and make everything ready; whatever is wrong is said here, before the first call.

        Args:
            url: Where the books are: `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` in memory, or
                `postgresql://user:password@host/database`.
            policy: A file's path, the same keys as a mapping, a `Policy`, or the word `observe`, which records all
                calls and refuses none. Without one nothing governed runs.
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
            watch_policy: Whether to look, whenever a session is made, if the policy's file has been changed, and then
                to `reload` it. A broken file is logged, and the last good policy stays.
            on_ask: What is done when a human must be asked: `interlock.wait(…)`, `interlock.ask(…)`; None: the call
                ends with `ApprovalNeeded`, and runs when it is made again after the yes.
            capture: How much is kept of the arguments of tools that do not say: `none`, `digest`, `redacted`, `full`.
            capture_result: Likewise of what they return.
            digest_key: A secret, of 16 bytes at least, with which digests of content are made; it is not stored. All
                processes of one store need the same.
            heartbeat: How often this process says that it lives, once it has opened a session. Who has not heard of it
                for three times as long may take it for gone, and recover what it has left open.

        Raises:
            PolicyError, PluginError, Misuse: what is wrong, where, and what to do.
            StoreUnavailable: the store cannot be opened or written.
        """
        checked(on_ask)
        capturing = Capturing(
            arguments=capture_of(capture, "capture"),
            results=capture_of(capture_result, "capture_result"),
            key=None if digest_key is None else Keyed(digest_key),
        )
        self._file = PolicyFile.of(policy)
        found = policy_of(policy) if self._file is None else self._file.read()
        if watch_policy and self._file is None:
            raise Misuse("watch_policy= is for a policy that is a file; this one is not")
        self._watches = watch_policy
        self._panels: list[Panel] = []
        self._evaluators = evaluators
        known = Plugins(plugins)
        self._offered = known.evaluators()
        self._budgets = budgets_of(found, budgets)
        judges = None if found is None else self._judges(found)
        if heartbeat <= timedelta(0):
            raise Misuse("heartbeat= is longer than nothing")
        store = Store(
            url,
            clock=clock,
            prefix=table_prefix,
            schema_name=schema,
            metadata=metadata,
            beat=heartbeat,
        )
        super().__init__(store, known)
        self._machinery = Machinery(
            judges=judges,
            plugins=known,
            telemetry=Telemetry(
                tracer_provider=tracer_provider, verdict_in_name=verdict_in_span_name
            ),
            clock=clock or SystemClock(),
            on_ask=on_ask,
            capturing=capturing,
            store=store,
            flights=Flights(store, clock or SystemClock()),
            renewals=Renewals(store, clock or SystemClock()),
        )
        if found is not None:
            self.write(policies.keep, found.digest, name=found.name, document=found.text)

    @property
    def policy(self) -> Policy | None:
        """The policy that sessions are made under from now on."""
        judges = self._machinery.judges
        return None if judges is None else judges.policy

    def reload(self, policy: Policy | str | Path | Mapping[str, Any] | None = None) -> Policy:
        """
        Put another policy in force, and return it: *policy*, or the file that the last one came from, read again.

        It holds for sessions that are made from now on; those that were made before keep theirs.

        Raises:
            PolicyError, PluginError: it cannot be used; the last good one stays in force.
            Misuse: no policy is given, and the last one came from no file.
        """
        file = self._file if policy is None else PolicyFile.of(policy)
        if policy is None and file is None:
            raise Misuse("the policy did not come from a file; give reload() another one")
        found = policy_of(file.read() if policy is None and file is not None else policy)
        if found is None:
            raise Misuse("reload() needs a policy")
        judges = self._judges(found)
        self._file, self._budgets = file, found.budgets
        self._machinery = msgspec.structs.replace(self._machinery, judges=judges)
        return found

    def session(
        self,
        name: str,
        *,
        agent: str,
        user: str | None = None,
        team: str | None = None,
        org: str | None = None,
        dry_run: bool = False,
        on_ask: OnAsk | None = None,
        exclusive: bool | str = False,
    ) -> Session:
        """
        Return a session, to be opened by `with` or `async with`: the governed run of one agent.

        Nothing is written until it is opened. The policy that is in force stays in force for it.

        Args:
            name: A label, such as the ticket or conversation worked on; need not be unique.
            agent: Which agent acts.
            user: For whom.
            team: In which team.
            org: In which organisation.
            dry_run: Whether calls are decided and recorded, and then simulated instead of run.
            on_ask: What is done in it when a human must be asked, instead of what the governor was given.
            exclusive: Whether it may be opened only where no other of this name is open or paused in its organisation
                that is exclusive, too; or a key to go by instead of the name. Else opening it raises `SessionTaken`.
        """
        if self._watches and self._file is not None and self._file.is_changed():
            self._follow()
        identity = Identity(agent=agent, user=user, team=team, org=org)
        return Session(
            self._machinery,
            name,
            identity,
            dry_run=dry_run,
            on_ask=on_ask,
            exclusive=exclusive,
        )

    def resume_session(self, session_id: str, *, on_ask: OnAsk | None = None) -> Session:
        """
        Return a session that is paused, or that a dead process has left open, to go on in a `with` block.

        It has the identity, the policy and the mode that it was opened with, whatever is in force for new ones.

        Args:
            session_id: Its id.
            on_ask: As for `session`.

        Raises:
            Conflict: there is no such session.
            NewerRelease: a newer release has opened it, in a form that this one does not know.
            PluginError: an evaluator of its policy is not here.
            StoreUnavailable: the store did not answer.
        """
        return self._reopened(self.read(opening, session_id), on_ask, resumes=session_id)

    def resume(
        self,
        ticket: Ticket | str,
        *,
        tool: Callable[..., _T],
        arguments: Mapping[str, object] = MappingProxyType({}),
    ) -> _T:
        """
        Run the call that an approved ticket stands for, once, and return what *tool* returns.

        In any process, whenever the ticket has not expired, also where the session is paused. The call is described
        anew from what is recorded of it, must be the very call that the ticket was opened for, and is judged from the
        start, under the policy that its session was opened with; with the arguments that the approver has written,
        where they have changed some.

        Example: `governor.resume(ticket, tool=refund)`.

        Args:
            ticket: The ticket, or its id.
            tool: The governed function, or method of an object, that the call was of; no coroutine function.
            arguments: What is not on record, by name: declared secrets, objects and records, and what a plugin has
                taken out.

        Raises:
            Conflict: the ticket is not approved, was used, or has expired; *tool* is another one, or takes other
                parameters by now; an argument is another one, or not on record and not given. Nothing has run.
            Misuse: *tool* is not governed, or a coroutine function.
            Refused, Undecided: as the call itself.
            BaseException: whatever the tool raises. The ticket is used up then.
        """
        if inspect.iscoroutinefunction(tool):
            raise Misuse("aresume() runs coroutine functions; resume() does not")
        found = self.read(resumable, _id_of(ticket))
        call = found.call(tool, arguments)
        with self._resuming(found).attach():
            return tool(*call.args, **call.kwargs)

    async def aresume(
        self,
        ticket: Ticket | str,
        *,
        tool: Callable[..., Any],
        arguments: Mapping[str, object] = MappingProxyType({}),
    ) -> Any:
        """
        Do as `resume` does without blocking the event loop: await a coroutine function, run another in a thread.

        Raises:
            BaseException: as `resume`; and a cancellation, after which the ticket may be used up.
        """
        if not (inspect.iscoroutinefunction(tool) or inspect.isasyncgenfunction(tool)):
            return await anyio.to_thread.run_sync(
                partial(self.resume, ticket, tool=tool, arguments=arguments)
            )
        found = await self.awrite(resumable, _id_of(ticket))  # a read would block
        call = found.call(tool, arguments)
        with self._resuming(found).attach():
            result = tool(*call.args, **call.kwargs)
        return await result if inspect.isawaitable(result) else result

    def _reopened(
        self, found: Opening, on_ask: OnAsk | None = None, *, resumes: str | None = None
    ) -> Session:
        machinery, digest = self._machinery, found.row.policy
        judges = machinery.judges
        if found.text is None:
            judges = None
        elif judges is None or judges.policy.digest != digest:
            judges = self._judges(Policy.parse(found.text, path=f"policy {digest}"))
        return Session(
            msgspec.structs.replace(machinery, judges=judges),
            found.row.name,
            found.row.identity,
            dry_run=found.opened.mode is Mode.DRY_RUN,
            on_ask=on_ask,
            resumes=resumes,
            ancestors=found.ancestors,
        )

    def _resuming(self, found: Resumable) -> Session:
        if found.opening.row.policy != found.ticket.policy:
            raise Conflict(
                f"ticket {found.ticket.id} was opened under another policy than that of its session"
            )
        return self._reopened(found.opening).resuming(found.ticket)

    def record_usage(
        self,
        *,
        within: Connection | OrmSession | None = None,
        command: Command | str | None = None,
        **fields: Unpack[Fields],
    ) -> Receipt:
        """
        Write down what a model call took, in a session or not, and charge it to the budgets that count it.

        It was paid for already, so it is recorded whatever the budgets allow. What it cost is what the caller says,
        else what plugins say, else the list price; an unknown price is recorded as unknown. Without a policy the
        budgets are those that the governor was given.

        Example: `governor.record_usage(model="gpt-5-mini", input_tokens=812, output_tokens=96, identity=…)`.

        Args:
            within: A connection or session of the host's in whose transaction it is written, and which the host
                commits or rolls back. A budget that halts whoever exceeds it then does so with the next call.
            command: The id of this report: one that is sent again is not recorded again, and returns the first receipt.
            fields: What was used, by keyword; see `interlock.Usage`.

        Raises:
            Misuse: a number makes no sense; nothing was written.
            Conflict: the command was sent before and said something else; nothing was written.
            StoreUnavailable: nothing was written.
            BudgetExceeded: it was recorded, and with it a budget is overspent.
        """
        entry = self._entry(fields, command)
        if within is not None:
            return entry.checked(self.join(within, entry.operation))
        store, flights = self._store, self._machinery.flights
        receipt = store.write(entry.operation)
        recorded: tuple[Recorded, ...] = ()
        if receipt.orders and (by := self._halting()) is not None:
            recorded = flights.obey(entry.session_id, receipt.orders, by=by)
        return self._shown(entry, receipt, recorded)

    async def arecord_usage(
        self, *, command: Command | str | None = None, **fields: Unpack[Fields]
    ) -> Receipt:
        """Do as `record_usage` does without blocking the event loop."""
        entry = self._entry(fields, command)
        store, flights = self._store, self._machinery.flights
        receipt, held = await store.awrite(entry.operation)
        recorded: tuple[Recorded, ...] = ()
        if receipt.orders and (by := self._halting()) is not None:
            recorded, later = await flights.aobey(entry.session_id, receipt.orders, by=by)
            held = held or later
        if held is not None:
            raise held
        return self._shown(entry, receipt, recorded)

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

    def _judges(self, policy: Policy) -> Judges:
        panel = Panel(policy, self._evaluators, self._offered)
        self._panels.append(panel)  # sessions that are open may still ask the one before
        return Judges(policy=policy, panel=panel)

    def _follow(self) -> None:
        try:
            self.reload()
        except (PolicyError, PluginError) as error:
            log.error(  # noqa: TRY400 - the sentence says it all
                "the policy was changed and cannot be used, so %r stays in force: %s",
                self.policy,
                error,
            )

    def _shown(
        self, entry: Entry, receipt: Receipt, following: tuple[Recorded, ...] = ()
    ) -> Receipt:
        for recorded in (receipt.recorded, *following):
            self._show(recorded)
        return entry.checked(receipt)

    def _entry(self, fields: Fields, command: Command | str | None) -> Entry:
        around = session_of(self._machinery)
        return Entry(
            fields,
            plugins=self._plugins,
            budgets=self._budgets,
            identity=None if around is None else around.identity,
            session_id=None if around is None else around.id,
            command=command,
        )

    def _halting(self) -> str | None:
        """Return in whose name what exceeds a budget is halted; None where nothing is, since nothing is enforced."""
        around, policy = session_of(self._machinery), self.policy
        mode = Mode.ENFORCE if policy is None else policy.mode
        if around is not None:
            mode = around.mode
        author = UNNAMED if policy is None else policy.author
        return author if mode is Mode.ENFORCE else None

    def halt(self, *, reason: str, by: str, **target: Unpack[Named]) -> Halted:
        """
        Stop everything, or all calls of one organisation, team, user, session, agent or tool: the kill switch.

        When it returns with `durable`, no call that it covers is admitted any more, in any process, until `release`.
        Coroutines that run are cancelled, here at once and in other processes within a second; others, streams among
        them, are not interrupted, and what they return is withheld. Who may do this is for the host to decide.

        Example: `governor.halt(org="acme", reason="leaking data", by="ann")`.

        Args:
            reason: Why, for the record, and told to whoever is refused.
            by: Who halts, as the host has authenticated them.
            target: Exactly one of `system=True`, `org=`, `team=`, `user=`, `session=` (its id), `agent=` and `tool=`.

        Returns:
            What was done. Where the store does not answer nothing is raised: `durable` is then False, the halt binds
            this process alone, from the next call on, and is written down once the store answers, if that is before
            the process ends.

        Raises:
            Misuse: not exactly one target is named, or nobody, or no reason.
            Conflict: there is no such session.
        """
        done = self._machinery.flights.halt(HaltTarget.of(**target), reason=reason, by=by)
        self._show(done.recorded)
        return done

    async def ahalt(self, *, reason: str, by: str, **target: Unpack[Named]) -> Halted:
        """Do as `halt` does without blocking the event loop. Once begun it is seen through to its end."""
        done: Halted | None = None
        with anyio.CancelScope(shield=True):
            done = await anyio.to_thread.run_sync(
                partial(self.halt, reason=reason, by=by, **target)
            )
        return cast("Halted", done)

    def release(self, halt_id: str, *, reason: str, by: str) -> Halt:
        """
        Release a halt, and return it. What another halt covers stays halted.

        Raises:
            Misuse: nobody is named, or no reason.
            Conflict: there is no such halt, or it was released.
            StoreUnavailable: nothing was released.
        """
        return self.write(halts.release, halt_id, reason=reason, by=by)

    def recover(
        self, *, tools: Iterable[Callable[..., Any]] = (), dry_run: bool = False
    ) -> Recovered:
        """
        Bring in order what processes have left open that are gone, tell of what is stuck, and return what was done.

        A process is gone that has not said for its term that it lives; nothing is ever taken from another. Of each call
        that it had begun becomes what its tool declares: a human has to look at it; or it may be made again; or its
        tool is asked whether it happened. Its sessions are paused, so that they can be resumed. A second run changes
        nothing, and several may run at once.

        Args:
            tools: Governed functions with a `probe`, whose interrupted calls are to be asked about.
            dry_run: Whether only to say what would be done; no tool is asked.

        Raises:
            Misuse: one of *tools* is not governed.
            StoreUnavailable: what was done before stays done; run it again.
        """
        escalation = Escalation() if self.policy is None else self.policy.escalation
        probes = probes_of(tools)
        if dry_run:
            return look(self._store, escalation)
        return recover(self._store, show=self._show, probes=probes, escalation=escalation)

    async def arecover(
        self, *, tools: Iterable[Callable[..., Any]] = (), dry_run: bool = False
    ) -> Recovered:
        """Do as `recover` does without blocking the event loop; probes are asked in a thread."""
        return await anyio.to_thread.run_sync(
            partial(self.recover, tools=tuple(tools), dry_run=dry_run)
        )

    def replay(self, session_id: str, *, policy: Policy | str | Path | None = None) -> Replay:
        """
        Go through a session again by what was recorded, and compare; nothing is written, and no tool runs.

        Each call takes the flow once more. What evaluators, plugins, the store and people replied is taken from the
        events; what the policy that is stored under the recorded digest says of it, and the decision, are computed
        anew.

        Args:
            session_id: The session.
            policy: Another policy: which verdicts would differ under it, each call judged by itself after what has
                really happened. Its evaluators are asked again. None: the recorded ones.

        Raises:
            Conflict: there is no such session.
            PolicyError, PluginError: *policy* cannot be used.
            StoreUnavailable: the store did not answer.
        """
        head = self.read(sessions.get, session_id).head
        told = partial(self._told, session_id, head)
        found = policy if isinstance(policy, Policy) or policy is None else Policy.load(policy)
        key = self._machinery.capturing.key
        if found is None:
            return again(session_id, told, self._stored, key=key)
        with Trial(found, self._evaluators, self._offered) as trial:
            return again(session_id, told, self._stored, trial, key)

    def _told(self, session_id: str, head: int) -> Iterator[Recorded]:
        after = 0
        while after < head and (page := self.read(partial(history, after=after), session_id)):
            yield from page
            after = page[-1].seq

    def _stored(self, digest: str) -> Policy:
        return Policy.parse(self.read(policies.document, digest), path=f"policy {digest}")

    def digest_of(self, value: object) -> str:
        """
        Return the digest that is recorded of *value* where only digests are captured, to look for it in the books.

        Raises:
            Misuse: it has no canonical form, so no digest is recorded of it either.
        """
        try:
            return self._machinery.capturing.seal(_canonical.canonical(value))
        except ValueError as error:
            raise Misuse(f"there is no digest of that: {error}") from None

    def close(self) -> None:
        """
        Commit what waits and let go of the store. Calling it again does nothing.

        Sessions that are still open stay open in the books; calls made in them from now on raise StoreUnavailable.
        """
        if not self._store.is_closed:
            self._plugins.closing()
        for panel in self._panels:
            panel.close()
        self._machinery.flights.close()
        self._machinery.renewals.close()
        self._store.close()

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


def _id_of(ticket: Ticket | str) -> str:
    return ticket.id if isinstance(ticket, Ticket) else ticket
