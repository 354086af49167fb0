"""Model calls: judged, budgeted, booked and reviewed, streamed or not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from agents import Agent, Model, ModelProvider, ModelSettings, RunConfig, Runner, Usage
from agents.testing import ScriptedModel, assistant_message
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from pydantic import BaseModel, ConfigDict

from interlock import BudgetExceeded, Call, Denied, Misuse, Opinion, Refused, Verdict, hookimpl
from interlock.errors import EvaluatorFailed
from interlock.evaluators import Redacted
from interlock.events import CallDecided, CallFinished
from interlock_openai_agents import govern

USAGE = Usage(
    requests=1,
    input_tokens=100,
    input_tokens_details=InputTokensDetails(cached_tokens=40, cache_write_tokens=0),
    output_tokens=20,
    output_tokens_details=OutputTokensDetails(reasoning_tokens=5),
    total_tokens=120,
)
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


async def _run(agent: Agent[Any], *, streamed: bool = False, **options: Any) -> tuple[Any, str]:
    """Run *agent*; return its result, and the text that was streamed."""
    if not streamed:
        return await Runner.run(agent, "good morning", **options), ""
    result = Runner.run_streamed(agent, "good morning", **options)
    seen = [event async for event in result.stream_events()]
    texts = [
        event.data.delta
        for event in seen
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    return result, "".join(texts)


def _agent(text: str = "hello", **options: Any) -> Agent[Any]:
    model = ScriptedModel([[assistant_message(text)]], default_usage=USAGE)
    return Agent(name="desk", instructions="Be kind.", model=model, **options)


@BOTH
async def test_model_call_is_judged_with_what_it_is_given(desk: Any, streamed: bool) -> None:
    """Broken if policies cannot see what goes to a model, or its answer is lost on the way."""
    with desk.open("deny"):
        result, _ = await _run(govern(_agent()), streamed=streamed)
    (decided,) = [one for one in desk.recorder.events if isinstance(one, CallDecided)]
    assert (result.final_output, decided.tool, decided.tool_kind) == ("hello", "chat", "model")
    assert (decided.model, "good morning" in decided.arguments) == ("ScriptedModel", True)
    assert '"instructions":"Be kind."' in decided.arguments


@BOTH
async def test_usage_is_booked_as_the_response_says(desk: Any, streamed: bool) -> None:
    """Broken if tokens are lost, or those of a cache or of reasoning counted twice."""
    with desk.open("allow"):
        await _run(govern(_agent()), streamed=streamed)
    (finished,) = [one for one in desk.recorder.events if isinstance(one, CallFinished)]
    found = finished.usage
    assert found is not None
    assert (found.input_tokens, found.cache_read_tokens) == (100, 40)
    assert (found.output_tokens, found.reasoning_tokens) == (20, 5)


async def test_response_that_says_nothing_of_usage_took_an_unknown_amount(desk: Any) -> None:
    """Broken if a model that does not say what it took is taken to be free."""
    agent = Agent(name="desk", model=ScriptedModel([[assistant_message("hello")]]))
    with desk.open("allow"):
        await _run(govern(agent))
    (finished,) = [one for one in desk.recorder.events if isinstance(one, CallFinished)]
    assert (finished.usage is None or finished.usage.input_tokens is None, finished.cost_usd) == (
        True,
        None,
    )


@pytest.mark.promise(1)
@BOTH
async def test_refused_model_is_not_asked(desk: Any, streamed: bool) -> None:
    """Broken if a model that the policy refuses is asked, or the host gets another error than Interlock's."""
    agent = _agent()
    rules = [{"models": ["ScriptedModel"], "verdict": "deny", "reason": "too dear"}]
    with desk.open("allow", rules), pytest.raises(Denied, match="too dear"):
        await _run(govern(agent), streamed=streamed)
    assert isinstance(agent.model, ScriptedModel)
    assert agent.model.remaining_steps == 1


@pytest.mark.promise(3)
@BOTH
async def test_budget_is_held_by_what_the_call_may_take(desk: Any, streamed: bool) -> None:
    """Broken if a model is asked for more tokens than there are left."""
    budgets = [{"name": "run", "per": "session", "tokens": 1_000}]
    for most, fits in ((900, True), (1_000, False)):
        agent = _agent(model_settings=ModelSettings(max_tokens=most))
        with desk.open("allow", sections={"budgets": budgets}):
            if fits:
                await _run(govern(agent), streamed=streamed)
            else:
                with pytest.raises(BudgetExceeded):
                    await _run(govern(agent), streamed=streamed)
        assert isinstance(agent.model, ScriptedModel)
        assert agent.model.remaining_steps == (not fits)


