"""Grants: what they may say, what they cover, and what they refuse to be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from interlock.evaluators._grants import Grant, Grants, capability_of, is_capability
from interlock.evaluators._url import parse


def grant(**fields: Any) -> Grant:
    """Parse a grant of `read`, unless told otherwise."""
    return Grant.model_validate({"capabilities": ["read"], **fields})


def covers(url: str, *wanted: str, **fields: Any) -> bool:
    """Whether a grant gives the capabilities at the URL."""
    found = Grants([grant(**fields)]).find(parse(url), frozenset(wanted or ["read"]))
    return isinstance(found, Grant)


@pytest.mark.parametrize(
    "host",
    ["*.com", "*.co.uk", "*.github.io", "*.s3.amazonaws.com", "*.test", "*.localhost", "*.xn--p1ai", "*.ck", "*.foo.ck",
     "*.COM", "*", "*.", "**.example.com", "*.*.example.com", "a.*.example.com", "a*.example.com", "*example.com",
     "*.192.0.2.1", "*.[::1]", "*.1", "", ".", "example.com.", ".example.com", "exa mple.com", "ex_ample.com",
     "https://example.com", "example.com/x", "example.com:443", "u@example.com", "münchen.example", "::1", "[::1",
     "[fe80::1%eth0]", "[::ffff:1.2.3.4]", "[0::1]", "127.1", "0x7f.1", "010.0.0.1", "2130706433", "a..b", "%61.test",
     f"{'a' * 64}.test"],
)  # fmt: skip
def test_hosts_that_cannot_be_granted(host: str) -> None:
    """Broken if a host is granted that is none, that clients spell differently, or below which anybody may register."""
    with pytest.raises(ValidationError):
        grant(host=host)


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("API.Example.COM", "api.example.com"),
        ("*.Example.com", "*.example.com"),
        ("*.example.co.uk", "*.example.co.uk"),
        ("*.corp.internal", "*.corp.internal"),
        ("*.mine.github.io", "*.mine.github.io"),
        ("github.io", "github.io"),
        ("localhost", "localhost"),
        ("db1", "db1"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
    ],
)
def test_hosts_that_can(host: str, meant: str) -> None:
    """Broken if a host that people have cannot be granted."""
    assert grant(host=host).host == meant


@pytest.mark.parametrize(
    "fields",
    [
        {"capabilities": []},
        {"capabilities": ["Read"]},
        {"capabilities": ["read "]},
        {"capabilities": [""]},
        {"capabilities": ["read."]},
        {"capabilities": ["a..b"]},
        {"capabilities": ["réad"]},
        {"capabilities": ["a" * 101]},
        {"capabilities": "read"},
        {"schemes": []},
        {"schemes": ["ftp"]},
        {"schemes": ["HTTPS"]},
        {"ports": []},
        {"ports": [0]},
        {"ports": [65536]},
        {"ports": ["443"]},
        {"ports": [True]},
        {"ports": [443.5]},
        {"path": ""},
        {"path": "v1"},
        {"path": "/v1/../v2"},
        {"path": "/v1//x"},
        {"path": "/v1?x"},
        {"addresses": []},
        {"addresses": ["0.0.0.0/0"]},
        {"addresses": ["::/0"]},
        {"addresses": ["10.0.0.1/8"]},
        {"addresses": ["10.1"]},
        {"addresses": ["localhost"]},
        {"host": "192.0.2.1", "addresses": ["192.0.2.1"]},
        {"method": ["GET"]},
    ],
    ids=str,
)
def test_a_wrong_grant_is_refused(fields: dict[str, Any]) -> None:
    """Broken if a grant that says nothing, too much or something unknown is taken for one."""
    with pytest.raises(ValidationError):
        grant(**{"host": "api.example.com", **fields})
    assert grant(host="api.example.com").host == "api.example.com"


@pytest.mark.promise(1)
def test_a_wildcard_is_one_label() -> None:
    """Broken if `*.example.com` covers the domain itself, a deeper name, or an encoded label."""
    reach = {
        url: covers(f"https://{url}/", host="*.example.com")
        for url in ("a.example.com", "example.com", "a.b.example.com", "xn--bcher-kva.example.com")
    }
    assert list(reach.values()) == [True, False, False, False]
    assert not covers("https://aexample.com/", host="*.example.com")
    assert covers("https://xn--bcher-kva.example.com/", host="xn--bcher-kva.example.com")


@pytest.mark.promise(1)
def test_scheme_and_port_are_granted_too() -> None:
    """Broken if a grant of https gives http, or a grant of one port another."""
    host = "api.example.com"
    assert covers(f"https://{host}/", host=host)
    assert not covers(f"http://{host}/", host=host)
    assert not covers(f"https://{host}:80/", host=host)
    assert covers(f"http://{host}/", host=host, schemes=["http"])
    assert not covers(f"http://{host}:443/", host=host, schemes=["http", "https"])
    assert covers(f"https://{host}:8443/", host=host, ports=[8443])
    assert not covers(f"https://{host}/", host=host, ports=[8443])


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("prefix", "path", "is_covered"),
    [
        ("/v1", "/v1", True),
        ("/v1", "/v1/", True),
        ("/v1", "/v1/x?y=/../z", True),
        ("/v1", "/v10", False),
        ("/v1", "/", False),
        ("/v1", "/V1", False),
        ("/v1", "/v1/../x", False),
        ("/v1", "/v1/%2e%2e/x", False),
        ("/v1", "/x/v1", False),
        ("/v1/", "/v1", False),
        ("/v1/", "/v1/x", True),
        ("/", "/x", True),
        ("/", "/x//y", False),
        (None, "/x//../y%2f", True),
    ],
)
def test_paths_are_granted_by_segments(prefix: str | None, path: str, *, is_covered: bool) -> None:
    """Broken if a path beside the granted one is covered, or one that a server could take for it."""
    fields = {} if prefix is None else {"path": prefix}
    assert is_covered == covers(f"https://a.test{path}", host="a.test", **fields)


@pytest.mark.promise(1)
def test_one_grant_has_to_give_all() -> None:
    """Broken if the destination of one grant and the capability of another add up to what nobody granted."""
    grants = Grants(
        [grant(host="a.test"), grant(host="b.test", capabilities=["read", "write"]),
         grant(host="a.test", capabilities=["write"], path="/in")]
    )  # fmt: skip

    def has(url: str, *words: str) -> bool:
        return isinstance(grants.find(parse(url), frozenset(words)), Grant)

    assert has("https://a.test/", "read")
    assert not has("https://a.test/", "write")
    assert has("https://a.test/in", "write")
    assert not has("https://a.test/in", "read", "write")
    assert has("https://b.test/", "read", "write")
    assert not has("https://b.test/", "read", "admin")


def test_capabilities() -> None:
    """Broken if a word that is no capability is one, or the other way round."""
    good = ["read", "payments.write", "a-b_c.d", "s3"]
    bad = ["", ".", "a.", "-a", "a..b", "a-_b", "Read", "r e", "\u0440ead", "read\n", "a" * 101]
    assert [word for word in good if not is_capability(word)] == []
    assert [word for word in bad if is_capability(word)] == []


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("method", "capability"),
    [
        ("GET", "read"),
        ("get", "read"),
        ("HEAD", "read"),
        ("OPTIONS", "read"),
        ("POST", "write"),
        ("DELETE", "write"),
        ("TRACE", "write"),
        ("PROPFIND", "write"),
        ("CONNECT", None),
        ("connect", None),
        ("", None),
        ("GET ", None),
        ("G\u0115T", None),
        ("GET\r\nX", None),
        ("\uff27\uff25\uff34", None),
        ("OPT\u0131ONS", None),
    ],
)
def test_methods(method: str, capability: str | None) -> None:
    """Broken if a method that changes something counts as reading, or one that opens a tunnel as anything."""
    assert capability_of(method) == capability
