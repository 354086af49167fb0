"""The grammar of URLs, rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.evaluators._url import (
    MAX_CHARACTERS,
    Destination,
    Unclear,
    is_plain_path,
    parse,
    parse_host,
)


def fault(url: str) -> str | None:
    """Why the URL is refused, if it is."""
    try:
        parse(url)
    except Unclear as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("https://a.test", Destination("https", "a.test", 443, "/", "/")),
        ("http://a.test/", Destination("http", "a.test", 80, "/", "/")),
        ("HTTPS://A.Test:8443/x/Y?q=1#f", Destination("https", "a.test", 8443, "/x/Y", "/x/Y?q=1")),
        ("https://a.test?q", Destination("https", "a.test", 443, "/", "/?q")),
        ("https://a.test?q/r", Destination("https", "a.test", 443, "/", "/?q/r")),
        ("https://a.test#f/g?h", Destination("https", "a.test", 443, "/", "/")),
        ("https://a.test/?", Destination("https", "a.test", 443, "/", "/?")),
        ("https://a.test/x?y?z#a#b", Destination("https", "a.test", 443, "/x", "/x?y?z")),
        ("https://192.0.2.1:1/x", Destination("https", "192.0.2.1", 1, "/x", "/x")),
        (
            "http://[2001:DB8::1]:65535/",
            Destination("http", "[2001:db8::1]", 65535, "/", "/"),
        ),
        ("https://localhost/", Destination("https", "localhost", 443, "/", "/")),
        ("https://db1/", Destination("https", "db1", 443, "/", "/")),
        ("https://1.a/", Destination("https", "1.a", 443, "/", "/")),
    ],
)
def test_what_is_clear(url: str, destination: Destination) -> None:
    """Broken if a URL that all clients read in one way is refused or read in another."""
    assert parse(url) == destination


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "https://"),
        ("a.test/x", "https://"),
        ("//a.test/x", "https://"),
        ("https:/a.test", "https://"),
        ("https:a.test", "https://"),
        ("ftp://a.test/", "https://"),
        ("https://", "empty"),
        ("https:///a.test", "empty"),
        ("https://a..test", "empty label"),
        ("https://a.test./", "dot at an end"),
        (" https://a.test", "blank"),
        ("https://a.test/\t", "control"),
        ("https://a.test/é", "not ASCII"),
        ("https://a.test\\@b.test", "backslash"),
        ("https://u@a.test", "user"),
        ("https://a.test?@b.test", "'@' comes after"),
        ("https://a.test#@b.test", "'@' comes after"),
        ("https://a%2etest/", "percent-encoded"),
        ("https://a.test:/", "port"),
        ("https://a.test:0/", "port"),
        ("https://a.test:080/", "port"),
        ("https://a.test:65536/", "port"),
        ("https://a.test:80:80/", "port"),
        ("https://:80/", "no host"),
        ("https://-a.test/", "label"),
        ("https://a_b.test/", "label"),
        (f"https://{'a' * 64}.test/", "63"),
        (f"https://{'a.' * 127}a/", "253"),
        ("https://127.1/", "number"),
        ("https://1.2.3.04/", "number"),
        ("https://a.0x7f/", "number"),
        ("https://a.0x/", "number"),
        ("https://a.1/", "number"),
        ("https://[::1", "no host"),
        ("https://[::1]x/", "no host"),
        ("https://[]/", "no IPv6"),
        ("https://[1.2.3.4]/", "no IPv6"),
        ("https://[::1%lo]/", "zone"),
        ("https://[::ffff:1.2.3.4]/", "IPv4 address in it"),
        ("https://[::ffff:102:304]/", "IPv4 address in it"),
        ("https://[0::1]/", "shortest"),
        ("https://a.test/" + "x" * MAX_CHARACTERS, str(MAX_CHARACTERS)),
    ],
)
def test_what_is_not(url: str, said: str) -> None:
    """Broken if one of the rules is not kept, or the reason is that of another."""
    assert said in str(fault(url))


@given(st.text(max_size=40) | st.text("htps:/@.?#[]%\\a1x-", max_size=40).map("https://{}".format))
def test_every_text_is_read_or_refused(text: str) -> None:
    """Broken if some text makes the grammar fail in another way than by saying that it is unclear."""
    if (said := fault(text)) is not None:
        assert said.startswith(("it ", "its ", "an '@'"))
        return
    found = parse(text)
    again = f"{found.scheme}://{found.host}:{found.port}{found.target}"
    assert parse(again) == found
    assert parse_host(found.host) == found.host
    assert f"{found.scheme}://{found.host}" in text.lower()


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/b", "/a/", "/.a", "/a..b", "/%20", "/a:b@c", "/~a"]
)
def test_plain_paths(path: str) -> None:
    """Broken if a path is refused that no server could take for another."""
    assert is_plain_path(path)


@pytest.mark.parametrize(
    "path",
    ["", "a", "//", "/a//b", "/..", "/../a", "/a/.", "/...", "/a;b", "/%2e", "/%2E%2e/a", "/%2f", "/%5c", "/%25",
     "/%3b", "/%3f", "/%23", "/%00", "/%0a", "/%7f", "/%", "/%2", "/%zz", "/a\\b", "/a b", "/é", "/a?b", "/a#b",
     "/{a}", '/"', "/<a>", "/a|b", "/a^b", "/`", "/[a]", "/%é2", "/%\u0662e"],
)  # fmt: skip
def test_paths_that_are_not_plain(path: str) -> None:
    """Broken if a server could take the path for one that begins otherwise."""
    assert not is_plain_path(path)
