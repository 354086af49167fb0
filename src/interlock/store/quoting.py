"""Names of tables in SQL that is written as text."""

from __future__ import annotations


def quoted(name: str, schema: str | None = None) -> str:
    """
    Quote a name as both databases do, behind its *schema* if there is one.

    The dialect's own quoting doubles each % for the driver, as `text` does once more.
    """
    parts = [name] if schema is None else [schema, name]
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def escaped(statement: str) -> str:
    """Return *statement*, in which no parameter is named, for `text`: it takes what follows a colon for one."""
    return statement.replace(":", "\\:")
