"""
Checkpoint: how far every session had come at a moment, signed, to be kept where the database's owner cannot write.

Checkpoints are lines, each with the digest of the line before. A line lists the heads that have changed since the line
before it, the first line all, so a session that is over is listed once; its root is the digest of all heads there were.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from interlock import _canonical
from interlock._signing import SigningKey
from interlock.errors import Conflict, Misuse

FIRST = "0" * 64
"""What stands for the digest of the line before the first."""

HALTS = "halts"
USAGE = "usage"
"""The streams that are no sessions: the log of halts, and usage outside of sessions."""

_PREFIX = b"interlock.checkpoint.v1\n"


class Overtaken(Conflict):
    """Somebody else has appended since the lines were read; nothing was written."""


class Head(NamedTuple):
    """
    The last of a stream: its number and its hash.

    Of usage outside of sessions the number is the last row's position, and the hash is the digest of all up to it.
    """

    seq: int
    hash: str


class Heads(msgspec.Struct, frozen=True):
    """
    How far a store has come, as it was read.

    Attributes:
        at: The store's time.
        position: All events with a place in the feed up to this one are in it.
        heads: The last event of each session by its id, and of the streams that are no sessions; those that are not
            here have not changed since the checkpoint before.
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
        changed: The heads that are others than in the line before, by id; `halts` is the log of halts, `usage` is
            usage outside of sessions.
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
    What lines say together, as far as they were read.

    Attributes:
        witnessed: Every head that a line tells of, in their order: the stream, the head, and the line's time; None:
            nobody wants to know.
        last: The last checkpoint that could be read; None: there is none.
        digest: The digest of its line.
        heads: All heads, as of that line.
        since: For each session, the time of the line before the one that told of it first; None: there is none.
        lines: How many lines were read.
        is_whole: Whether the last one was written to its end.
        problems: What is wrong with the lines, a sentence each.
        notes: What is no fault and yet should be known, a sentence each.
    """

    witnessed: list[tuple[str, Head, datetime]] | None
    last: Checkpoint | None = None
    digest: str = FIRST
    heads: dict[str, Head] = {}
    since: dict[str, datetime | None] = {}
    lines: int = 0
    is_whole: bool = True
    problems: list[str] = []
    notes: list[str] = []

    def read(self, written: bytes, key: SigningKey) -> None:
        """
        Take what was written after the lines that were read; a line that is wrong is not believed.

        A line that was not written to its end, by a process that was killed, is a note, if the line after it follows
        from the one before it.
        """
        for part in written.split(b"\n"):
            if part:
                self._read_line(part, key)
        self.is_whole = written.endswith(b"\n") if written else self.is_whole

    def _read_line(self, written: bytes, key: SigningKey) -> None:
        self.lines += 1
        name = f"line {self.lines} of the checkpoints"
        line = _decoded(written)
        if line is None:
            self.notes.append(f"{name} was not written to its end, or was destroyed")
            return
        problem = _fault(self, line, written, key)
        if problem is not None:
            self.problems.append(f"{name} {problem}")
            if not _is_signed(line, key):
                return
        self._take(line, written)

    def _take(self, line: Line, written: bytes) -> None:
        checkpoint = line.checkpoint
        before = None if self.last is None else self.last.at
        for name, seq, digest in checkpoint.changed:
            head = Head(seq, digest)
            self.heads[name] = head
            if self.witnessed is not None:
                self.witnessed.append((name, head, checkpoint.at))
                self.since.setdefault(name, before)
        self.last, self.digest = checkpoint, _canonical.digest(written)


def next_line(chain: Chain, seen: Heads, key: SigningKey) -> tuple[Checkpoint, bytes]:
    """
    Return the checkpoint of *chain* and what was *seen* since, and its line without the end of the line.

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
    heads = {**chain.heads, **seen.heads}
    sessions = heads.keys() - {HALTS, USAGE}
    checkpoint = Checkpoint(
        number=1 if chain.last is None else chain.last.number + 1,
        previous=chain.digest,
        at=seen.at,
        sessions=len(sessions),
        events=sum(heads[name].seq for name in sessions),
        position=seen.position,
        root=root_of(heads),
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


def root_of(heads: Mapping[str, Head]) -> str:
    """Return the digest of all heads."""
    return _canonical.digest(
        _canonical.encode([[name, head.seq, head.hash] for name, head in sorted(heads.items())])
    )


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
