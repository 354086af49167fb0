"""
URLs that try to get past the grants, made by combining tricks with granted and other hosts; and ordinary ones.

A `Trick` that is known to be one says so with `is_denied`: it must be refused whatever clients make of it. For the
others, which are made at random, the oracle alone decides.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.egress._pieces import (
    ADDRESSES,
    AUTHORITIES,
    BAD,
    CONFUSABLE,
    DELIMITER_ALIKES,
    ESCAPES,
    GOOD,
    HARMLESS,
    INVISIBLE,
    LABELS,
    LONGER,
    PIECES,
    SCHEMES,
    STAYS,
    TAILS,
)

GRANTS: list[dict[str, Any]] = [
    {"host": "api.example.com", "capabilities": ["read"], "schemes": ["https", "http"]},
    {"host": "*.example.org", "capabilities": ["read"], "schemes": ["https", "http"]},
    {"host": "192.0.2.10", "capabilities": ["read"], "schemes": ["https", "http"]},
    {"host": "[2001:db8::10]", "capabilities": ["read"], "schemes": ["https", "http"]},
    {"host": "xn--mnchen-3ya.example", "capabilities": ["read"], "schemes": ["https", "http"]},
    {
        "host": "files.example.net",
        "capabilities": ["read"],
        "schemes": ["https", "http"],
        "path": "/public",
    },
    {
        "host": "db1.example.net",
        "capabilities": ["read"],
        "schemes": ["https", "http"],
        "ports": [8443, 8080],
    },
]


class Trick(msgspec.Struct, frozen=True):
    """
    One URL.

    Attributes:
        kind: What is tried.
        url: The text.
        is_denied: Whether it has to be refused; None where the oracle decides.
    """

    kind: str
    url: str
    is_denied: bool | None = True


def tricks(seed: int = 0) -> list[Trick]:
    """Return the corpus, each URL once, in an order that depends on nothing but *seed*."""
    rng = random.Random(seed)
    found: dict[str, Trick] = {}
    sources = (
        _authorities(rng),
        _schemes(rng),
        _characters(),
        _names(),
        _addresses(),
        _paths(),
        _encoded(rng),
        _harmless(),
        _mixed(rng, 2500),
    )
    for source in sources:
        for trick in source:
            found.setdefault(trick.url, trick)
    return list(found.values())


def _fill(template: str, good: str, bad: str) -> str:
    for name, value in {
        "{g}": good,
        "{b}": bad,
        "{long}": "a" * 64,
        "{huge}": "a" * 300,
        "{vast}": "a" * 8200,
        "{many}": "a" * 60 + "." + ("b" * 60 + ".") * 4,
    }.items():
        template = template.replace(name, value)
    return template.replace("{{", "{").replace("}}", "}")


def _authorities(rng: random.Random) -> Iterator[Trick]:
    for kind, templates in AUTHORITIES.items():
        for template in templates:
            for good in GOOD:
                for bad in rng.sample(BAD, 3):
                    authority = _fill(template, good, bad)
                    scheme = rng.choice(["https://", "http://"])
                    tail = _fill(rng.choice(TAILS), good, bad)
                    # A longer label is another one, but below the wildcard's domain it is granted, too.
                    is_longer = template in LONGER and good.endswith(".example.org")
                    yield Trick(
                        kind, f"{scheme}{authority}{tail}", is_denied=None if is_longer else True
                    )


def _schemes(rng: random.Random) -> Iterator[Trick]:
    for scheme in SCHEMES:
        for host in (*GOOD, *BAD):
            yield Trick("scheme", f"{scheme}{host}{_fill(rng.choice(TAILS), GOOD[0], BAD[0])}")
    for good in GOOD:
        for bad in BAD:
            yield Trick("scheme", f"http:{bad}//{good}/")
            yield Trick("scheme", f"{good}://{bad}/")
            yield Trick("scheme", f"https:{good}@{bad}/")


def _characters() -> Iterator[Trick]:
    url = "https://api.example.com/x"
    places = [0, 1, 5, 6, 7, 8, 9, 11, 12, 19, 20, 23, 24, len(url)]
    for character in INVISIBLE:
        for place in places:
            yield Trick("invisible", url[:place] + character + url[place:])
        yield Trick("invisible", f"https://evil.test{character}@api.example.com/")
        yield Trick("invisible", f"https://api.example.com{character}.evil.test/")
        yield Trick("invisible", f"http://api.example.com{character}@evil.test/")
        yield Trick("invisible", f"http://evil.test{character}.example.org/")
    for plain, alikes in DELIMITER_ALIKES.items():
        for alike in alikes:
            for good in GOOD[:2]:
                yield Trick("alike", f"https://{good}{alike}evil.test/")
                yield Trick("alike", f"https://evil.test{alike}{good}/")
                yield Trick("alike", f"https://{good}{alike}@evil.test/")
                yield Trick("alike", f"https://evil.test{alike}.example.org/")
                if plain in f"://{good}/":
                    yield Trick("alike", f"https://{good}/".replace(plain, alike))


def _names() -> Iterator[Trick]:
    host = "api.example.com"
    for place, letter in enumerate(host):
        if letter != ".":
            number = ord(letter) - ord("a")
            styles = [chr(start + number) for start in (0xFF41, 0x24D0, 0x1D41A, 0x1F130)]
            for other in (*styles, f"{letter}\u0301", f"{letter}\u00ad", CONFUSABLE[letter]):
                yield Trick("confusable", f"https://{host[:place]}{other}{host[place + 1 :]}/")
    for label in LABELS:
        yield Trick("idna", f"https://{label}.example.org/")
        yield Trick("idna", f"http://{label}.example/")
    for name in ("m\u00fcnchen.example", "mu\u0308nchen.example", "xn--mnchen-3ya.ex\u00e4mple"):
        yield Trick("idna", f"https://{name}/")
    for text in (
        "evil.test/",
        "evil.test@",
        "a.b",
        "evil\u3002test",
        "\uff0e",
        "localhost",
        "a b",
        "%",
    ):
        encoded = text.encode("punycode").decode("latin-1")
        yield Trick("idna", f"https://xn--{encoded}.example.org/")


def _addresses() -> Iterator[Trick]:
    for spellings in ADDRESSES.values():
        for spelling in spellings:
            for scheme in ("https", "http"):
                for tail in ("", "/", ":443/", ":80/x", "/x?y"):
                    yield Trick("address", f"{scheme}://{spelling}{tail}")


def _paths() -> Iterator[Trick]:
    for scheme in ("https", "http"):
        for path in ESCAPES:
            yield Trick("path", f"{scheme}://files.example.net{path}")
            yield Trick(
                "path", f"{scheme}://FILES.example.net:{443 if scheme == 'https' else 80}{path}"
            )
        for path in STAYS:
            yield Trick("path", f"{scheme}://files.example.net{path}", is_denied=False)


def _encoded(rng: random.Random) -> Iterator[Trick]:
    for host in (*GOOD, *BAD):
        for _ in range(12):
            place = rng.randrange(len(host))
            code = f"%{ord(host[place]):02{rng.choice('xX')}}"
            if rng.random() < 0.3:
                code = code.replace("%", "%25")
            yield Trick("encoded", f"https://{host[:place]}{code}{host[place + 1 :]}/")
            yield Trick("encoded", f"http://{host[:place]}{code}{host[place:]}:80/x")


def _harmless() -> Iterator[Trick]:
    """What looks like a trick and is none: refusing it would be a fault, too."""
    for good in (
        "api.example.com",
        "API.Example.COM",
        "www.example.org",
        "XN--Mnchen-3ya.Example",
        "192.0.2.10",
    ):
        for scheme, port in (("https", ":443"), ("http", ":80"), ("HTTPS", ""), ("Http", "")):
            for tail in HARMLESS:
                yield Trick("harmless", f"{scheme}://{good}{port}{tail}", is_denied=False)
    for url in ("https://[2001:db8::10]/", "http://[2001:DB8::10]:80/x", "https://db1.example.net:8443/",
                "http://db1.example.net:8080/x", f"https://{'a' * 63}.example.org/"):  # fmt: skip
        yield Trick("harmless", url, is_denied=False)
    for url in ("https://db1.example.net/", "https://db1.example.net:443/", "http://db1.example.net:80/",
                "https://api.example.com:8443/", "https://192.0.2.10:8080/"):  # fmt: skip
        yield Trick("port", url)


def _mixed(rng: random.Random, count: int) -> Iterator[Trick]:
    """Mutate URLs of both kinds of host a few times, anywhere."""
    for _ in range(count):
        host = rng.choice(
            (*GOOD, *GOOD, *BAD, "files.example.net", "[2001:db8::10]", "db1.example.net:8080")
        )
        text = f"{rng.choice(['https', 'http'])}://{host}{rng.choice(['', '/', '/public/x', '/x?y=z#f'])}"
        for _ in range(rng.choice([1, 1, 2, 2, 3])):
            place = rng.randrange(len(text) + 1)
            cut = rng.choice([0, 0, 0, 1])
            text = text[:place] + rng.choice(PIECES) + text[place + cut :]
        yield Trick("mixed", text, is_denied=None)


WORDS = (
    "orders",
    "users",
    "v1",
    "v2",
    "search",
    "items",
    "a-b",
    "c_d",
    "report.pdf",
    "2026-01-01",
    "42",
    "me",
    "caf%C3%A9",
)


def ordinary(count: int = 1000, seed: int = 0) -> list[str]:
    """Return URLs as people and models write them, all to granted hosts."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        host = rng.choice(
            ("api.example.com", "www.example.org", "docs.example.org", "files.example.net")
        )
        host = rng.choice((host, host, host, host.upper(), host.title()))
        path = "/".join(rng.choice(WORDS) for _ in range(rng.randrange(4)))
        path = f"public/{path}" if "files" in host.lower() else path
        slash = "" if not path and rng.random() < 0.3 else "/"
        query = "&".join(_parameter(rng) for _ in range(rng.choice([0, 0, 1, 2, 4])))
        fragment = rng.choice(["", "", "", "#top", "#section-2", "#/route/x", "#L10-L20"])
        scheme, port = rng.choice(
            (("https", ""), ("https", ""), ("https", ":443"), ("http", ""), ("http", ":80"))
        )
        found.append(f"{scheme}://{host}{port}{slash}{path}{'?' if query else ''}{query}{fragment}")
    return found


def _parameter(rng: random.Random) -> str:
    token = "".join(
        rng.choices(string.ascii_letters + string.digits + "-_.~", k=rng.randrange(1, 40))
    )
    return rng.choice((
        f"q={token}", "page=2", "ids[]=1", "filter[name]=x", "q=a+b", "q=%F0%9F%98%80", "email=ann%40example.com",
        "email=ann@example.com", "next=https%3A%2F%2Fexample.com%2F", "next=https://example.com/", "t=12:30:00",
        "range=1..5", "sort=-date,name", "flag", "q=", f"sig={token}%3D%3D", "or=a|b", "q='x'", 'json={"a":1}',
    ))  # fmt: skip
