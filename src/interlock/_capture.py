"""Capture: how much is kept of what goes into calls and comes out of them, and how its digests are made."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import msgspec

from interlock.errors import Misuse

KEYED = "hmac-sha256:"
"""What a digest begins with that was made with a key; others are SHA-256, and begin with nothing."""

SHORTEST_KEY = 16
"""Bytes: a shorter key can be guessed."""


class Capture(StrEnum):
    """
    How much of a content is kept.

    NONE: nothing. DIGEST: a digest of each part. REDACTED: what declaration and plugins leave of it. FULL: all but
    declared secrets.
    """

    NONE = "none"
    DIGEST = "digest"
    REDACTED = "redacted"
    FULL = "full"

    @property
    def shows(self) -> bool:
        """Whether somebody who reads it can tell what it was of."""
        return self in {Capture.REDACTED, Capture.FULL}


Seal: TypeAlias = "Callable[[bytes], str]"
"""Returns the digest of canonical JSON."""


class Keyed:
    """
    Makes digests with a key: who has the books and not the key cannot confirm what they guess.

    Source: RFC 2104, HMAC, with SHA-256.
    """

    __slots__ = ("_key",)

    def __init__(self, key: object) -> None:
        """
        Hold *key*, which is kept in this process alone.

        Raises:
            Misuse: it is none, or too short.
        """
        secret = key.encode() if isinstance(key, str) else key
        if not isinstance(secret, bytes) or len(secret) < SHORTEST_KEY:
            raise Misuse(
                f"digest_key= is text or bytes of at least {SHORTEST_KEY} bytes, such as secrets.token_hex(32) gives"
            )
        self._key = secret

    def __call__(self, data: bytes) -> str:
        """Return the digest of *data*, which says that it was made with a key."""
        return KEYED + hmac.digest(self._key, data, "sha256").hex()

    def __repr__(self) -> str:
        return "Keyed()"  # never the key

    def __reduce__(self) -> str:
        raise TypeError("a key for digests stays in its process")


def plain(data: bytes) -> str:
    """Return the SHA-256 of *data*."""
    return hashlib.sha256(data).hexdigest()


class Capturing(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a governor keeps where a tool does not say otherwise.

    Attributes:
        arguments, results: How much of them.
        key: Makes digests with a key; None: they are plain.
    """

    arguments: Capture = Capture.REDACTED
    results: Capture = Capture.DIGEST
    key: Keyed | None = None

    @property
    def seal(self) -> Seal:
        """What makes digests."""
        return self.key or plain


def capture_of(given: object, option: str) -> Capture:
    """
    Return the level that *given* names.

    Raises:
        Misuse: it names none.
    """
    try:
        return Capture(str(given))
    except ValueError:
        raise Misuse(f"{option}= is one of {', '.join(Capture)}") from None
