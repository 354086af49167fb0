"""The guarded client: which addresses a name may have, and that a connection goes to one that was checked."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from ipaddress import ip_network
from itertools import cycle
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from interlock import Denied
from interlock.egress._addresses import Blocked, checked
from tests.egress._servers import (
    INTERNAL,
    MODES,
    NAMES,
    PUBLIC,
    Names,
    Pair,
    grant,
    outcome,
    send,
    serving,
    url,
)

in_every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.mark.promise(1)
@in_every_mode
def test_an_answer_that_flips(mode: str, pair: Pair) -> None:
    """Broken if a name is resolved once to be checked and once to connect, so that the second answer can differ."""
    flipping = cycle([[PUBLIC], [INTERNAL], [PUBLIC, INTERNAL], [INTERNAL, PUBLIC]])
    names = Names({"api.example.com": lambda: next(flipping)})
    job: Any = ("GET", url(pair), {"headers": {"connection": "close"}})
    answers = send(mode, [grant(pair)], [job] * 40, resolver=names)
    assert [outcome(answer) for answer in answers] == [PUBLIC, "Denied", "Denied", "Denied"] * 10
    assert (len(names.asked), pair.public.connections, pair.internal.connections) == (40, 10, 0)


@pytest.mark.promise(1)
@in_every_mode
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",  # noqa: S104
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::1", "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1",
        "fe80::1%lo", "fec0::1", "ff02::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1",
        "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:a00:1", "127.1", "0x7f.1", "internal.test", "",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(mode: str, address: str) -> None:
    """Broken if a name may lead into the host's own network, in whatever way its address is written."""
    names = Names({"api.example.com": ["93.184.216.34", address]})
    grants = [{"host": "api.example.com", "capabilities": ["read"], "schemes": ["http"]}]
    (answer,) = send(mode, grants, [("GET", "http://api.example.com/", {})], resolver=names)
    assert isinstance(answer, Denied)
    assert "resolves to" in str(answer)
    assert names.asked == ["api.example.com"]


@pytest.mark.promise(1)
@in_every_mode
def test_connections_belong_to_a_grant(mode: str, pair: Pair) -> None:
    """Broken if a request is sent over a connection that was opened under another grant, to an address of that one."""
    with_port = {"host": "api.example.com", "capabilities": ["read"], "schemes": ["http"]}
    grants = [
        {**with_port, "ports": [pair.port], "path": "/in", "addresses": [INTERNAL]},
        {**with_port, "ports": [pair.port], "addresses": [PUBLIC]},
    ]
    where = [[INTERNAL], [PUBLIC]]
    names = Names({"api.example.com": lambda: where.pop(0)})
    jobs: list[Any] = [("GET", url(pair, path), {}) for path in ("/in", "/", "/in/x", "/x")]
    answers = send(mode, grants, jobs, resolver=names)
    assert [outcome(answer) for answer in answers] == [INTERNAL, PUBLIC, INTERNAL, PUBLIC]
    assert (pair.internal.connections, pair.public.connections) == (1, 1)


@in_every_mode
def test_addresses_can_be_granted(mode: str, pair: Pair) -> None:
    """Broken if an internal service cannot be reached on purpose, by its address or as one network."""
    fields = {"capabilities": ["read"], "schemes": ["http"], "ports": [pair.port]}
    grants = [
        {"host": INTERNAL, **fields},
        {"host": "in.example.com", "addresses": ["127.0.0.0/29"], **fields},
    ]
    names = Names({"in.example.com": [INTERNAL]})
    hosts = [INTERNAL, "in.example.com", PUBLIC]
    jobs: list[Any] = [("GET", url(pair, host=host), {}) for host in hosts]
    answers = send(mode, grants, jobs, resolver=names)
    assert [outcome(answer) for answer in answers] == [INTERNAL, INTERNAL, "Denied"]
    assert (names.asked, pair.public.connections) == (["in.example.com"], 0)


@in_every_mode
def test_the_next_address_is_tried(mode: str, pair: Pair) -> None:
    """Broken if a host of which one address is down cannot be reached, or failing is not what httpx calls it."""
    names = Names({"api.example.com": ["127.0.0.3", PUBLIC], "www.example.org": ["127.0.0.3"]})
    addresses = [PUBLIC, "127.0.0.3"]
    grants = [
        grant(pair, host, addresses=addresses)
        for host in ("api.example.com", "www.example.org", "gone.test")
    ]
    names.answers["gone.test"] = []
    jobs: list[Any] = [
        ("GET", url(pair, host=host), {})
        for host in ("api.example.com", "www.example.org", "gone.test")
    ]
    answers = send(mode, grants, jobs, resolver=names)
    assert [outcome(answer) for answer in answers] == [PUBLIC, "ConnectError", "ConnectError"]


