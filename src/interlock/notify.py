"""
Webhook: tells another service of each request for approval, signed, retried, and without holding up the call.

What is sent follows Standard Webhooks: the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, an
HMAC-SHA256 over id, time and body. It needs the extra `interlock[notify]`.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec

from interlock import egress
from interlock._canonical import encode
from interlock._clock import Clock, SystemClock
from interlock._threads import begin
from interlock._ticket import Ticket
from interlock.errors import InterlockError, Misuse, PluginError
from interlock.evaluators._url import Unclear, parse
from interlock.hookspecs import hookimpl

__all__ = ["Webhook"]

REQUESTED = "approval.requested"
"""What kind of message it is, in its `type`."""

MAX_WAITING = 1_000
"""So many messages wait at most; what comes then is dropped, and the log says so."""

MAX_TRIES = 8
"""So often a message is sent: over about two minutes, each pause twice as long as the one before."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

# What another try may mend: the receiver was too slow, too early, too busy, or broken.
_PASSING = frozenset({408, 425, 429})

_SERVERS_FAULT = range(500, 600)
_TAKEN = range(200, 300)

_SECRET_BYTES = range(24, 65)

log = logging.getLogger("interlock")


class _Failed(Exception):
    """The receiver did not take the message; another try may do."""


class Webhook:
    """
    A plugin that sends each ticket that is opened to a URL, for `Governor(plugins=[Webhook(url, secret=…)])`.

    The body is canonical JSON: `type`, `timestamp`, and the ticket in `data`, its secrets masked as everywhere. The
    `webhook-id` is the ticket's id at each try, so that a receiver can tell a repetition. Redirects are not followed,
    and a name that resolves to an address that is not public is not contacted. Whatever fails is logged; no call waits
    for it.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        addresses: Iterable[str] | None = None,
        plain_http: bool = False,
        timeout: timedelta = timedelta(seconds=10),
        closing: timedelta = timedelta(seconds=5),
        pause: timedelta = timedelta(seconds=_FIRST_PAUSE_S),
        clock: Clock | None = None,
        resolver: Callable[[str, int], Iterable[str]] | None = None,
    ) -> None:
        """
        Send nothing yet.

        Args:
            url: Where to, https.
            secret: Shared with the receiver: `whsec_` and 24 to 64 bytes in base64.
            addresses: The networks that the URL's name may resolve to; None: any public address.
            plain_http: Whether *url* may be http: what is sent can then be read on its way.
            timeout: How long the receiver is waited for, at each step of a try.
            closing: How long `close` waits at most until all is sent.
            pause: How long is waited before the second try; twice as long before each further one.
            clock: Where the time of a message is read.
            resolver: Gives the addresses of a host and port, instead of the system.

        Raises:
            PluginError: what it needs is not installed.
            Misuse: the URL or the secret cannot be used.
        """
        self._url = url
        self._signer, self._tenacity = _loaded(secret)
        grant = _grant(url, addresses, plain_http=plain_http)
        self._connect = partial(
            egress.client,
            [grant],
            resolver=resolver,
            timeout=timeout.total_seconds(),
            follow_redirects=False,
            headers={"content-type": "application/json", "user-agent": "interlock"},
        )
        self._closing_s = closing.total_seconds()
        self._pause_s = pause.total_seconds()
        self._clock = clock or SystemClock()
        self._thread: threading.Thread | None = None
        self._is_closed: bool = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._client = self._connect()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._thread = None
        self._is_closed = False
        self._is_over = threading.Event()

    @hookimpl
    def interlock_approval_requested(self, ticket: Ticket) -> None:
        """Have *ticket* sent, soon."""
        if self._pid != os.getpid():  # forked: the thread, and what waits, are the parent's
            self._begin()
        body = message(ticket)
        with self._changed:
            if self._is_closed or len(self._waiting) >= MAX_WAITING:
                why = (
                    "it is closed" if self._is_closed else f"{MAX_WAITING:,} messages wait already"
                )
                log.error("the webhook is not told of ticket %s: %s", ticket.id, why)
                return
            self._waiting.append((ticket.id, body))
            if self._thread is None:
                self._thread = begin(self._serve, name="interlock-webhook")
            self._changed.notify_all()

    @hookimpl
    def interlock_closing(self) -> None:
        """Do as `close` does."""
        self.close()

    def close(self) -> None:
        """Wait until all is sent, for a bounded time, then give up the rest, which the log says. Again: nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
            self._changed.wait_for(lambda: not self._waiting, self._closing_s)
            left = [ticket_id for ticket_id, _ in self._waiting]
        self._is_over.set()
        if left:
            log.error("the webhook was closed, and is not told of tickets %s", ", ".join(left))
        if thread is not None:
            thread.join(1.0 if left else self._closing_s)
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                ticket_id, body = self._waiting[0]
            try:
                self._send(ticket_id, body)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next message may do better
                if not self._is_over.is_set():
                    log.error(  # noqa: TRY400 - its traceback would show the URL
                        "the webhook could not be told of ticket %s: %s", ticket_id, _told(error)
                    )
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
            if self._is_over.is_set():
                return

    def _send(self, ticket_id: str, body: bytes) -> None:
        tenacity = self._tenacity
        trying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Failed),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(MAX_TRIES), tenacity.stop_when_event_set(self._is_over)
            ),
            # The random part keeps many senders from coming back together.
            wait=tenacity.wait_exponential(multiplier=self._pause_s, max=_LONGEST_PAUSE_S)
            + tenacity.wait_random(0, self._pause_s),
            sleep=tenacity.sleep_using_event(self._is_over),
            reraise=True,
        )
        trying(self._try, ticket_id, body)

    def _try(self, ticket_id: str, body: bytes) -> None:
        now = self._clock.now()
        headers = {
            "webhook-id": ticket_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(ticket_id, now, body.decode()),
        }
        try:
            # What it answers is not read: it could be without end.
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                status = answer.status_code
        except InterlockError:
            raise
        except Exception as error:
            raise _Failed(type(error).__name__) from error
        if status in _PASSING or status in _SERVERS_FAULT:
            raise _Failed(f"status {status}")
        if status not in _TAKEN:
            raise ConnectionError(f"status {status}, which another try does not mend")


