"""The corpus: thousands of URLs that play tricks, and where four clients and curl go with those that pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from interlock import Opinion, Tool, Verdict
from interlock.evaluators.egress import EgressConfig, EgressEvaluator
from tests.egress._corpus import GRANTS, Trick, ordinary, tricks
from tests.egress._oracle import CLIENTS, CURL, Oracle, is_granted, oracle, with_curl
from tests.samples import call_of

TRICKS = tricks()
READER = Tool(name="fetch", capabilities=("read",))
JUDGE = EgressEvaluator(EgressConfig.model_validate({"grants": GRANTS}))


def opinion_on(url: str) -> Opinion | None:
    """What the evaluator says to a call with that URL."""
    return JUDGE.evaluate(call_of({"url": url}, tool=READER))


@pytest.fixture(scope="module")
def clients() -> Iterator[Oracle]:
    """Run the four clients, away from the network."""
    with oracle() as running:
        yield running


@pytest.fixture(scope="module")
def passed() -> list[Trick]:
    """What the evaluator lets through."""
    return [trick for trick in TRICKS if opinion_on(trick.url) is None]


def test_the_corpus_is_large_and_fixed() -> None:
    """Broken if the generator makes too little, or something else at each run, so that a failure cannot be repeated."""
    kinds = Counter(trick.kind for trick in TRICKS)
    assert len({trick.url for trick in TRICKS}) == len(TRICKS) >= 5000
    assert min(kinds.values()) > 20
    assert tricks() == TRICKS
    assert tricks(seed=1) != TRICKS


@pytest.mark.promise(1)
def test_no_trick_is_let_through() -> None:
    """Broken if a URL that clients could read differently, or that leads elsewhere, is allowed."""
    allowed = [
        trick for trick in TRICKS if trick.is_denied is True and opinion_on(trick.url) is None
    ]
    assert allowed == []


def test_what_only_looks_like_a_trick_is_let_through() -> None:
    """Broken if the tests above would hold for an evaluator that denies everything."""
    harmless = [trick for trick in TRICKS if trick.is_denied is False]
    denied = [trick for trick in harmless if opinion_on(trick.url) is not None]
    assert (denied, len(harmless) > 200) == ([], True)


@pytest.mark.promise(1)
def test_clients_go_where_it_was_judged(clients: Oracle, passed: list[Trick]) -> None:
    """Broken if a URL that is allowed takes any client to a host, port or path that is not granted."""
    contacts = [
        (trick.url, client, contact)
        for trick in passed
        for client, found in clients.contacts(trick.url).items()
        for contact in found
    ]
    assert [found for found in contacts if not is_granted(found[2])] == []
    assert set(Counter(client for _, client, _ in contacts)) == set(CLIENTS)
    assert len(contacts) >= 300 * len(CLIENTS)
    assert sum(contact.target is not None for *_, contact in contacts) >= 100 * len(CLIENTS)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_goes_where_it_was_judged(passed: list[Trick]) -> None:
    """Broken if a URL that is allowed takes curl to a host, port or path that is not granted."""
    found = with_curl([trick.url for trick in passed])
    escaped = [
        (trick.url, contact)
        for trick, contact in zip(passed, found, strict=True)
        if contact is not None and not is_granted(contact)
    ]
    assert escaped == []
    assert sum(contact is not None for contact in found) >= 300


def test_the_oracle_sees_escapes(clients: Oracle) -> None:
    """Broken if the corpus has no strings that mislead clients, or the oracle would not notice one that does."""
    kinds = {"userinfo", "backslash", "encoded", "alike"}
    misled: Counter[str] = Counter()
    torn = 0
    for trick in TRICKS:
        if trick.kind not in kinds:
            continue
        found = clients.contacts(trick.url)
        for client, contacts in found.items():
            misled[client] += any(not is_granted(contact) for contact in contacts)
        torn += len({c.host.lower() for contacts in found.values() for c in contacts}) > 1
    assert [client for client in CLIENTS if misled[client] < 100] == []
    assert torn >= 100  # clients that contact different hosts for one and the same URL


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_the_oracle_sees_where_curl_goes() -> None:
    """Broken if the test of curl could not fail."""
    urls = ["http://evil.test/x", "https://api.example.com@evil.test/", "https://[::1]:8443/"]
    hosts = [(found.host, found.port) for found in with_curl(urls) if found is not None]
    assert hosts == [("evil.test", 80), ("evil.test", 443), ("::1", 8443)]


def test_ordinary_urls_are_allowed(clients: Oracle) -> None:
    """Broken if more than one in a hundred URLs as people write them is refused, or goes elsewhere."""
    urls = ordinary(1000)
    allowed = [url for url in urls if opinion_on(url) is None]
    assert len(urls) == 1000
    assert len(allowed) > 990
    for url in allowed[:200]:
        for contacts in clients.contacts(url).values():
            assert [is_granted(contact) for contact in contacts] == [True]


@pytest.mark.promise(9)
def test_reasons_do_not_quote() -> None:
    """Broken if what is said of a URL depends on what is in it, beyond the kind of fault."""
    opinions = [opinion for trick in TRICKS if (opinion := opinion_on(trick.url)) is not None]
    reasons = Counter(opinion.reason for opinion in opinions)
    assert {opinion.verdict for opinion in opinions} == {Verdict.DENY}
    assert len(opinions) > 8000
    assert 10 <= len(reasons) <= 25
    words = ("evil", "example", ".test", "127", "169", "public", "xn--mn")
    assert [reason for reason in reasons if any(word in reason for word in words)] == []
