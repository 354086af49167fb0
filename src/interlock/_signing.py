"""SigningKey: what checkpoints are signed with: HMAC-SHA256 with a shared secret, or Ed25519 with a pair of keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import msgspec

from interlock.errors import Misuse, PluginError

MIN_BYTES = 16
"""A secret shorter than this could be guessed."""

HMAC = "hmac-sha256"
ED25519 = "ed25519"


class SigningKey(msgspec.Struct, frozen=True):
    """
    A key, ready for use.

    Attributes:
        algorithm: `hmac-sha256` or `ed25519`.
        id: A digest of the secret, or of the public key: which key it is, and nothing of what it is.
        sign: Returns the signature of some bytes, in hexadecimal; None: it is a public key, which only verifies.
        verify: Whether a signature, in hexadecimal, is that of some bytes.
    """

    algorithm: str
    id: str
    sign: Callable[[bytes], str] | None
    verify: Callable[[bytes, str], bool]


def signing_key(data: bytes) -> SigningKey:
    """
    Return the key that *data* holds: PEM of an Ed25519 key, private or public, or else the bytes of a secret.

    White space around it is no part of it, so that a file may end with a new line.

    Raises:
        Misuse: it is too short, or PEM of something else.
        PluginError: it is PEM, and what reads that is not installed.
    """
    data = data.strip()
    if data.startswith(b"-----BEGIN"):
        return _ed25519(data)
    if len(data) < MIN_BYTES:
        raise Misuse(
            f"the key of checkpoints has at least {MIN_BYTES} bytes; make one with: openssl rand -hex 32"
        )

    def sign(message: bytes) -> str:
        return hmac.new(data, message, hashlib.sha256).hexdigest()

    def verify(message: bytes, signature: str) -> bool:
        return hmac.compare_digest(sign(message).encode(), signature.encode())

    return SigningKey(
        HMAC, _id(HMAC, hmac.digest(data, b"interlock.key.v1", "sha256")), sign, verify
    )


def _ed25519(data: bytes) -> SigningKey:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PluginError(
            "keys in PEM need cryptography, which is not installed: pip install 'interlock[checkpoints]'",
            plugin="interlock.checkpoints",
        ) from error
    try:
        key: Any = (
            serialization.load_pem_private_key(data, password=None)
            if b"PRIVATE KEY" in data.splitlines()[0]
            else serialization.load_pem_public_key(data)
        )
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    private = key if isinstance(key, ed25519.Ed25519PrivateKey) else None
    public = key if private is None else private.public_key()
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise Misuse(
            "the key of checkpoints in PEM is an Ed25519 key without a password; "
            "make one with: openssl genpkey -algorithm ed25519"
        )

    def verify(message: bytes, signature: str) -> bool:
        try:
            public.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True

    sign = None if private is None else lambda message: private.sign(message).hex()
    return SigningKey(ED25519, _id(ED25519, public.public_bytes_raw()), sign, verify)


def _id(algorithm: str, data: bytes) -> str:
    return hashlib.sha256(algorithm.encode() + b"\0" + data).hexdigest()[:16]
