"""The list of examples names each of them once, and the README leads to it."""

from __future__ import annotations

import re

from tests.docs.pages import README, ROOT, links, sections

EXAMPLES = ROOT / "examples"
PAGE = EXAMPLES / "README.md"


def _listed() -> list[str]:
    """What each item of the list is about: the first name of a link, which has to be its target."""
    items = [item for section in sections(PAGE) for item in section.items]
    found = [re.match(r"\[([\w.]+)\]\((\S+)\): [^.]+(?:\.\w+[^.]*)*\.\Z", item) for item in items]
    assert [item for item, match in zip(items, found, strict=True) if match is None] == []
    pairs = [(match[1], match[2].removesuffix("/README.md")) for match in found if match]
    assert [name for name, target in pairs if name != target] == []
    return [name for name, _ in pairs]


def test_every_example_is_listed_once() -> None:
    """Broken if there is an example that nobody is led to, or an item that is no sentence about one."""
    there = {path.name for path in EXAMPLES.glob("*.py")}
    there |= {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")}
    assert sorted(_listed()) == sorted(there)


def test_policies_of_examples_are_told() -> None:
    """Broken if a file lies beside the examples that no item explains."""
    beside = {path.name for path in EXAMPLES.iterdir() if path.is_file() and path.suffix != ".py"}
    assert sorted(beside - set(links(PAGE))) == ["README.md"]


def test_the_readme_leads_there() -> None:
    """Broken if a reader of the README gets a directory instead of the list."""
    assert "examples/README.md" in set(links(README))
