"""govern(): a client all of whose model calls are made as a session lets them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from openai import AsyncOpenAI, OpenAI

from interlock import Session, Usage, clients
from interlock_openai.dialect import DIALECT

_C = TypeVar("_C", bound="OpenAI | AsyncOpenAI")


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
        client: An `OpenAI` or `AsyncOpenAI`, or one of a class derived from them.
        session: In which calls are made; None: in the one that is current then.
        accepted: Names of what Interlock cannot govern and that may pass all the same: endpoints by their path, such
            as `files` or `fine_tuning.jobs`; kinds of tools that run at the provider, such as `web_search`;
            `background`; `websocket`.
        assume: What a call is taken to use at most where its request does not say: `output_tokens` where it has no
            limit, `input_tokens` where input is kept at the provider. What is in neither is not known, and a budget
            that limits it refuses the call.
        provider: Whose models they are, for prices; None: `openai`, or `azure` for its clients.
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
