"""Notes: what the host records in a session's history by itself, and from which nothing follows."""

from __future__ import annotations

import re
from collections.abc import Collection

from interlock import _redaction, _total
from interlock._redaction import Redact
from interlock.errors import Misuse
from interlock.events import AppNoted

MAX_NAME = 64
"""Characters of a name."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def note_of(
    name: object, data: object, *, secrets: Collection[str], redact: Redact | None
) -> AppNoted:
    """
    Return the event that notes *data*: secrets masked first, then each text shown to *redact*, then bounded.

    Raises:
        Misuse: *name* is none, or *secrets* is not a collection of names.
    """
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise Misuse(
            f"what is recorded has a name such as loop_started or plan.step_done, of at most {MAX_NAME} characters: "
            "lower-case letters of ASCII, digits, underscores and dots, each part beginning with a letter"
        )
    if isinstance(secrets, str) or not all(isinstance(one, str) for one in secrets):
        raise Misuse("secrets= is a collection of names, each a text")
    tree = _total.total(data, secrets=secrets)
    if redact is not None:
        tree = _redaction.redacted_data(name, tree, redact)
    return AppNoted(name=name, data=_total.written(tree))
