"""The webhook, against real servers: signed, retried, sent once each, and never in the way of a call."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import standardwebhooks

from interlock import ApprovalNeeded, Governor, Ticket, governed, notify
from interlock.errors import Misuse
from interlock.notify import Webhook
from interlock.store import tickets
from tests.asking._desk import ASK, pay

Make = Callable[..., Governor]
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
SOON = timedelta(milliseconds=5)


@governed(secrets=["card"])
def charge(to: str, card: str) -> str:
    """Charge a card."""
    return to


class Receiver(ThreadingHTTPServer):
    """
    Takes messages; answers with `statuses` in turn, then with 204.

    Attributes:
        got: Headers and body of each request, in order.
    """

    daemon_threads = True

    def __init__(self, *statuses: int, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses = list(statuses)
        self.changed = threading.Condition()
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def wait(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        """Return the requests, once there are so many."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.got) >= count)
            return list(self.got)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Take one message."""
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.changed:
            self.server.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status = self.server.statuses.pop(0) if self.server.statuses else 204
            self.server.changed.notify_all()
        self.server.may_answer.wait()
        with suppress(OSError):
            self.send_response(status)
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

    def do_GET(self) -> None:
        """Note who follows a redirect."""
        self.server.got.append(({"followed": self.path}, b""))

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Stay silent."""


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    """Run a receiver."""
    with Receiver(*statuses) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
        thread.start()
        yield receiver
        receiver.may_answer.set()
        receiver.shutdown()
        thread.join()


def hook(receiver: Receiver, **options: Any) -> Webhook:
    """Return the webhook that tells *receiver*."""
    return Webhook(receiver.url, secret=SECRET, plain_http=True, **{"pause": SOON, **options})


def asked(one: Governor, *names: str) -> list[Ticket]:
    """Make calls that have to be asked about, and return their tickets."""
    found = []
    with one.session("s", agent="bot", user="u-17"):
        for name in names:
            with pytest.raises(ApprovalNeeded) as needed:
                charge(name, "4111-planted") if name.startswith("card") else pay(name)
            found.append(needed.value.ticket)
    return found


def test_a_request_is_told_and_signed(governor: Make) -> None:
    """Broken if the receiver cannot verify a message, does not see what will run, or sees a secret."""
    with receiving() as receiver:
        [ticket] = asked(governor(ASK, plugins=[hook(receiver)]), "card-1")
        [(headers, body)] = receiver.wait(1)
    said = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert headers["webhook-id"] == ticket.id
    assert headers["content-type"] == "application/json"
    assert said["type"] == "approval.requested"
    assert said["data"]["id"] == ticket.id
    assert said["data"]["arguments"] == {"to": "card-1", "card": {"$secret": True}}
    assert b"planted" not in body
    assert body == json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    for changed in (body.replace(b"card-1", b"card-2"), body + b" "):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(SECRET).verify(changed, headers)
    for name in ("webhook-id", "webhook-timestamp"):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(SECRET).verify(body, {**headers, name: headers[name] + "1"})


def test_a_request_is_told_once(governor: Make) -> None:
    """Broken if a call that is made again, and finds its ticket open, tells the receiver a second time."""
    with receiving() as receiver:
        one = governor(ASK, plugins=[hook(receiver)])
        ids = [ticket.id for ticket in asked(one, "x", "x", "y", "x")]
        one.close()
        told = [headers["webhook-id"] for headers, _ in receiver.got]
    assert told == [ids[0], ids[2]]


@pytest.mark.parametrize("statuses", [(500, 503), (429,), (408, 425, 502)])
def test_a_failure_that_passes_is_tried_again(statuses: tuple[int, ...], governor: Make) -> None:
    """Broken if a receiver that was down for a moment is not told, or cannot tell that it is the same message."""
    with receiving(*statuses) as receiver:
        [ticket] = asked(governor(ASK, plugins=[hook(receiver)]), "x")
        got = receiver.wait(len(statuses) + 1)
    assert {headers["webhook-id"] for headers, _ in got} == {ticket.id}
    assert len({body for _, body in got}) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410])