@in_every_mode
def test_the_name_is_what_tls_is_for(mode: str) -> None:
    """Broken if the certificate is checked against the address, or the server is not told the name."""
    authority = trustme.CA()
    told: list[str | None] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example.com").configure_cert(server)
    server.sni_callback = lambda _socket, name, _context: told.append(name)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with serving(server) as pair:
        hosts = ["api.example.com", "www.example.org"]
        fields = {"schemes": ["https"]}
        jobs: list[Any] = [("GET", f"https://{host}:{pair.port}/", {}) for host in hosts]
        grants = [grant(pair, host, **fields) for host in hosts]
        answers = send(mode, grants, jobs, resolver=Names(NAMES), verify=trusting)
        untrusting = send(mode, grants, jobs, resolver=Names(NAMES))
    assert [outcome(answer) for answer in answers] == [PUBLIC, "ConnectError"]
    assert [outcome(answer) for answer in untrusting] == ["ConnectError", "ConnectError"]
    assert told == hosts * 2


@pytest.mark.promise(1)
@given(st.ip_addresses())
def test_python_agrees_on_what_is_public(address: Any) -> None:
    """Broken if an address counts as public that Python knows to be something else."""
    with suppress(Blocked):
        assert checked([str(address)], None) == [str(address)]
        assert (address.is_global, address.is_multicast, address.is_reserved) == (
            True,
            False,
            False,
        )


def test_public_addresses_are_public() -> None:
    """Broken if the addresses of public hosts are refused, or come back changed or doubled."""
    public = ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "2a00:1450:4001::200e"]
    assert checked([*public, public[0]], None) == public
    assert checked(["2606:4700:0::1111"], None) == ["2606:4700::1111"]


@pytest.mark.parametrize("address", ["fe80::1%lo", "127.1", "x", "::ffff:10.0.0.1", "10.1.0.0"])
def test_a_granted_network_is_taken_at_its_word(address: str) -> None:
    """Broken if an address passes for one of a granted network that is written otherwise, or has a zone."""
    networks = [ip_network(text) for text in ("fe80::/10", "127.0.0.0/8", "10.0.0.0/16")]
    assert checked(["fe80::1", "127.0.0.9", "10.0.0.1"], networks)
    with pytest.raises(Blocked):
        checked([address], networks)


@in_every_mode
def test_the_system_resolves_what_nobody_else_does(mode: str, pair: Pair) -> None:
    """Broken if a client without a resolver of its own cannot find a host, or believes whatever is found."""
    grants = [grant(pair, "localhost", addresses=[PUBLIC, "::1"])]
    job: Any = ("GET", url(pair, host="localhost"), {})
    assert [outcome(answer) for answer in send(mode, grants, [job])] == [PUBLIC]
    wrong = [grant(pair, "localhost", addresses=["10.0.0.0/8"])]
    assert [outcome(answer) for answer in send(mode, wrong, [job])] == ["Denied"]


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
def test_resolving_has_the_timeout_of_connecting(mode: str, pair: Pair) -> None:
    """Broken if a name server that does not answer holds a coroutine for longer than the request may take."""
    is_over = threading.Event()

    def hangs(_host: str, _port: int) -> list[str]:
        is_over.wait()
        return [PUBLIC]

    job: Any = ("GET", url(pair), {"timeout": 0.05})
    try:
        (answer,) = send(mode, [grant(pair)], [job], resolver=hangs)
    finally:
        is_over.set()
    assert outcome(answer) == "ConnectTimeout"
    assert pair.public.connections == 0


@in_every_mode
def test_a_broken_resolver_is_not_hidden(mode: str, pair: Pair) -> None:
    """Broken if the error of a resolver that is wrong is taken for that of a host that is down."""

    def broken(host: str, port: int) -> list[str]:
        raise KeyError(host, port)

    (answer,) = send(mode, [grant(pair)], [("GET", url(pair), {})], resolver=broken)
    assert outcome(answer) == "KeyError"
