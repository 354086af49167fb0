"""govern(): a client all of whose model calls are made as a session lets them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from anthropic._base_client import AsyncAPIClient, SyncAPIClient

from interlock import Session, Usage, clients
from interlock_anthropic.dialect import DIALECT

_C = TypeVar("_C", bound="SyncAPIClient | AsyncAPIClient")


def govern(
    client: _C,
    *,
    session: Session | None = None,
    accepted: Iterable[str] = (),
    assume: Usage = Usage(),  # noqa: B008 - it is frozen
    provider: str | None = None,
    secrets: Iterable[str] = (),
) -> _C:
    """
    Return a copy of *client* whose model calls are made only as an Interlock session lets them.

    It is used as *client* is, and shares its connections. *client* itself stays as it is, ungoverned.

    Args:
        client: An `Anthropic` or `AsyncAnthropic`, or the package's client of another platform.
        session: In which calls are made; None: in the one that is current then.
        accepted: Names of what Interlock cannot govern and that may pass all the same: endpoints by their path, such
            as `files` or `messages.batches`; kinds of tools that run at the provider, without their date, such as
            `web_search`; `mcp`; `container`; `fallbacks`; `tool_runner`, whose functions are judged where they are
            `@governed`.
        assume: What a call is taken to use at most where its request does not say: `input_tokens` where input is kept
            at the provider. What is not known, a budget that limits it refuses.
        provider: Whose models they are, for prices; None: `anthropic`, or that of the client's platform.
        secrets: Fields of requests, such as `messages`, that are judged and neither stored nor shown.

    Raises:
        Misuse: *client* is none, or governed already.
    """
    return clients.govern(
        client,
        DIALECT,
        session=session,
        accepted=accepted,
        assume=assume,
        provider=provider,
        secrets=secrets,
    )