def test_a_failure_that_stays_is_not_tried_again(
    status: int, governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a receiver that refuses is pestered, a redirect is followed, or nobody learns of either."""
    with receiving(status) as receiver, caplog.at_level(logging.ERROR, "interlock"):
        one = governor(ASK, plugins=[hook(receiver)])
        first, second = asked(one, "x", "y")
        one.close()
        told = [headers.get("webhook-id") for headers, _ in receiver.got]
    assert told == [first.id, second.id]
    assert f"ticket {first.id}: status {status}" in caplog.text
    assert receiver.url not in caplog.text


def test_it_gives_up_at_last(
    governor: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if one message that nobody takes keeps all others from being sent."""
    monkeypatch.setattr(notify, "MAX_TRIES", 3)
    with receiving(500, 500, 500) as receiver, caplog.at_level(logging.ERROR, "interlock"):
        one = governor(ASK, plugins=[hook(receiver)])
        first, second = asked(one, "x", "y")
        one.close()
        told = [headers["webhook-id"] for headers, _ in receiver.got]
    assert told == [first.id] * 3 + [second.id]
    assert f"ticket {first.id}: status 500" in caplog.text


def test_nobody_there_is_no_harm(governor: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a call fails, or waits, because nobody listens; or if closing then never ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    webhook = Webhook(url, secret=SECRET, plain_http=True, closing=SOON)
    with caplog.at_level(logging.ERROR, "interlock"):
        one = governor(ASK, plugins=[webhook])
        [ticket] = asked(one, "x")
        one.close()
    assert f"is not told of tickets {ticket.id}" in caplog.text


def test_a_slow_receiver_holds_up_nobody(governor: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Broken if a call waits for a receiver that takes the message and never answers, or closing does."""
    with receiving() as receiver, caplog.at_level(logging.ERROR, "interlock"):
        receiver.may_answer.clear()
        one = governor(ASK, plugins=[hook(receiver, closing=SOON)])
        asked(one, "x", "y", "z")
        receiver.wait(1)
        one.close()
        assert "is not told of tickets" in caplog.text


def test_closing_sends_what_waits(governor: Make) -> None:
    """Broken if a program that ends right after its calls tells nobody of them."""
    with receiving(503, 204, 503) as receiver:
        one = governor(ASK, plugins=[hook(receiver)])
        ids = [ticket.id for ticket in asked(one, *"abcdef")]
        one.close()
        assert list(dict.fromkeys(h["webhook-id"] for h, _ in receiver.got)) == ids


def test_the_queue_is_bounded(
    governor: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if a receiver that is down fills the memory, or what is dropped is dropped silently."""
    monkeypatch.setattr(notify, "MAX_WAITING", 2)
    with receiving() as receiver, caplog.at_level(logging.ERROR, "interlock"):
        receiver.may_answer.clear()
        one = governor(ASK, plugins=[hook(receiver)])
        ids = [ticket.id for ticket in asked(one, *"abcd")]
        receiver.may_answer.set()
        one.close()
        assert [h["webhook-id"] for h, _ in receiver.got] == ids[:2]
    assert all(f"is not told of ticket {one}" in caplog.text for one in ids[2:])


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"])
def test_a_private_address_is_not_contacted(
    address: str, governor: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken if whoever controls the URL's name can have the host's own network contacted."""
    with receiving() as receiver, caplog.at_level(logging.ERROR, "interlock"):
        webhook = Webhook(
            f"http://hooks.example.com:{receiver.server_port}/",
            secret=SECRET,
            plain_http=True,
            resolver=lambda *_: [address],
        )
        one = governor(ASK, plugins=[webhook])
        asked(one, "x")
        one.close()
        assert receiver.got == []
    assert "not public" in caplog.text


def test_a_private_network_can_be_allowed(governor: Make) -> None:
    """Broken if a receiver in the host's own network cannot be told, though the host names that network."""
    with receiving() as receiver:
        webhook = Webhook(
            f"http://hooks.example.com:{receiver.server_port}/",
            secret=SECRET,
            plain_http=True,
            addresses=["127.0.0.0/8"],
            resolver=lambda *_: ["127.0.0.1"],
        )
        one = governor(ASK, plugins=[webhook])
        asked(one, "x")
        one.close()
        assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("url", "secret", "problem"),
    [
        ("http://hooks.example.com/", SECRET, "https"),
        ("https://user@hooks.example.com/", SECRET, "URL"),
        ("hooks.example.com", SECRET, "URL"),
        ("https://hooks.example.com/", "", "secret"),
        ("https://hooks.example.com/", "whsec_c2hvcnQ=", "24 to 64"),
        ("https://hooks.example.com/", "not base64 at all!!!!!!!!!!!!!!!!!!!", "base64"),
    ],
)
def test_what_cannot_work_is_said_at_once(url: str, secret: str, problem: str) -> None:
    """Broken if a webhook that can never be verified, or is readable by others, is found out only when it matters."""
    with pytest.raises(Misuse, match=problem):
        Webhook(url, secret=secret)


def test_an_answer_comes_back(governor: Make) -> None:
    """Broken if a receiver cannot answer the ticket that it was told of."""
    with receiving() as receiver:
        one = governor(ASK, plugins=[hook(receiver)])
        with one.session("s", agent="bot"):
            with pytest.raises(ApprovalNeeded):
                pay("x")
            [(headers, body)] = receiver.wait(1)
            said = standardwebhooks.Webhook(SECRET).verify(body, headers)
            one.write(tickets.approve, said["data"]["id"], by="ann")
            assert pay("x") == "paid x"
