"""What is found in a text, in which spelling, and what is left of it."""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Callable
from hashlib import sha1, sha256
from itertools import pairwise
from typing import Any

import pytest

from interlock.hookspecs import Content
from interlock_secrets import MAX_BYTES
from interlock_secrets.detector import check_kinds, find, masked
from interlock_secrets.redaction import SecretRedaction, plugin

Make = Callable[..., str]

KINDS = [
    "github-pat",
    "aws-access-key-id",
    "stripe-access-token",
    "slack-bot-token",
    "openai-api-key",
    "anthropic-api-key",
    "gcp-api-key",
    "gitlab-pat",
    "sendgrid",
    "npmjsaccesstoken",
    "pypi-upload-token",
    "huggingface-access-token",
    "telegram-bot-token",
    "jwt",
    "private-key",
    "private-key-part",
    "putty-key",
]


def clean(text: str) -> str:
    """Return *text* without its secrets."""
    return masked(text, find(text))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_masked_whole(kind: str, make: Any) -> None:
    """Broken if a kind is not found, is called something else, or a part of it is left."""
    for _ in range(5):
        assert clean(f"é at {make(kind)}\n, or") == f"é at [secret: {kind}]\n, or"


@pytest.mark.parametrize(
    ("expected", "form"),
    [
        ("password: [secret: assigned-secret]", "password: {}"),
        ('"api_key": "[secret: assigned-secret]"', '"api_key": "{}"'),
        ("export AUTH_TOKEN=[secret: assigned-secret];", "export AUTH_TOKEN={};"),
        ("Authorization: Bearer [secret: authorization]", "Authorization: Bearer {}"),
        ("it uses bearer [secret: bearer-token] there", "it uses bearer {} there"),
        ("token: refresh-on-login", "token: refresh-on-login"),
        (
            "Authorization: Bearer your-token-goes-here",
            "Authorization: Bearer your-token-goes-here",
        ),
        ("ftp://ann:[secret: generic-credential-uri]@host/x", "ftp://ann:{}@host/x"),
    ],
)
def test_what_its_surroundings_show(expected: str, form: str, make: Any) -> None:
    """Broken if a secret without a form of its own is not found by what stands before it, or more is masked than it."""
    assert clean(form.format(make.word(40))) == expected


