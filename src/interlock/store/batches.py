"""
Batches: jobs run in transactions on the one connection that a process writes with, and what a failure means for each.

A batch shares a transaction, and so a commit. Where one of its jobs fails, the transaction is rolled back and each is
run again in one of its own. So a job may run twice, of which one run leaves no trace; it must be a function of its
connection and have no other effect. A transaction that the database undoes in favour of another is run again, and so
is one whose connection was lost before anything could have been committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection

from interlock.errors import StoreUnavailable
from interlock.store.jobs import Job
from interlock.store.link import Link

MAX_TRIES = 10
"""How often a transaction is run that the database undoes in favour of another."""


class Database(Protocol):
    """What the writer has to know of a kind of database."""

    @property
    def mixes(self) -> bool:
        """
        Whether operations of all kinds may share a transaction.

        Where rows are locked one by one, two batches that take theirs in different orders would wait for each other.
        """
        ...

    def is_error(self, error: BaseException) -> bool:
        """Whether the database or its driver raised *error*."""
        ...

    def may_retry(self, error: BaseException) -> bool:
        """Whether the transaction was undone in favour of another, and may be run again."""
        ...

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection is gone, and with it all that was not committed."""
        ...


class Batches:
    """Runs jobs, a batch at a time; whose turn it is, its user sees to."""

    def __init__(
        self,
        database: Database,
        *,
        connect: Callable[[], Link],
        post: Callable[[Connection, Sequence[Any]], Sequence[Any]],
        turnstile: AbstractContextManager[object],
        translate: Callable[[BaseException], StoreUnavailable],
    ) -> None:
        """
        Run nothing yet, and open no connection.

        Args:
            database: Its kind.
            connect: Opens the connection to write with; called again after each failure.
            post: Does entries together, in order, and returns what came of each: a result, or the `Exception` that
                is to be raised for it. It writes nothing for those that fail.
            turnstile: Held around each transaction: the queue between processes.
            translate: Makes the error that callers see out of one of the driver's.
        """
        self._database = database
        self._connect = connect
        self._post = post
        self._turnstile = turnstile
        self._translate = translate
        self._inside = threading.local()
        self._link: Link | None = None

    @property
    def is_inside(self) -> bool:
        """Whether this thread runs a job."""
        return getattr(self._inside, "transaction", False)

    def let_go(self) -> None:
        """Close the connection; the next batch opens another."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def together(self, batch: list[Job[Any]]) -> None:
        """Run *batch* in as few transactions as can be, waking its callers after each."""
        if not self._database.mixes:
            for job in [job for job in batch if job.run is not None]:
                self.alone(job)
                Job.wake([job])
            batch = [job for job in batch if job.run is None]
        if len(batch) > 1:
            try:
                self._transaction(batch)
            except (_NotBegun, _Unknown) as error:
                for job in batch:
                    job.error = error.reason
            except BaseException:  # noqa: BLE001 - one of them failed, or the commit did: find out which, one by one
                for job in batch:
                    self.alone(job)
        else:
            for job in batch:
                self.alone(job)
        Job.wake(batch)

    def alone(self, job: Job[Any]) -> None:
        """Run *job* in a transaction of its own, and leave in it what came of it."""
        job.error = None
        try:
            self._transaction([job])
        except (_NotBegun, _Unknown) as error:
            job.error = error.reason
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who may be in another thread
            if self._database.is_error(error) or isinstance(error, OSError):
                unavailable = self._translate(error)
                unavailable.__cause__ = error
                job.error = unavailable
            else:
                job.error = error

    def _transaction(self, batch: list[Job[Any]]) -> None:
        """Run *batch* in one transaction, again where the database has undone it in favour of another."""
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                self._try(batch)
            except _Interrupted as cut:
                # A kept connection may have died long ago: that is found out only now, and a new one will do.
                if not tries_left:
                    raise cut.error from cut.error.__cause__
            except Exception as error:
                if not tries_left or not self._database.may_retry(error):
                    raise
            else:
                return

    def _try(self, batch: list[Job[Any]]) -> None:
        try:  # so that the turnstile is left also where this is interrupted just after it had let us in
            try:
                self._turnstile.__enter__()
            except OSError as error:
                raise _NotBegun(self._translate(error), error) from error
            # The connection is kept from one transaction to the next, unless something goes wrong with it.
            link, self._link = self._link, None
            link = self._begun(link)
            try:
                self._inside.transaction = True
                try:
                    self._perform(batch, link)
                except Exception as error:
                    if self._database.is_lost(error):
                        raise _Interrupted(error) from error
                    raise
                finally:
                    self._inside.transaction = False
                lives = self._commit(link)
            except BaseException:
                try:
                    link.rollback()
                except BaseException:  # noqa: BLE001 - the first failure is raised; this one loses the link
                    link.close()
                else:
                    self._link = link
                raise
            if lives:
                self._link = link
            else:
                link.close()
        finally:
            self._turnstile.__exit__(None, None, None)

    def _commit(self, link: Link) -> bool:
        """Commit; return whether the connection can be used again."""
        try:
            link.commit()
        except Exception as error:
            if not self._database.is_lost(error):
                raise
            # It may be durable, and must then neither be done again nor be called undone.
            was_committed = link.was_committed()
            if was_committed is None:
                raise _Unknown(error) from error
            if not was_committed:
                raise _Interrupted(error) from error
            return False
        return True

    def _begun(self, link: Link | None) -> Link:
        try:
            link = link or self._connect()
            try:
                link.begin()
            except BaseException:
                link.close()
                raise
        except Exception as error:
            if not self._database.is_error(error):
                raise
            raise _NotBegun(self._translate(error), error) from error
        return link

    def _perform(self, batch: list[Job[Any]], link: Link) -> None:
        entries: list[Job[Any]] = []
        for job in batch:
            if job.run is None:
                entries.append(job)
                continue
            self._post_all(entries, link)
            entries = []
            job.result = job.run(link.plain())
        self._post_all(entries, link)

    def _post_all(self, jobs: list[Job[Any]], link: Link) -> None:
        if not jobs:
            return
        results = self._post(link.connection, [job.entry for job in jobs])
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                job.error = result
            else:
                job.result = result


class _Interrupted(Exception):
    """The connection was lost before anything could have been committed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Unknown(Exception):
    """The connection was lost while it committed, and nobody can say what became of that."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.reason = StoreUnavailable(
            "the connection to the store was lost while it committed, and it cannot be found out whether this was "
            "written. Look before doing it again; a call that was admitted is then listed as in doubt"
        )
        self.reason.__cause__ = cause


class _NotBegun(Exception):
    """No transaction could be begun, so every job of the batch fails alike and none need be tried alone."""

    def __init__(self, reason: StoreUnavailable, cause: BaseException) -> None:
        super().__init__()
        self.reason = reason
        self.reason.__cause__ = cause