def message(ticket: Ticket) -> bytes:
    """Return what is sent of *ticket*: canonical JSON, the same at each try."""
    data: dict[str, Any] = msgspec.to_builtins(ticket)
    data["arguments"] = msgspec.json.decode(ticket.arguments)
    opened: str = data["opened_at"]
    return encode({"type": REQUESTED, "timestamp": opened, "data": data})


def _told(error: Exception) -> str:
    return (
        str(error)
        if isinstance(error, (_Failed, ConnectionError, InterlockError))
        else type(error).__name__
    )


def _loaded(secret: str) -> tuple[Any, Any]:
    try:
        import standardwebhooks  # noqa: PLC0415 - an extra
        import tenacity  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PluginError(
            f"interlock.notify needs {error.name}, which is not installed: pip install 'interlock[notify]'",
            plugin="interlock.notify",
        ) from error
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _SECRET_BYTES:
        raise Misuse(
            "the secret of a webhook is 'whsec_' and 24 to 64 bytes in base64; "
            "make one with base64.b64encode(secrets.token_bytes(32))"
        )
    return standardwebhooks.Webhook(key), tenacity


def _grant(url: str, addresses: Iterable[str] | None, *, plain_http: bool) -> dict[str, object]:
    try:
        to = parse(url)
    except Unclear as error:
        raise Misuse(f"the URL of a webhook cannot be used: {error}") from None
    if to.scheme != "https" and not plain_http:
        raise Misuse(
            "the URL of a webhook is https; with plain_http=True it may be http, and be read on its way"
        )
    grant: dict[str, object] = {
        "host": to.host,
        "capabilities": ["write"],
        "schemes": [to.scheme],
        "ports": [to.port],
    }
    return grant if addresses is None else {**grant, "addresses": list(addresses)}