def wide(text: str) -> str:
    """Spell in full-width letters."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "full-width": wide,
    "one-full-width": lambda text: text[:9] + wide(text[9]) + text[10:],
    "zero-width": "\u200b".join,
    "soft-hyphens": "\u00ad".join,
    "right-to-left": lambda text: text[:12] + "\u202e\u2066" + text[12:],
    "accents": lambda text: "".join(letter + "\u0301" for letter in text)[:-1],
    "tags": lambda text: text[:7] + "\U000e0041" + text[7:],
    "filler": "\u3164".join,
    "variation": "\ufe0f".join,
    "null": "\0".join,
    "escape": lambda text: text[:12] + "\x1b" + text[12:],
    "surrogate": lambda text: text[:12] + "\ud800" + text[12:],
    "mathematical": lambda text: "".join(
        chr(ord(letter) - 97 + 0x1D5EE) if letter.islower() else letter for letter in text
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_disguised_spellings_are_found(name: str, make: Any) -> None:
    """Broken if a secret gets past with letters that look or print the same, or other text is masked with it."""
    for _ in range(5):
        text = SPELLINGS[name](make())
        assert clean(f"ü {text} ü") == "ü [secret: github-pat] ü"


def test_base64_is_looked_into(make: Any) -> None:
    """Broken if a token gets past in Base64."""
    hidden = base64.b64encode(f"token {make()} ".encode()).decode()
    assert clean(f"see {hidden} there") == "see [secret: github-pat] there"


def test_a_mask_is_no_secret() -> None:
    """Broken if what was masked is masked again, or a mask around a secret protects it."""
    text = "[secret: 1password-secret-key] [secret: github-pat] [secret: assigned-secret]"
    assert find(text) == []
    assert clean("[secret: x7Kq29fLmZ01]") == "[secret: [secret: assigned-secret]]"


def test_only_the_kinds_asked_for(make: Any) -> None:
    """Broken if `kinds` is ignored, or one that does not exist is taken."""
    text = f"{make()} {make('gitlab-pat')}"
    assert [span.kind for span in find(text, frozenset(["gitlab-pat"]))] == ["gitlab-pat"]
    with pytest.raises(ValueError, match="'github' is no kind"):
        check_kinds(["github"])


def test_two_in_one_text_overlapping_or_not(make: Any) -> None:
    """Broken if spans are given out of order or twice, so that a mask garbles the text."""
    text = f"password={make()} {make('private-key')}{make('stripe-access-token')}"
    spans = find(text)
    assert spans == sorted(spans)
    assert all(one.end <= two.start for one, two in pairwise(spans))
    assert clean(text).startswith("password=[secret: ")
    assert clean(text).endswith("[secret: private-key][secret: stripe-access-token]")


def ordinary() -> list[str]:
    """Texts of every day, with no secret in them."""
    number = random.Random(7)
    made = []
    for index in range(10):
        data = number.randbytes(40)
        code = number.randrange(10**6, 10**7)
        made += [
            f"Order {code} was shipped on 2026-03-{index + 10} and will arrive by Friday.",
            f"commit {sha1(data).hexdigest()}\nAuthor: Ann <ann@example.com>",  # noqa: S324 - as git has it
            f"sha256:{sha256(data).hexdigest()}  interlock-{index}.tar.gz",
            f"Request {uuid.UUID(bytes=data[:16])} took {index}.{code} s",
            f"https://shop.example.com/items/{code}?page={index}&sort=price-asc#reviews",
            f"data:image/png;base64,{base64.b64encode(data * 4).decode()}",
            f'{{"id": {code}, "name": "Lamp", "tags": ["home", "light"], "price": "{index}9.90"}}',
            f"def total_{index}(items):\n    return sum(item.price for item in items)  # {code}",
            f"Call +49 30 {code} between 9:00 and 17:0{index}, or write to desk{index}@example.com.",
            f"2026-03-0{index % 9 + 1}T12:00:00Z INFO worker-{index} handled {code} events in 35ms",
            "Please reset your password: the link in our last mail is good for one hour.",
            f"The secret of good bread: time. Bake it for {index + 30} minutes at 230 degrees.",
            f"IBAN DE{number.randrange(10**19, 10**20)}, reference {code}",
            f"SELECT id, total FROM orders WHERE customer = {code} ORDER BY created_at",  # noqa: S608
            f"Schlüssel für Zimmer {index}: an der Rezeption. Ключ там же, {code}.",
            f"ERROR in /srv/app/{index}/views.py line {code}: KeyError('customer_id')",
            f"Tracking 1Z{sha1(data).hexdigest()[:16].upper()} left the depot.",  # noqa: S324
            f"version {index}.12.{code % 100}, build {data.hex()[:12]}, arm64",
            f"password_hash_rounds = {index + 10}\ntoken_lifetime = 3600\nsecret_name = database",
            f"| {code} | open | refund | {index},50 € | ann |",
        ]
    return made


def test_ordinary_texts_are_left_alone() -> None:
    """Broken if the detector takes ordinary work for secrets: one in a hundred would be too many."""
    texts = ordinary()
    assert len(texts) == 200
    wrong = [text for text in texts if find(text)]
    assert len(wrong) < 2, wrong
    # And all of them in one text, beside each other.
    assert len(find("\n".join(texts))) < 2


HOSTILE = {
    "letters": "a" * 60_000,
    "prefixes": "ghp_" * 15_000,
    "names": "password = " * 5_000,
    "headers": "-----BEGIN RSA PRIVATE KEY-----\n" * 2_000,
    "putty": "PuTTY-User-Key-File-2:" * 2_900,
    "credentials": "https://a:" * 6_000,
    "ligatures": "\ufdfa" * 20_000,
    "marks": "a" + "\u0301" * 30_000,
    "nulls": "\0" * 60_000,
    "quotes": "\"'" * 30_000,
    "colons": "token:" * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_redacted(name: str) -> None:
    """Broken if a text makes the detector fail, or run until the test's timeout."""
    answer = plugin.interlock_redact(Content(tool="t", path="text", text=HOSTILE[name]))
    assert answer is None or len(answer) < len(HOSTILE[name]) + 100


@pytest.mark.parametrize(
    "text",
    ["x" * (MAX_BYTES + 1), "é" * (MAX_BYTES // 2 + 1), "\ud800" * (MAX_BYTES + 1)],
    ids=["ascii", "utf-8", "surrogates"],
)
def test_a_text_that_is_too_long_is_masked_whole(text: str) -> None:
    """Broken if the length of a text keeps it from being redacted."""
    content = Content(tool="t", path="text", text=text)
    assert plugin.interlock_redact(content) == "[secret: too long to be searched]"


def test_the_name_of_an_argument_tells(make: Any) -> None:
    """Broken if a password is recorded whose argument is called so, or the name is written into the text."""
    word = make.word(12)
    at = lambda path, text=word: plugin.interlock_redact(Content(tool="t", path=path, text=text))  # noqa: E731
    assert at("login.password") == "[secret: assigned-secret]"
    assert at("login.comment") is None
    assert at("login.password", "none") is None
    assert at("note", f"é {make()}") == "é [secret: github-pat]"


def test_a_plugin_of_one_kind(make: Any) -> None:
    """Broken if `kinds` does not reach the plugin, or an unknown one is not refused."""
    own = SecretRedaction(kinds=["gitlab-pat"])
    content = Content(tool="t", path="x", text=f"{make()}")
    assert own.interlock_redact(content) is None
    with pytest.raises(ValueError, match="no kind"):
        SecretRedaction(kinds=["gitlab"])
