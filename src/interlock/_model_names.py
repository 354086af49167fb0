"""Names of models: one name for what providers, gateways and releases call by many."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 200

# Providers and gateways that put their name before a slash. Another prefix stays: a model of somebody unknown is
# another model.
_PREFIXES = frozenset({
    "anthropic",
    "azure",
    "azure_ai",
    "bedrock",
    "cohere",
    "deepseek",
    "fireworks_ai",
    "gemini",
    "google",
    "groq",
    "meta-llama",
    "mistral",
    "mistralai",
    "models",
    "openai",
    "openrouter",
    "publishers",
    "together_ai",
    "vertex_ai",
    "x-ai",
    "xai",
})  # fmt: skip
_VENDOR = re.compile(
    r"(?:(?:us|eu|apac|au|ca|jp|us-gov|global)\.)?"
    r"(?:amazon|anthropic|cohere|deepseek|meta|mistral|openai)\."
)
_DOT = re.compile(r"(?<=[0-9])\.(?=[0-9])")
# The first version of a model is its name without; a later one is another model, unless a date says which it is.
_BEDROCK_VERSION = re.compile(r"(?:(?<=-20[0-9]{6})-v[0-9]{1,2}|-v1)(?::[0-9]{1,2})?$")
_RELEASE = re.compile(r"(?:[-@](?:20[0-9]{6}|20[0-9]{2}-[0-9]{2}-[0-9]{2})|[-:@]latest)$")


_GLOB = re.compile(r"[*?\[]")


def model_pattern(pattern: str) -> str:
    """
    Return *pattern*, a model's name or a glob of names, as it is matched with what `canonical_model` returns.

    Raises:
        ValueError: it is a glob with a provider, region, date or `latest`, which canonical names do not have.
    """
    if not _GLOB.search(pattern):
        return canonical_model(pattern)
    found = pattern.strip().lower()
    if canonical_model(found) != found:
        raise ValueError(
            f"a glob is matched with names without provider, region, date and 'latest'; {pattern!r} has one of them"
        )
    return found


@lru_cache(maxsize=4096)
def canonical_model(name: str) -> str:
    """
    Return *name* as policies and budgets compare it: lower case, without provider, region, date and `latest`.

    `anthropic/claude-opus-4-5-20251101`, `us.anthropic.claude-opus-4-5-20251101-v1:0` and `claude-opus-4-5@20251101`
    are all `claude-opus-4-5`. What is not known as a prefix stays, and so does a name that is longer than any is.

    Source of the forms: the model identifiers of OpenAI, Anthropic, Amazon Bedrock, Google Vertex AI and OpenRouter.
    """
    if len(name) > _LONGEST:
        return name
    found = name.strip().lower()
    while "/" in found:
        prefix, rest = found.split("/", 1)
        if prefix not in _PREFIXES or not rest:
            break
        found = rest
    if vendor := _VENDOR.match(found):
        found = _BEDROCK_VERSION.sub("", found[vendor.end() :])
    if found.startswith("claude"):  # gateways write its versions with a dot, its maker with a dash
        found = _DOT.sub("-", found)
    return _RELEASE.sub("", found) or name
