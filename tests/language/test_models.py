"""Models: one name for what is called by many, and who may use which."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
from genai_prices import data as prices

from interlock import Identity, Risk, Tool, Verdict
from interlock._model_names import canonical_model, model_pattern
from interlock.errors import BudgetExceeded, Denied, PolicyError
from interlock.policy import Policy
from tests.language._asking import situation
from tests.policies import document, rule
from tests.samples import call_of

NAMES: dict[str, list[str]] = {
    "claude-opus-4-5": [
        "claude-opus-4-5-20251101",
        "claude-opus-4-5-latest",
        "claude-opus-4-5@20251101",
        "claude-opus-4-5@latest",
        "anthropic/claude-opus-4-5",
        "anthropic/claude-opus-4.5",
        "openrouter/anthropic/claude-opus-4.5",
        "anthropic.claude-opus-4-5-20251101-v1:0",
        "us.anthropic.claude-opus-4-5-20251101-v1:0",
        "global.anthropic.claude-opus-4-5-20251101-v1:0",
        "bedrock/eu.anthropic.claude-opus-4-5-20251101-v1:0",
        "vertex_ai/claude-opus-4-5@20251101",
        "publishers/anthropic/models/claude-opus-4-5",
        "Claude-Opus-4-5",
        " claude-opus-4-5 ",
    ],
    "claude-3-5-sonnet": [
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "anthropic/claude-3.5-sonnet",
    ],
    "gpt-4o": ["gpt-4o-2024-08-06", "openai/gpt-4o", "azure/gpt-4o", "GPT-4o"],
    "gpt-4o-mini": ["gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"],
    "gpt-4.1": ["gpt-4.1-2025-04-14", "openrouter/openai/gpt-4.1"],
    "gemini-2.5-pro": ["models/gemini-2.5-pro", "google/gemini-2.5-pro", "gemini/gemini-2.5-pro"],
    "llama3-70b-instruct": ["meta.llama3-70b-instruct-v1:0", "us.meta.llama3-70b-instruct-v1:0"],
    "nova-pro": ["amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0"],
    "titan-embed-text": ["amazon.titan-embed-text-v1"],
    "titan-embed-text-v2:0": ["amazon.titan-embed-text-v2:0"],
    "claude-v2:1": ["anthropic.claude-v2:1"],
    "llama3": ["llama3:latest"],
    "gpt-4-0613": ["openai/gpt-4-0613"],
    "acme/gpt-4o": [],
    "deepseek-r1:free": ["deepseek/deepseek-r1:free"],
    "ft:gpt-4o-mini-2024-07-18:acme::x": [],
    "x" * 300: [],
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:30])
def test_one_model_has_one_name(name: str) -> None:
    """Broken if a rule on a model is evaded by another of its names, or hits another model."""
    assert {name} == {canonical_model(given) for given in (name, *NAMES[name])}


FAMILY = re.compile(r"[a-z]+")


def test_no_two_families_of_all_known_models_are_one() -> None:
    """Broken if the names of two families of models, of all that have a price, become the same."""
    ids = [(found.id, model.id) for found in prices.providers for model in found.models]
    assert len(ids) > 2_000
    by_name: dict[str, set[str]] = defaultdict(set)
    for _, name in ids:
        by_name[canonical_model(name)].add(name)
    for known, names in by_name.items():
        assert known == canonical_model(known), known
        bare = {name.lower().rsplit("/", 1)[-1] for name in names}
        families = {frozenset(FAMILY.findall(name)) & _words(known) for name in bare}
        assert {_words(known)} == families, (known, names)


def _words(known: str) -> frozenset[str]:
    return frozenset(FAMILY.findall(known.rsplit("/", 1)[-1]))


def test_models_of_one_provider_stay_apart() -> None:
    """Broken if, within the list of one provider, more than a date, a prefix or `latest` is thrown away."""
    undated = re.compile(r"[-@](20[0-9]{6}|20[0-9]{2}-[0-9]{2}-[0-9]{2})|[-:@]latest")
    for provider in prices.providers:
        by_name: dict[str, set[str]] = defaultdict(set)
        for model in provider.models:
            by_name[canonical_model(model.id)].add(model.id)
        for known, names in by_name.items():
            plain = {undated.sub("", name.lower().rsplit("/", 1)[-1]) for name in names}
            plain = {
                re.sub(r"^.*\.anthropic\.|^.*\.openai\.|-v1(:0)?$", "", name) for name in plain
            }
            assert len(plain) == 1, (provider.id, known, names)


@pytest.mark.parametrize(
    "glob", ["anthropic/*", "*-latest", "us.anthropic.claude-*", "gpt-*-2024-08-06", "openai/gpt-?"]
)
def test_a_glob_that_would_mean_another_is_refused(glob: str) -> None:
    """Broken if `anthropic/*`, its prefix taken away as from a name, means every model there is."""
    for made in (
        document({"id": "r", "models": [glob], "verdict": "allow"}),
        document(models={"tiers": {glob: "cheap"}}),
    ):
        with pytest.raises(PolicyError, match="a glob is matched with names without provider"):
            Policy.build(made)
    assert model_pattern("GPT-4*") == "gpt-4*"


MODELS: dict[str, Any] = {
    "tiers": {
        "claude-opus-4-5": "premium",
        "claude-opus-*": "old",
        "claude-haiku-*": "standard",
        "gpt-5*": "premium",
    },
    "access": [
        {"tier": "premium", "orgs": ["acme"], "max_risk": "medium"},
        {"tier": "premium", "users": ["ceo"]},
        {"tier": "old", "teams": ["legacy-*"], "agents": ["bot"]},
    ],
    "aliases": {"our-best": "anthropic/claude-opus-4.5"},
}


def access(model: str | None, models: Any = MODELS, risk: str = "low", **who: str) -> bool:
    """Whether the policy lets this model be used by them."""
    policy = Policy.build(document(rule("all", "*"), models=models))
    tool = Tool(name="chat", kind="model", model="model", risk=Risk(risk))
    identity = Identity(**{"agent": "bot", **who})
    return policy_allows(policy, call_of({"model": model}, tool=tool, identity=identity))


def policy_allows(policy: Policy, call: Any) -> bool:
    """Whether all that the policy says is an ALLOW."""
    said = policy.opinions(situation(policy, call, call.tool.risk))
    return max(one.verdict for one in said) is Verdict.ALLOW


def test_a_tier_is_for_whom_access_lets_through() -> None:
    """Broken if a model is open to whom it is not, or closed to whom it is."""
    best = ["claude-opus-4-5", "anthropic/claude-opus-4-5-20251101", "our-best", "gpt-5-mini"]
    for model in best:
        assert access(model, org="acme")
        assert access(model, org="acme", risk="medium")
        assert not access(model, org="acme", risk="high")
        assert access(model, org="evil", user="ceo", risk="critical")
        assert not access(model, org="evil")
        assert not access(model)
    assert access("claude-opus-4-1", team="legacy-eu")
    assert not access("claude-opus-4-1", team="legacy-eu", agent="other")
    assert not access("claude-opus-4-1", org="acme", user="ceo")


def test_a_tier_that_access_does_not_name_is_for_all() -> None:
    """Broken if a list of tiers closes what nobody restricted."""
    assert access("claude-haiku-4-5", risk="critical")


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "model", ["llama-4", "claude-opus", "CLAUDE", "x/claude-haiku-4-5", "", None]
)
def test_an_unknown_model_is_most_restricted(model: str | None) -> None:
    """Broken if a model that nobody has listed, or that has no name, is open to whom not all tiers are."""
    assert not access(model, org="acme")
    assert not access(model, team="legacy-eu", user="nobody")
    assert access(model, team="legacy-eu", user="ceo")
    closed = {"tiers": {"claude-haiku-*": "standard"}}
    assert not access(model, closed, org="acme")


@pytest.mark.promise(1)
def test_no_name_is_none_of_any(governor: Any) -> None:
    """Broken if `*` in the tiers opens a call of which nobody knows the model."""
    anything = {"tiers": {"*": "standard"}, "access": [{"tier": "standard", "orgs": ["acme"]}]}
    assert access("llama-4", anything, org="acme")
    assert not access("llama-4", anything)
    assert not access("", {"tiers": {"*": "standard"}})


def test_only_calls_of_models_are_asked_for_a_tier() -> None:
    """Broken if a tool with an argument `model` needs access to it."""
    policy = Policy.build(document(rule("all", "*"), models=MODELS))
    assert policy_allows(policy, call_of({"model": "gpt-5"}))


def test_rules_know_a_model_by_all_its_names() -> None:
    """Broken if a rule that forbids a model is evaded by its alias, date, provider or spelling."""
    rules = [
        {"id": "no", "models": ["anthropic/claude-opus-4-5-20251101", "O3*"], "verdict": "deny"},
        {"id": "all", "models": ["*"], "verdict": "allow"},
    ]
    policy = Policy.build(document(*rules, models={**MODELS, "access": []}))
    tool = Tool(name="chat", kind="model", model="model")

    def says(model: str) -> str | None:
        return policy.opinion(call_of({"model": model}, tool=tool)).rule

    for model in (*NAMES["claude-opus-4-5"], "our-best", "OUR-BEST", "o3-mini", "openai/o3"):
        assert says(model) == "no", model
    assert says("claude-opus-4-1") == "all"
    assert says("") is None


def test_a_model_has_one_tier() -> None:
    """Broken if two names of one model give it two tiers, of which one counts without a word."""
    for key, given in (
        ("tiers", {"claude-opus-4-5": "a", "anthropic/claude-opus-4.5": "b"}),
        ("aliases", {"best": "gpt-5", "openai/best": "gpt-4"}),
    ):
        with pytest.raises(PolicyError, match="twice") as raised:
            Policy.build(document(models={"tiers": {"x": "a"}, key: given}))
        assert raised.value.key == f"models.{key}.{[*given][1]}"


def test_a_budget_lists_models_by_any_of_their_names(governor: Any) -> None:
    """Broken if a budget for a model refuses it by another of its names, or lets another pass."""
    budget = {"name": "b", "per": "session", "models": ["openai/gpt-5", "claude-opus-4-5"]}
    its = governor(document(rule("all", "*"), budgets=[budget]))
    with its.session("s", agent="bot") as session:
        for model in ("gpt-5", "GPT-5-2025-08-07", "anthropic/claude-opus-4.5"):
            with session.model_call(model=model) as call:
                assert call.id
        for model in ("gpt-5-mini", "claude-opus-4-1"):
            with pytest.raises(BudgetExceeded, match="no money"), session.model_call(model=model):
                pass


def test_access_counts_in_a_session(governor: Any) -> None:
    """Broken if what the policy says of models is not asked when a model is called."""
    its = governor(document(rule("all", "*"), models=MODELS))
    with its.session("s", agent="bot", org="evil") as session:
        with pytest.raises(Denied, match="tier premium"), session.model_call(model="gpt-5"):
            pass
        with session.model_call(model="claude-haiku-4-5") as call:
            assert call.id
