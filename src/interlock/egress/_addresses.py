"""Which addresses a name may resolve to: public ones, unless its grant says otherwise."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

# From the registries of special-purpose addresses: iana.org/assignments/iana-ipv4-special-registry. They are written
# out because Python's own lists differ between its versions; both have to agree.
_SPECIAL_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # no registry has it: the platform's own services, inside of Azure's networks
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All else in IPv6 is not global unicast (RFC 4291, section 2.4): loopback, private, link-local and multicast
# addresses, and those with an IPv4 address in them, mapped or translated.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, with Teredo, which has IPv4 addresses in it
        "2001:db8::/32",
        "2002::/16",  # 6to4, which has IPv4 addresses in it
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214, section 6.1: then an IPv4 address follows

Networks = Sequence[IPv4Network | IPv6Network] | None


class Blocked(Exception):
    """A name resolves to an address that must not be contacted. The message says why, and names neither."""


def system_resolver(host: str, port: int) -> list[str]:
    """
    Return the addresses of *host*, as the system resolves it.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


def checked(addresses: Iterable[str], networks: Networks) -> list[str]:
    """
    Return *addresses* in their normal form, each once, in their order.

    Raises:
        Blocked: one of them, or what stands in its place, is outside of *networks*, or is not public if that is None.
    """
    return list(dict.fromkeys(_checked(address, networks) for address in addresses))


def _checked(text: str, networks: Networks) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise Blocked("the host resolves to what is no address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise Blocked("the host resolves to an address with a zone")
    if networks is not None:
        if not any(address in network for network in networks):
            raise Blocked("the host resolves to an address that its grant does not give")
    elif not _is_public(str(address)):
        raise Blocked(
            "the host resolves to an address that is not public; a grant can give it: addresses=[…]"
        )
    return str(address)


def _is_public(text: str) -> bool:
    address = ip_address(text)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv6Address):
        is_tunnel = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
        special = any(address in network for network in _SPECIAL_IPV6)
        return address in _GLOBAL_IPV6 and not special and not is_tunnel
    return not any(address in network for network in _SPECIAL_IPV4)
