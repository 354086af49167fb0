"""Differences: what changed in meaning between two policies, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec

from interlock.policy.document import PolicyDocument

Kind = Literal["added", "removed", "changed", "moved"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """
    One part that is not as it was.

    Attributes:
        kind: What became of it.
        what: `rule`, `evaluator`, `budget` or the name of a section.
        name: Which one; the section's name where there is one only.
        before: What it said, as plain data; None where it was not there, or only moved.
        after: What it says.
    """

    kind: Kind
    what: str
    name: str
    before: Any = None
    after: Any = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Which of its keys differ."""
        if not (isinstance(self.before, Mapping) and isinstance(self.after, Mapping)):
            return ()
        both = {**self.before, **self.after}
        return tuple(key for key in both if self.before.get(key) != self.after.get(key))


_SECTIONS = ("name", "mode", "default", "risk", "models", "steering", "groups", "halts")


def changes(old: PolicyDocument, new: PolicyDocument) -> list[Change]:
    """Return what differs between *old* and *new*: sections, rules, evaluators, budgets; examples do not count."""
    before, after = (_plain(document) for document in (old, new))
    found = [
        Change(kind="changed", what=key, name=key, before=before[key], after=after[key])
        for key in _SECTIONS
        if before[key] != after[key]
    ]
    for what, key in (("rule", "id"), ("evaluator", "use"), ("budget", "name")):
        section = f"{what}s"
        found += _of_items(what, _named(before[section], key), _named(after[section], key))
    return found


def _of_items(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in old:
        if name not in new:
            yield Change(kind="removed", what=what, name=name, before=old[name])
    kept = _in_place([name for name in old if name in new], [name for name in new if name in old])
    for name in new:
        if name not in old:
            yield Change(kind="added", what=what, name=name, after=new[name])
            continue
        if new[name] != old[name]:
            yield Change(kind="changed", what=what, name=name, before=old[name], after=new[name])
        # The order of rules says which speaks; that of evaluators, who sees a result first. Budgets have none.
        if name not in kept and what != "budget":
            yield Change(kind="moved", what=what, name=name)


def _in_place(old: list[str], new: list[str]) -> set[str]:
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return {name for block in blocks for name in old[block.a : block.a + block.size]}


def _named(items: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """The items by name; a name that is used again gets its number."""
    found: dict[str, Any] = {}
    for item in items:
        name, number = item[key], 1
        while name in found:
            number += 1
            name = f"{item[key]} ({number})"
        found[name] = item
    return found


def _plain(document: PolicyDocument) -> dict[str, Any]:
    plain = document.model_dump(mode="json", by_alias=True, exclude={"expect"})
    for section in ("rules", "evaluators", "budgets"):
        compact = [
            part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for part in getattr(document, section)
        ]
        plain[section] = compact
    return plain