class Reviewer:
    """An evaluator of answers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    def interlock_evaluators(self) -> Any:
        """Offer it to policies."""
        return {"polite": _reviewer(self.answer)}


def _reviewer(answer: Any) -> type:
    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class Polite:
        stage = "after"

        def __init__(self, config: Config) -> None:
            self.config = config

        def review(self, call: Call, result: Any) -> Any:
            assert result == "damn"
            return answer

    Polite.Config = Config  # type: ignore[attr-defined]
    return Polite


@BOTH
@pytest.mark.parametrize("how", ["pass", "redact", "withhold"])
async def test_answer_is_reviewed_before_anybody_sees_it(
    desk: Any, how: str, streamed: bool
) -> None:
    """Broken if an answer that is to be reviewed is shown before, or as it was."""
    answers = {
        "pass": None,
        "redact": Redacted(result="(beep)", reason="rude"),
        "withhold": Opinion(verdict=Verdict.DENY, reason="rude", author="polite"),
    }
    sections = {"evaluators": [{"use": "polite", "tools": ["chat"]}]}
    agent = govern(_agent("damn"))
    with desk.open("allow", sections=sections, plugins=[Reviewer(answers[how])]):
        if how == "withhold":
            with pytest.raises((Refused, EvaluatorFailed), match="rude"):
                await _run(agent, streamed=streamed)
            return
        result, shown = await _run(agent, streamed=streamed)
    assert result.final_output == ("damn" if how == "pass" else "(beep)")
    assert ("damn" in shown) == (how == "pass" and streamed)


class Provider(ModelProvider):
    """A provider that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def get_model(self, model_name: str | None) -> Model:
        """Return a model."""
        self.asked.append(model_name)
        return ScriptedModel([[assistant_message("hello")]])


@pytest.mark.promise(1)
@pytest.mark.parametrize("by", ["provider", "config", "model"])
async def test_model_by_another_way_is_governed(desk: Any, by: str) -> None:
    """Broken if a model that an agent knows by name, or that a run is configured with, is asked ungoverned."""
    provider, config = Provider(), None
    named = Agent(name="desk", model="small")
    if by == "provider":
        agent, model = govern(named, provider=provider), "small"
    elif by == "config":
        config = govern(RunConfig(model="large", model_provider=provider))
        agent, model = govern(named), "large"
    else:
        config = govern(RunConfig(model=ScriptedModel([[assistant_message("hello")]])))
        agent, model = govern(named), "ScriptedModel"
    with desk.open("allow"):
        result, _ = await _run(agent, run_config=config)
    (decided,) = [one for one in desk.recorder.events if isinstance(one, CallDecided)]
    assert (result.final_output, decided.model) == ("hello", model)
    assert provider.asked == ([] if by == "model" else [model])


async def test_configuration_is_left_as_it_is() -> None:
    """Broken if governing a configuration changes the one that the host goes on using, or governs twice."""
    provider = Provider()
    original = RunConfig(model_provider=provider, workflow_name="mine")
    covered = govern(original)
    assert (original.model_provider, covered.workflow_name) == (provider, "mine")
    assert govern(covered).model_provider is covered.model_provider


@pytest.mark.promise(1)
async def test_model_that_is_given_later_ends_the_run(desk: Any) -> None:
    """Broken if a governed agent can be given an ungoverned model afterwards."""
    agent = govern(_agent())
    agent.model = ScriptedModel([[assistant_message("hello")]])
    with desk.open("allow"), pytest.raises(Misuse, match="was given another model"):
        await _run(agent)
    assert agent.model.remaining_steps == 1


@BOTH
async def test_exception_of_the_model_is_its_own(desk: Any, streamed: bool) -> None:
    """Broken if governing a model changes what its failure does to a run, or the call stays open."""
    agent = Agent(name="desk", model=ScriptedModel([OSError("line is dead")]))
    with desk.open("allow"), pytest.raises(OSError, match="line is dead"):
        await _run(govern(agent), streamed=streamed)
    assert desk.booked(models=True) == [("chat", "allow"), ("chat", "raised", "OSError")]


async def test_price_by_a_plugin_is_booked(desk: Any) -> None:
    """Broken if what a model call cost is not known by the name of its model."""

    class Prices:
        @hookimpl
        def interlock_price(self, used: Any) -> Decimal | None:
            return Decimal("0.5") if used.model == "ScriptedModel" else None

    with desk.open("allow", plugins=[Prices()]):
        await _run(govern(_agent()))
    (finished,) = [one for one in desk.recorder.events if isinstance(one, CallFinished)]
    assert finished.cost_usd == Decimal("0.5")
