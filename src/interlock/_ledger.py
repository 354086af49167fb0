"""The ledger: usage that is recorded after the fact, priced before the transaction and judged after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from interlock import errors
from interlock._budget import facts_of
from interlock._call import Identity, Tool, describe, is_text
from interlock._clock import new_id
from interlock._plugins import Plugins
from interlock._prices import price
from interlock._usage import Fields, ModelUsage, Usage
from interlock._verdict import Opinion, Verdict, combine
from interlock.policy.budgets import Budgets
from interlock.store import usage
from interlock.store.commands import Command, done
from interlock.store.usage import Receipt


class Entry:
    """Usage that is about to be recorded."""

    def __init__(
        self,
        fields: Fields,
        *,
        plugins: Plugins,
        budgets: Budgets,
        identity: Identity | None,
        session_id: str | None,
        command: Command | str | None = None,
    ) -> None:
        """
        Check and price what *fields* say.

        Args:
            fields: What was used.
            plugins: Who is asked for prices.
            budgets: What counts it.
            identity: On whose behalf, where *fields* do not say.
            session_id: In which session, if in any.
            command: What tells that it was recorded before.

        Raises:
            Misuse: a number makes no sense, or a key is unknown.
        """
        counts = dict(fields)
        model, provider = counts.pop("model", None), counts.pop("provider", None)
        given = counts.pop("identity", None)
        if not isinstance(model, str) or not model.strip():
            raise errors.Misuse("model is missing: usage is recorded of a model, by its name")
        if not isinstance(given, Identity | None) or not isinstance(provider, str | None):
            raise errors.Misuse("identity is an Identity, and provider a text")
        parts = () if given is None else (given.agent, given.user, given.team, given.org)
        if not all(part is None or is_text(part) for part in (model, provider, *parts)):
            raise errors.Misuse(
                "model, provider and the parts of an identity are texts that can be stored: "
                "without lone surrogates and null characters"
            )
        try:
            used = Usage(**counts)  # type: ignore[arg-type]  # it checks each
        except TypeError as error:
            raise errors.Misuse(f"record_usage: {error}") from None
        self._identity = given or identity
        self._session_id = session_id
        self._model = model
        priced = price(ModelUsage(model=model, provider=provider, usage=used), plugins=plugins)
        facts = facts_of(self._identity, session_id=session_id, tool=model, model=model)
        self.operation: Callable[[Connection], Receipt] = partial(
            usage.record,
            priced=priced,
            identity=self._identity,
            claims=budgets.claims(facts),
            session_id=session_id,
        )
        if command is not None:  # what it costs may be known otherwise when it is sent again
            recording = self.operation
            self.operation = lambda connection: done(
                connection,
                command,
                name="usage.record",
                kind=Receipt,
                given=dict(fields),
                operation=partial(recording, connection),
            )

    @property
    def session_id(self) -> str | None:
        """In which session it is used, if in any."""
        return self._session_id

    def checked(self, receipt: Receipt) -> Receipt:
        """
        Return *receipt* of what was recorded.

        Raises:
            BudgetExceeded: a budget is overspent with it.
        """
        if not receipt.overspent:
            return receipt
        names = ", ".join(dict.fromkeys(account.key.budget for account in receipt.overspent))
        call, _ = describe(
            Tool(name=self._model, kind="model"),
            {},
            call_id=new_id(),
            session_id=self._session_id or "",
            identity=self._identity or Identity(agent=""),
        )
        opinions = [
            Opinion(
                verdict=Verdict.DENY,
                reason=f"budget {account.key.budget} is overspent",
                author=f"budget:{account.key.budget}",
            )
            for account in receipt.overspent
        ]
        raise errors.BudgetExceeded(
            f"usage of {self._model} is recorded, and with it more is spent than allowed of: {names}. "
            "Make no further calls until the next window, or raise the limit.",
            decision=combine(opinions),
            call=call,
            budgets=receipt.overspent,
        )
