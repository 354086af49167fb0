"""
Grants: where requests may go and what they may do there; parsed once, then looked up by host.

The evaluator `egress` asks them about the URL in an argument, the client of `interlock.egress` about each request.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, Self

from publicsuffixlist import PublicSuffixList
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

from interlock.evaluators._url import PORTS, Destination, Unclear, is_plain_path, parse_host

MAX_WORD = 100
"""Characters of a capability."""

_WORD = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WIDEST = {4: 8, 6: 7}  # 10.0.0.0/8 and fc00::/7 are the widest networks that are anybody's own

READS = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that only read (RFC 9110, section 9.2.1), but for TRACE, which has credentials sent back."""


def is_capability(word: str) -> bool:
    """Whether *word* is a capability: `read`, `payments.write`; ASCII letters in lower case, digits, inner ``.-_``."""
    parts = word.replace("-", ".").replace("_", ".").split(".")
    return len(word) <= MAX_WORD and all(part and _WORD.issuperset(part) for part in parts)


def capability_of(method: str) -> str | None:
    """Return `read` or `write`, whichever the HTTP method needs; None for what is no method, or opens a tunnel."""
    if not (method.isascii() and method.isalpha()) or len(method) > MAX_WORD:
        return None
    method = method.upper()
    return None if method == "CONNECT" else "read" if method in READS else "write"


def _capability(word: str) -> str:
    if not is_capability(word):
        raise ValueError("a capability is made of a-z and 0-9, with '.', '-' or '_' in between")
    return word


def _host(text: str) -> str:
    base = text.removeprefix("*.")
    if "*" in base:
        raise ValueError("a '*' can stand only for the first label: *.example.com")
    try:
        host = parse_host(base)
    except Unclear as error:
        raise ValueError(str(error)) from None
    if base == text:
        return host
    if _is_address(host):
        raise ValueError("an address has no subdomains")
    if _public_suffixes().is_public(host):
        raise ValueError(
            "anybody can register a name below a public suffix; "
            "name the domain whose subdomains are meant"
        )
    return f"*.{host}"


def _is_address(host: str) -> bool:
    """Whether a parsed *host* is no name: only an address ends in a number."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def _path(text: str) -> str:
    if not is_plain_path(text):
        raise ValueError("a path begins with '/' and has no dot segments, '//', ';', '?' or '#'")
    return text


def _network(text: str) -> str:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError("not an address, or a network such as 10.1.0.0/16") from None
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError("a network this wide is no grant of anything in particular")
    return str(network)


class Grant(BaseModel):
    """
    One destination, and what may be done there.

    Attributes:
        host: A name, an address, or `*.` and a domain for exactly one label more; case is ignored.
        capabilities: What may be done: words that tools declare.
        schemes: `https`, or `http`, or both.
        ports: Which ports; the scheme's own if left out.
        path: Where paths have to begin, in whole segments; then only plain paths pass.
        addresses: What the host may resolve to, for the client: addresses and networks. If left out, any public one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, AfterValidator(_host)]
    capabilities: frozenset[Annotated[str, AfterValidator(_capability)]] = Field(min_length=1)
    schemes: frozenset[Literal["https", "http"]] = Field(frozenset({"https"}), min_length=1)
    ports: frozenset[Annotated[StrictInt, Field(ge=1, le=65535)]] | None = Field(None, min_length=1)
    path: Annotated[str, AfterValidator(_path)] | None = None
    addresses: tuple[Annotated[str, AfterValidator(_network)], ...] | None = Field(
        None, min_length=1
    )

    @model_validator(mode="after")
    def _resolves(self) -> Self:
        if self.addresses is not None and self.is_address:
            raise ValueError("'addresses' is for names; this host is an address already")
        return self

    @property
    def is_address(self) -> bool:
        """Whether the host needs no name resolution."""
        return _is_address(self.host)

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...] | None:
        """The only addresses that may be contacted; None means all public ones."""
        own = (self.host.strip("[]"),) if self.is_address else self.addresses
        return None if own is None else tuple(ip_network(address) for address in own)

    def covers(self, destination: Destination) -> bool:
        """Whether *destination*, whose host is this one, is meant."""
        if destination.scheme not in self.schemes:
            return False
        if destination.port not in (self.ports or {PORTS[destination.scheme]}):
            return False
        if self.path is None:
            return True
        whole = f"{self.path.rstrip('/')}/"
        begins = destination.path == self.path or destination.path.startswith(whole)
        return begins and is_plain_path(destination.path)


class Grants:
    """Grants, indexed by host."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        """Index *grants*; among those for one host, their order is kept."""
        self._by_host: dict[str, list[Grant]] = {}
        for grant in grants:
            self._by_host.setdefault(grant.host, []).append(grant)

    def find(self, destination: Destination, capabilities: frozenset[str]) -> Grant | str:
        """Return the first grant that gives all *capabilities* at *destination*, or why there is none."""
        covering = [grant for grant in self._for(destination.host) if grant.covers(destination)]
        for grant in covering:
            if capabilities <= grant.capabilities:
                return grant
        if covering:
            words = ", ".join(sorted(capabilities))
            return f"no grant gives its destination together with: {words}"
        return "its destination is not granted"

    def _for(self, host: str) -> list[Grant]:
        exact = self._by_host.get(host, [])
        first, _, base = host.partition(".")
        # As in certificates, '*' is one label (RFC 9525, section 6.3), and not one in an encoding of something else
        # (RFC 5890, section 2.3.1).
        if first[2:4] == "--":
            return exact
        return [*exact, *self._by_host.get(f"*.{base}", [])]


@cache
def _public_suffixes() -> PublicSuffixList:
    """The list that the package brings: what is below a suffix belongs to whoever registered it (publicsuffix.org)."""
    return PublicSuffixList()
