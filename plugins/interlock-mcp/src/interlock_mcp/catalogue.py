"""
The tools of one server as they were first listed, so that a change is noticed before the changed tool is used.

A server can offer a harmless tool, wait until a person or a policy trusts it, and then change what it says of it or
what it takes. What was listed first is pinned; another definition counts once it was accepted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from interlock import Misuse, schema_digest

Definition: TypeAlias = dict[str, Any]

_NOT_MEANING = frozenset({"_meta", "icons"})
"""What may differ from one listing to the next without another meaning for a model or a person."""


class Change(msgspec.Struct, frozen=True):
    """
    A tool that is not what it was.

    Attributes:
        name: Its name.
        was, now: The digests of the two definitions.
        definition: What the server says of it now; a list where it says several things by one name.
    """

    name: str
    was: str
    now: str
    definition: Any


class Catalogue:
    """What a server's tools were when they were pinned, and which of them have changed."""

    def __init__(self, path: Path | None = None) -> None:
        """
        Begin with what the file at *path* has pinned; without one, with nothing.

        Raises:
            Misuse: the file cannot be read.
        """
        self._path = path
        self._revision = 1
        self._listed = 0
        self._pinned: dict[str, list[Definition]] = _read(path)
        self._changed: dict[str, list[Definition]] = {}

    @property
    def revision(self) -> int:
        """How often there was reason to list anew; to be taken before the listing, and given to `is_listed`."""
        return self._revision

    @property
    def is_stale(self) -> bool:
        """Whether to list anew before the next call: nothing was listed yet, or the server said that it changed."""
        return self._listed < self._revision

    def outdate(self) -> None:
        """Say that the server's tools may have changed."""
        self._revision += 1

    def is_listed(self, revision: int) -> None:
        """Say that all was listed that had changed by *revision*."""
        self._listed = max(self._listed, revision)

    def note(self, listed: Iterable[Definition]) -> None:
        """Pin what is listed for the first time, and remember what is listed otherwise than it was."""
        found: dict[str, list[Definition]] = {}
        for definition in listed:
            found.setdefault(str(definition.get("name")), []).append(dict(definition))
        is_new = False
        for name, definitions in found.items():
            pinned = self._pinned.get(name)
            if pinned is None:
                self._pinned[name] = definitions
                is_new = True
            elif digest(pinned) != digest(definitions):
                self._changed[name] = definitions
            else:
                self._changed.pop(name, None)
        if is_new:
            self._write()

    def change(self, name: str) -> Change | None:
        """Return how the tool *name* has changed and was not accepted since; None if it has not."""
        now = self._changed.get(name)
        if now is None:
            return None
        was = self._pinned[name]
        return Change(name, digest(was), digest(now), now[0] if len(now) == 1 else now)

    def schema(self, name: str) -> str | None:
        """Return the digest of what arguments the tool takes, as it is pinned; None where it was never listed."""
        pinned = self._pinned.get(name)
        if not pinned:
            return None
        return schema_digest([one.get("inputSchema") for one in pinned])

    def accept(self, change: Change) -> None:
        """Pin the new definition of a tool, unless it has changed yet again."""
        now = self._changed.get(change.name)
        if now is not None and digest(now) == change.now:
            self._pinned[change.name] = self._changed.pop(change.name)
            self._write()

    def shown(self, listed: Iterable[Definition]) -> list[Definition]:
        """Return *listed* with the pinned definitions in the place of those that changed and are not accepted."""
        result: list[Definition] = []
        replaced: set[str] = set()
        for definition in listed:
            name = str(definition.get("name"))
            if name not in self._changed:
                result.append(definition)
            elif name not in replaced:
                replaced.add(name)
                result.extend(self._pinned[name])
        return result

    def _write(self) -> None:
        if self._path is None:
            return
        beside = self._path.with_name(self._path.name + ".new")
        text = json.dumps({"version": 1, "tools": self._pinned}, indent=1, sort_keys=True)
        beside.write_text(text + "\n", "utf-8")
        beside.replace(self._path)


def digest(definitions: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of what *definitions* say."""
    said = [
        {key: value for key, value in one.items() if key not in _NOT_MEANING} for one in definitions
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _read(path: Path | None) -> dict[str, list[Definition]]:
    if path is None or not path.exists():
        return {}
    try:
        kept = json.loads(path.read_text("utf-8"))
        tools = kept["tools"]
        if kept["version"] != 1 or not all(
            isinstance(found, list) and all(isinstance(one, dict) for one in found)
            for found in tools.values()
        ):
            raise ValueError("of another form")  # noqa: TRY301 - one sentence for all that is wrong
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misuse(
            f"the pins in {path} cannot be read ({type(error).__name__}); repair the file, or remove it to pin anew"
        ) from error
    return dict(tools)
