"""Scale: an enumeration whose members are ordered by their place in the definition."""

from __future__ import annotations

from enum import Enum
from typing import Self


class Scale(Enum):
    """
    Members compare by position: the first is the least.

    Values are the words used in policies, columns and span attributes; comparing across scales raises TypeError.
    """

    rank: int

    def __new__(cls, value: str) -> Self:
        """Number the members from 0 in the order of their definition."""
        member = object.__new__(cls)
        member._value_ = value
        member.rank = len(cls.__members__)
        return member

    def __lt__(self, other: object) -> bool:
        return self.rank < other.rank if type(other) is type(self) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self.rank <= other.rank if type(other) is type(self) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.rank > other.rank if type(other) is type(self) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.rank >= other.rank if type(other) is type(self) else NotImplemented

    def __str__(self) -> str:
        return str(self.value)
