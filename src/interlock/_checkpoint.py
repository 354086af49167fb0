"""
Checkpoint: how far every session had come at a moment, signed, to be kept where the database's owner cannot write.

Checkpoints are lines, each with the digest of the line before. A line lists the heads that have changed since the line
before it, the first line all, so a session that is over is listed once; its root is the digest of all heads there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from interlock import _canonical
from interlock._signing import SigningKey
from interlock.errors import Misuse

FIRST = "0" * 64
"""What stands for the digest of the line before the first."""

HALTS = "halts"
"""The stream that is no session: the log of halts."""

_PREFIX = b"interlock.checkpoint.v1\n"


class Head(NamedTuple):
    """The last event of a stream: its number and its hash."""

    seq: int
    hash: str


class Heads(msgspec.Struct, frozen=True):
    """
    How far a store has come, as it was read.

    Attributes:
        at: The store's time.
        position: All events with a place in the feed up to this one are in it.
        heads: The last event of each session by its id, and of the log of halts.
    """

    at: datetime
    position: int
    heads: dict[str, Head]


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    How far a store had come.

    Attributes:
        number: Of the line, from 1.
        previous: The digest of the line before.
        at: The store's time.
        sessions: How many there were.
        events: How many events they had.
        position: All events with a place in the feed up to this one are covered.
        root: The digest of all heads that the store had: canonical JSON of `[[id, seq, hash], …]` by id. Two stores
            with the same root have the same history.
        changed: The heads that are others than in the line before, by id; `halts` is the log of halts.
        algorithm: What it is signed with: `hmac-sha256` or `ed25519`.
        key: Which key it is signed with: the beginning of a digest.
    """

    number: int
    previous: str
    at: datetime
    sessions: int
    events: int
    position: int
    root: str
    changed: list[tuple[str, int, str]]
    algorithm: str
    key: str


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint and its signature, as they are written."""

    checkpoint: Checkpoint
    signature: str


class Chain(msgspec.Struct):
    """
    What lines say together.

    Attributes:
        last: The last checkpoint that could be read; None: there is none.
        digest: The digest of its line.
        heads: All heads, as of that line.
        witnessed: Every head that a line tells of, in their order: the stream, the head, and the line's time.
        since: For each session, the time of the line before the one that told of it first; None: there is none.
        problems: What is wrong with the lines, a sentence each.
        notes: What is no fault and yet should be known, a sentence each.
    """

    last: Checkpoint | None = None
    digest: str = FIRST
    heads: dict[str, Head] = {}
    witnessed: list[tuple[str, Head, datetime]] = []
    since: dict[str, datetime | None] = {}
    problems: list[str] = []
    notes: list[str] = []


def next_line(chain: Chain, seen: Heads, key: SigningKey) -> tuple[Checkpoint, bytes]:
    """
    Return the checkpoint of *seen* that follows *chain*, and its line without the end of the line.

    Raises:
        Misuse: *key* is a public key, or another one than the last line is signed with.
    """
    if key.sign is None:
        raise Misuse("a public key verifies checkpoints; sign them with the private one")
    if chain.last is not None and chain.last.key != key.id:
        raise Misuse(
            f"the last checkpoint is signed with key {chain.last.key}, and this is {key.id}; "
            "begin another file with another key"
        )
    sessions = seen.heads.keys() - {HALTS}
    checkpoint = Checkpoint(
        number=1 if chain.last is None else chain.last.number + 1,
        previous=chain.digest,
        at=seen.at,
        sessions=len(sessions),
        events=sum(seen.heads[name].seq for name in sessions),
        position=seen.position,
        root=root_of(seen.heads),
        changed=[
            (name, head.seq, head.hash)
            for name, head in sorted(seen.heads.items())
            if chain.heads.get(name) != head
        ],
        algorithm=key.algorithm,
        key=key.id,
    )
    line = Line(checkpoint, key.sign(_signed(checkpoint)))
    return checkpoint, _encoded(line)


def read_chain(lines: Iterable[bytes], key: SigningKey) -> Chain:
    """
    Return what *lines* say together, and what is wrong with them; a line that is wrong is not believed.

    A line that was not written to its end, by a process that was killed, is a note, if the line after it follows from
    the one before it.
    """
    chain = Chain()
    torn: list[int] = []
    for place, written in enumerate(lines, 1):
        line = _decoded(written)
        if line is None:
            torn.append(place)
            continue
        problem = _fault(chain, line, written, key)
        if problem is not None:
            chain.problems.append(f"line {place} of the checkpoints {problem}")
            if not _is_signed(line, key):
                continue
        _take(chain, line, written)
    chain.notes.extend(
        f"line {place} of the checkpoints was not written to its end, or was destroyed"
        for place in torn
    )
    return chain


def root_of(heads: Mapping[str, Head]) -> str:
    """Return the digest of all heads."""
    return _canonical.digest(
        _canonical.encode([[name, head.seq, head.hash] for name, head in sorted(heads.items())])
    )


def _take(chain: Chain, line: Line, written: bytes) -> None:
    checkpoint = line.checkpoint
    before = None if chain.last is None else chain.last.at
    for name, seq, digest in checkpoint.changed:
        head = Head(seq, digest)
        chain.heads[name] = head
        chain.witnessed.append((name, head, checkpoint.at))
        chain.since.setdefault(name, before)
    chain.last, chain.digest = checkpoint, _canonical.digest(written)


def _fault(chain: Chain, line: Line, written: bytes, key: SigningKey) -> str | None:
    checkpoint = line.checkpoint
    if (checkpoint.algorithm, checkpoint.key) != (key.algorithm, key.id):
        return f"is signed with another key: {checkpoint.algorithm} {checkpoint.key}, not {key.algorithm} {key.id}"
    if not _is_signed(line, key) or _encoded(line) != written:
        return "was altered: its signature is of something else"
    expected = 1 if chain.last is None else chain.last.number + 1
    if checkpoint.number > expected:
        return f"is checkpoint {checkpoint.number}, and checkpoint {expected} is missing before it"
    if checkpoint.number < expected:
        return f"is checkpoint {checkpoint.number}, and comes after checkpoint {expected - 1}"
    if checkpoint.previous != chain.digest:
        return "does not follow from the line before it"
    return None


def _is_signed(line: Line, key: SigningKey) -> bool:
    return key.verify(_signed(line.checkpoint), line.signature)


def _signed(checkpoint: Checkpoint) -> bytes:
    return _PREFIX + _canonical.encode(msgspec.to_builtins(checkpoint))


def _encoded(line: Line) -> bytes:
    return _canonical.encode(msgspec.to_builtins(line))


def _decoded(written: bytes) -> Line | None:
    try:
        return msgspec.json.decode(written, type=Line)
    except (msgspec.MsgspecError, ValueError):
        return None
