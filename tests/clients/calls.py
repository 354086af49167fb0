"""Model calls that are not streamed: judged before anything is sent, and booked as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from interlock import ApprovalNeeded, BudgetExceeded, Denied, HaltedError, Misuse
from interlock.errors import NotConfigured
from interlock.store import tickets

NEVER = {"models": ["m-1"], "verdict": "deny", "reason": "not this one"}


class CallSuite:
    """
    What holds of every call that is not streamed.

    Attributes:
        ways: By name, how a call is made, what it is judged as, and what is booked.
    """

    ways: Mapping[str, Any]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give a test that wants one each way to ask a model."""
        if "way" in metafunc.fixturenames:
            metafunc.parametrize("way", self.ways.values(), ids=self.ways)

    async def test_it_is_judged_and_booked(self, desk: Any, done: Any, way: Any) -> None:
        """Broken if a way to ask a model is not recorded, or its usage not booked, or the answer another one."""
        call, name, used = way
        plain = await done(call(desk.plain()))
        with desk.open():
            governed = await done(call(desk.client()))
        assert type(governed) is type(plain)
        if isinstance(governed, BaseModel):
            assert governed == plain
        assert [(one.tool, one.tool_kind, one.model) for one in desk.decided()] == [
            (name, "model", "m-1")
        ]
        assert [(one.tool, one.outcome, one.usage) for one in desk.finished()] == [
            (name, "returned", used)
        ]
        assert desk.provider.bodies[0] == desk.provider.bodies[1]

    @pytest.mark.promise(1)
    async def test_what_is_denied_is_not_sent(self, desk: Any, done: Any, way: Any) -> None:
        """Broken if a request leaves that the policy denies."""
        with desk.open(NEVER), pytest.raises(Denied, match="not this one"):
            await done(way[0](desk.client()))
        assert desk.provider.received == []
        assert [one.admitted for one in desk.decided()] == [False]

    @pytest.mark.promise(1)
    async def test_without_a_session_nothing_is_sent(self, desk: Any, done: Any) -> None:
        """Broken if a governed client works where nobody governs."""
        client = desk.client()
        with pytest.raises(NotConfigured, match="outside any session"):
            await done(desk.create(client))
        other = desk.keep(type(client)(api_key="k", base_url=desk.provider.url))
        with desk.open(), pytest.raises(Misuse, match="not made by govern"):
            await done(desk.create(other))
        assert desk.provider.received == []

    async def test_session_that_is_given(self, desk: Any, done: Any) -> None:
        """Broken if a client is not bound to the session that it was given."""
        with desk.open() as (governor, session):
            with governor.session("other", agent="desk"):
                await done(desk.create(desk.client(session=session)))
            assert [
                one.session_id for one in desk.recorder.recorded if one.kind == "call_decided"
            ] == [session.id]

    @pytest.mark.promise(3)
    async def test_budget(self, desk: Any, done: Any) -> None:
        """Broken if a call is not reserved at its estimate, sent without room, or charged anything but the truth."""
        budgets = [{"name": "run", "per": "session", "tokens": 400}]
        with desk.open(policy={"budgets": budgets}) as (_, session):
            client = desk.client()
            await done(desk.create(client, **{desk.sdk.limit: 200}))
            (account,) = session.budgets()
            assert (account.spent.tokens, account.reserved.tokens) == (120, 0)
            reserved = desk.decided()[0].reserved.tokens
            assert 200 < reserved < 230
            with pytest.raises(BudgetExceeded):
                await done(desk.create(client, **{desk.sdk.limit: 300}))
        assert len(desk.provider.received) == 1

    @pytest.mark.promise(3)
    async def test_long_texts_are_estimated(self, desk: Any, done: Any) -> None:
        """Broken if what is reserved for a call does not grow with what it sends."""
        budgets = [{"name": "run", "per": "session", "tokens": 4_000}]
        ask = [{"role": "user", "content": "x" * 3_000}]
        with desk.open(policy={"budgets": budgets}):
            await done(desk.create(desk.client(), messages=ask, **{desk.sdk.limit: 5}))
        assert 1_000 < desk.decided()[0].reserved.tokens < 1_050

    async def test_price_and_provider(self, desk: Any, done: Any) -> None:
        """Broken if what a call costs is not booked, or not by its provider's list of prices."""
        with desk.open():
            await done(desk.create(desk.client(), model=desk.sdk.priced))
        (finished,) = desk.finished()
        assert finished.cost_usd > 0
        assert finished.priced_by.startswith("genai-prices")

    async def test_model_access(self, desk: Any, done: Any) -> None:
        """Broken if a session may use a model that its organisation may not."""
        models = {"tiers": {"m-1": "premium"}, "access": [{"tier": "premium", "orgs": ["acme"]}]}
        with desk.open(policy={"models": models}), pytest.raises(Denied):
            await done(desk.create(desk.client()))
        assert desk.provider.received == []

    async def test_arguments_are_judged(self, desk: Any, done: Any) -> None:
        """Broken if a rule cannot look at what is sent, or sees less of it than the provider."""
        long = {"argument": "max_tokens", "at_least": 100}
        with desk.open({"tools": ["chat"], "when": long, "verdict": "deny"}):
            client = desk.client()
            await done(desk.create(client, max_tokens=9))
            with pytest.raises(Denied):
                await done(desk.create(client, max_tokens=100))
            with pytest.raises(Denied):
                await done(desk.create(client, max_tokens=9, extra_body={"max_tokens": 100}))
        assert [body["max_tokens"] for body in desk.provider.bodies] == [9]

    async def test_secrets_are_not_recorded(self, desk: Any, done: Any) -> None:
        """Broken if a field that was declared secret is stored, or is not sent."""
        with desk.open():
            await done(desk.create(desk.client(secrets=["messages"])))
        assert "hi" in json.dumps(desk.provider.bodies)
        assert [json.loads(one.arguments)["messages"] for one in desk.decided()] == [
            {"$secret": True}
        ]

    @pytest.mark.promise(5)
    async def test_a_person_approves_and_edits(self, desk: Any, done: Any) -> None:
        """Broken if a request that waits is sent, or what an approver has written is not what is sent."""
        with desk.open({"tools": ["chat"], "verdict": "ask", "approvers": ["ann"]}) as (
            governor,
            _,
        ):
            client = desk.client()
            with pytest.raises(ApprovalNeeded) as asked:
                await done(desk.create(client, max_tokens=900))
            assert desk.provider.received == []
            governor.write(
                tickets.approve, asked.value.ticket.id, by="ann", arguments={"max_tokens": 9}
            )
            await done(desk.create(client, max_tokens=900))
        assert [body["max_tokens"] for body in desk.provider.bodies] == [9]

    @pytest.mark.promise(4)
    async def test_halt(self, desk: Any, done: Any) -> None:
        """Broken if a halted session asks a model."""
        with desk.open() as (_, session):
            session.halt(reason="stop", by="ann")
            with pytest.raises(HaltedError):
                await done(desk.create(desk.client()))
        assert desk.provider.received == []

    async def test_retries_are_one_call(self, desk: Any, done: Any) -> None:
        """Broken if an attempt that the SDK repeats is judged or booked twice, or the last error is not its own."""
        desk.provider.script = [
            desk.says(status=desk.sdk.busy),
            desk.says(status=desk.sdk.busy),
            desk.says(),
        ]
        with desk.open():
            client = desk.client().with_options(max_retries=2)
            await done(desk.create(client, extra_headers={"x-stainless-retry": "1"}))
            desk.provider.script = [desk.says(status=400)]
            with pytest.raises(desk.sdk.module.BadRequestError):
                await done(desk.create(client))
        assert len(desk.provider.received) == 4
        assert desk.finished()[0].usage == desk.sdk.used
        assert desk.outcomes() == [("chat", "returned"), ("chat", "raised")]
        assert desk.finished()[1].error_type == "BadRequestError"

    async def test_dry_run(self, desk: Any, done: Any) -> None:
        """Broken if a dry run asks a model, or a caller is given nothing for an answer."""
        with desk.open(dry_run=True):
            with pytest.raises(Misuse, match="dry run"):
                await done(desk.create(desk.client()))
            with pytest.raises(Misuse, match="dry run"):
                await done(desk.create(desk.client(), stream=True))
        assert desk.provider.received == []

    async def test_unread_responses(self, desk: Any, within: Any, done: Any) -> None:
        """Broken if an answer that a caller reads by itself is not booked, or is not the provider's."""
        with desk.open():
            made = desk.sdk.endpoint(desk.client()).with_streaming_response.create(**desk.sdk.body)
            async with within(made) as response:
                text = await done(response.text())
                parsed = await done(response.parse())
        assert json.loads(text)["id"] == parsed.id == desk.sdk.answer_id
        assert [one.usage for one in desk.finished()] == [desk.sdk.used]

    async def test_the_original_stays_as_it_is(self, desk: Any) -> None:
        """Broken if the client that was given is changed, or one is governed twice."""
        plain = desk.plain()
        before = desk.sdk.endpoint(plain)
        client = desk.sdk.govern(plain)
        assert type(plain).__mro__ != type(client).__mro__
        assert isinstance(client, type(plain))
        assert desk.sdk.endpoint(plain) is before
        assert desk.sdk.endpoint(client) is not before
        for again in (client, client.with_options(timeout=1)):
            with pytest.raises(Misuse, match="governed already"):
                desk.sdk.govern(again)
        with pytest.raises(Misuse, match="a str cannot be governed"):
            desk.sdk.govern("client")
        with pytest.raises(Misuse, match="lists of names"):
            desk.sdk.govern(plain, accepted="files")
