"""The plugin `secrets`: takes secrets out of what is recorded of a call's arguments."""

from __future__ import annotations

from collections.abc import Iterable

from interlock import hookimpl
from interlock.hookspecs import Content
from interlock_secrets.detector import MAX_BYTES, check_kinds, find, masked, scanner


class SecretRedaction:
    """
    Replaces each secret by `[secret: KIND]`, and by `[secret: too long to be searched]` a text of more than 64 KiB.

    It changes what is recorded, never what runs.
    """

    def __init__(self, *, kinds: Iterable[str] | None = None) -> None:
        """
        Prepare to look for all kinds of secrets, or for *kinds*; the first in a process takes seconds.

        Raises:
            ValueError: there is no such kind.
        """
        self._kinds = None if kinds is None else frozenset(kinds)
        check_kinds(self._kinds or ())
        scanner()

    @hookimpl
    def interlock_redact(self, content: Content) -> str | None:
        """Return the text without its secrets, or None where there are none."""
        text = content.text
        if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
            return "[secret: too long to be searched]"
        # The name tells what a text is: under `password`, any word may be a secret.
        name = content.path.rpartition(".")[2][:100]
        shift = len(name) + 1
        spans = [
            span._replace(start=max(0, span.start - shift), end=span.end - shift)
            for span in find(f"{name}={text}", self._kinds)
            if span.end > shift
        ]
        return masked(text, spans) if spans else None


plugin = SecretRedaction()
"""What the entry point `secrets` in the group `interlock` offers."""
