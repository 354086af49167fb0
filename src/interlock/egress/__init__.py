"""
An HTTP client that goes only where grants allow, on every redirect and to every address that a name resolves to.

::

    from interlock import egress

    with egress.client([{"host": "api.example.com", "capabilities": ["read"]}]) as client:
        client.get("https://api.example.com/orders", follow_redirects=True)

The evaluator `egress` judges the URL that a tool is given. What the tool's own client then does, it cannot see: the
host may redirect, and its name may resolve to an address in the host's own network. This client sees both. It needs
the extra `interlock[egress]`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pydantic import ValidationError

from interlock.errors import PluginError, PolicyError
from interlock.evaluators._grants import Grant

if TYPE_CHECKING:
    import httpx

__all__ = ["ClientOptions", "Grant", "async_client", "client"]


class ClientOptions(TypedDict, total=False):
    """The options of httpx's clients that are passed on. Those that lead round the checks are not among them."""

    auth: Any
    params: Any
    headers: Any
    cookies: Any
    timeout: Any
    follow_redirects: bool
    max_redirects: int
    event_hooks: Any
    base_url: Any
    default_encoding: str | Callable[[bytes], str]


def client(
    grants: Iterable[Grant | Mapping[str, object]],
    *,
    resolver: Callable[[str, int], Iterable[str]] | None = None,
    verify: ssl.SSLContext | None = None,
    limits: httpx.Limits | None = None,
    **options: Unpack[ClientOptions],
) -> httpx.Client:
    """
    Return an `httpx.Client` that sends a request only if one of *grants* gives its destination and its method.

    GET, HEAD and OPTIONS need the capability `read`, other methods `write`, and CONNECT is always refused. Each
    request is checked, so each redirect is. A name is resolved once for a connection; all its addresses have to be
    public, or within the grant's `addresses`, and the connection goes to one of them. Proxies and logins from the
    environment are not used: through a proxy, addresses cannot be seen.

    Args:
        grants: Where requests may go. The first that fits a request is the one it is sent under.
        resolver: Gives the addresses of a host and port, instead of the system; raises OSError when it has none.
        verify: Which certificates are trusted, instead of the usual ones.
        limits: On connections, for each grant.
        options: As of `httpx.Client`; see `ClientOptions`.

    Raises:
        PluginError: httpx is not installed.
        PolicyError: a grant is wrong.
        TypeError: an option is not one that can be passed on.

    The client's methods raise what httpx raises, and `Denied` for what was not sent. Its `decision` has the reason;
    its `call` has the method and the URL, and the id and identity of the governed call in which it was made.
    """
    transports = _loaded(options)
    trusting = _trusting(verify)
    guarded = transports.Guarded(_parsed(grants), resolver, trusting, limits)
    made: httpx.Client = transports.httpx.Client(transport=guarded, trust_env=False, **options)
    return made


def async_client(
    grants: Iterable[Grant | Mapping[str, object]],
    *,
    resolver: Callable[[str, int], Iterable[str]] | None = None,
    verify: ssl.SSLContext | None = None,
    limits: httpx.Limits | None = None,
    **options: Unpack[ClientOptions],
) -> httpx.AsyncClient:
    """
    Return an `httpx.AsyncClient` that does what `client` does, on asyncio and on trio.

    The *resolver* is a plain function here too; it is called in a worker thread.
    """
    transports = _loaded(options)
    trusting = _trusting(verify)
    guarded = transports.AsyncGuarded(_parsed(grants), resolver, trusting, limits)
    made: httpx.AsyncClient = transports.httpx.AsyncClient(
        transport=guarded, trust_env=False, **options
    )
    return made


def _loaded(options: ClientOptions) -> Any:
    unknown = sorted(options.keys() - ClientOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"not an option of this client: {', '.join(unknown)}; see ClientOptions")
    try:
        from interlock.egress import _transports  # noqa: PLC0415 - httpx is an extra
    except ImportError as error:
        raise PluginError(
            f"interlock.egress needs {error.name}, which is not installed: "
            "pip install 'interlock[egress]'",
            plugin="interlock.egress",
        ) from error
    return _transports


def _trusting(verify: ssl.SSLContext | None) -> ssl.SSLContext | None:
    if verify is not None and not isinstance(verify, ssl.SSLContext):
        raise TypeError("verify is an ssl.SSLContext, or left out")
    return verify


def _parsed(grants: Iterable[Grant | Mapping[str, object]]) -> list[Grant]:
    parsed = []
    for number, grant in enumerate(grants):
        try:
            parsed.append(Grant.model_validate(grant))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(["grants", str(number), *map(str, first["loc"])])
            message = str(first["msg"]).removeprefix("Value error, ")
            raise PolicyError(message, key=key) from None
    return parsed
