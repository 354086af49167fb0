"""
The one grammar of URLs: text goes in, a `Destination` comes out, or the kind of thing that is wrong with it.

It takes the part of RFC 3986 that every client reads in the same way. Whatever two clients could read differently
is refused here, so that the host which is judged is the host which is contacted. No message holds any of the text.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec

MAX_CHARACTERS = 8192
"""No URL is longer; servers take request lines of about 8,000 octets (RFC 9112, section 3)."""

PORTS = {"https": 443, "http": 80}
"""The schemes that there are, and the port of each when none is written."""

MAX_HOST = 253
"""Characters of a name: RFC 1035 (section 2.3.4), without the root and the first length."""

MAX_LABEL = 63
"""Characters of a part of a name, likewise."""

MAX_PORT = 65535
"""The last port."""

_HEX = frozenset("0123456789abcdefABCDEF")
_PATH = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@%/"
)
_NOT_ENCODED = frozenset(b"/\\.%;?#") | frozenset(range(32)) | {127}


class Unclear(ValueError):
    """The text is no URL that every client reads in the same way. The message says why, and quotes nothing."""


class Destination(msgspec.Struct, frozen=True):
    """
    Where a request for a URL goes.

    Attributes:
        scheme: `https` or `http`.
        host: In lower case: a name of ASCII labels, an IPv4 address, or an IPv6 address in brackets.
        port: Never left open.
        path: As written, without the query; `/` when nothing is written.
        target: Path and query as they are sent.
    """

    scheme: str
    host: str
    port: int
    path: str
    target: str


def parse(text: str) -> Destination:
    """
    Return where *text* leads.

    Raises:
        Unclear: it does not say so, or not to every client in the same way.
    """
    if len(text) > MAX_CHARACTERS:
        raise Unclear(f"it is longer than {MAX_CHARACTERS} characters")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise Unclear("it holds a blank, a control character or a character that is not ASCII")
    if "\\" in text:
        raise Unclear("it holds a backslash")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise Unclear("it does not begin with https:// or http://")
    resource, _, _ = rest.partition("#")
    before_query, question, query = resource.partition("?")
    authority, slash, after = before_query.partition("/")
    if len(authority) < len(rest) and rest[len(authority)] != "/" and "@" in rest:
        raise Unclear("an '@' comes after the host without a '/' in between")
    host, port = _authority(authority)
    path = f"/{after}" if slash else "/"
    return Destination(scheme, host, port or PORTS[scheme], path, f"{path}{question}{query}")


def parse_host(text: str) -> str:
    """
    Return the host *text* in lower case.

    Raises:
        Unclear: it is none, or a form of one that clients read differently.
    """
    host = text.lower()
    if not text.isascii():
        raise Unclear("its host is not ASCII; an international name is written with xn--")
    if host.startswith("["):
        return _ipv6(host)
    if len(host) > MAX_HOST:
        raise Unclear(f"its host is longer than {MAX_HOST} characters")
    labels = host.split(".")
    for label in labels:
        if not label:
            raise Unclear("its host is empty, or has an empty label or a dot at an end")
        if len(label) > MAX_LABEL:
            raise Unclear(f"its host has a label of more than {MAX_LABEL} characters")
        if not label.replace("-", "").isalnum() or label[0] == "-" or label[-1] == "-":
            raise Unclear("its host has a label that is not made of letters, digits and inner '-'")
    last = labels[-1]
    if last.isdigit() or (last.startswith("0x") and _HEX.issuperset(last[2:])):
        # Whatever ends in a number is an IPv4 address to some: url.spec.whatwg.org/#ends-in-a-number-checker.
        return _ipv4(host)
    return host


def is_plain_path(path: str) -> bool:
    """
    Whether every client and server takes the segments of *path* as they stand.

    Such a path has no dot segment, no empty segment but the last, no ``;``, and encodes nothing that could be part
    of the path's own syntax, now or after a second decoding.
    """
    if not path.startswith("/") or not _PATH.issuperset(path):
        return False
    *inner, last = path[1:].split("/")
    if "" in inner or any(segment and not segment.strip(".") for segment in (*inner, last)):
        return False
    return all(_is_harmless(part) for part in path.split("%")[1:])


def _is_harmless(encoded: str) -> bool:
    first, second = encoded[:1], encoded[1:2]
    if not (first in _HEX and second in _HEX):
        return False
    return int(first + second, 16) not in _NOT_ENCODED


def _authority(text: str) -> tuple[str, int | None]:
    if "@" in text:
        raise Unclear("it names a user before the host")
    if "%" in text:
        raise Unclear("its host is percent-encoded or has a zone")
    end = text.find("]") + 1 if text.startswith("[") else text.find(":")
    if end < 0:
        return parse_host(text), None
    host, colon, port = text[:end], text[end : end + 1], text[end + 1 :]
    if text.startswith("[") and not colon and end:
        return parse_host(host), None
    if not end or colon != ":":
        raise Unclear("it has no host, or none that is followed by a port")
    return parse_host(host), _port(port)


def _port(text: str) -> int:
    is_number = text.isdigit() and len(text) <= len(str(MAX_PORT)) and not text.startswith("0")
    if not is_number or int(text) > MAX_PORT:
        raise Unclear(f"its port is not a number from 1 to {MAX_PORT} without leading zeros")
    return int(text)


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))  # which takes nothing but four decimal numbers
    except AddressValueError:
        raise Unclear("its host is a number that only some clients take for an address") from None


def _ipv6(host: str) -> str:
    try:
        address = IPv6Address(host[1:-1] if host.endswith("]") else "")
    except AddressValueError:
        raise Unclear("its host is no IPv6 address") from None
    if address.scope_id is not None or address.ipv4_mapped is not None:
        raise Unclear("its host is an IPv6 address with a zone or an IPv4 address in it")
    if host != f"[{address}]":
        raise Unclear("its host is an IPv6 address, but not in its shortest form")
    return host
