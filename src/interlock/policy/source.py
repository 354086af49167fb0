"""Source: a policy's file as people wrote it: what it says, where it says so, and the examples beside it."""

from __future__ import annotations

from pathlib import Path

from interlock.errors import PolicyError
from interlock.policy.document import (
    ExampleDocument,
    PolicyDocument,
    data_of,
    line_of,
    parse_data,
    parsed,
    text_of,
)
from interlock.policy.values import Strict


class ExamplesDocument(Strict):
    """A file of examples beside a policy's own."""

    expect: tuple[ExampleDocument, ...]


class Source:
    """
    A file that was read.

    Attributes:
        path: The file.
        document: What it says.
    """

    def __init__(self, path: str | Path) -> None:
        """
        Read the policy in the file *path*.

        Raises:
            PolicyError: as `document.parse_file`.
        """
        self.path = str(path)
        self._data = data_of(text_of(path), path=self.path)
        self.document: PolicyDocument = parse_data(self._data, path=self.path)

    def line(self, *keys: str | int) -> int | None:
        """Return in which line the deepest part of *keys* is that is written there, from 1."""
        return line_of(self._data, keys)


def examples_in(path: str | Path) -> tuple[ExampleDocument, ...]:
    """
    Return the examples in the file *path*, which holds `expect:` and nothing else.

    Raises:
        PolicyError: it cannot be read, or what it says is wrong.
    """
    data = data_of(text_of(path), path=str(path))
    if not isinstance(data, dict):
        raise PolicyError("a file of examples is a mapping with 'expect'", path=str(path))
    return parsed(ExamplesDocument, data, path=str(path)).expect
