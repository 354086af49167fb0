"""The digest of what parameters a tool takes: a call that was approved for others is another call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

from interlock import _canonical

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def schema_digest(schema: object) -> str:
    """
    Return the digest of a tool's parameters as its *schema* describes them: for `Tool.schema`.

    Args:
        schema: Plain data, such as JSON Schema. The order of keys is irrelevant.

    Raises:
        ValueError: it is too deep or too large.
    """
    return _canonical.digest(_canonical.canonical(schema))


def parameters_digest(parameters: Iterable[inspect.Parameter]) -> str:
    """Return the digest of *parameters*: names, kinds, annotations, and which of them have a default."""
    return schema_digest(
        [
            [one.name, one.kind.name, _annotation(one), one.default is not one.empty]
            for one in parameters
        ]
    )


def _annotation(parameter: inspect.Parameter) -> str | None:
    """Return the annotation as text that is the same in every process."""
    given = parameter.annotation
    if given is parameter.empty:
        return None
    try:
        written = given if isinstance(given, str) else inspect.formatannotation(given)
    except Exception:  # noqa: BLE001 - whatever a foreign __repr__ raises
        written = type(given).__qualname__
    return _ADDRESS.sub("", written)
