"""Every link inside README, docs and the plugins' READMEs leads somewhere, and every page can be reached."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, ROOT, links, name_of, pages, sections

ALL = [*pages(), *sorted(ROOT.glob("plugins/*/README.md"))]


def _problem(page: Path, target: str) -> str | None:
    """What is wrong with a link, if anything; links to elsewhere are only looked at."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        good = parts.scheme == "https" or parts.hostname == "127.0.0.1"
        return None if good else f"{target} is not https"
    path = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    if not path.exists():
        return f"{target} leads nowhere"
    if not path.is_relative_to(ROOT):
        return f"{target} leads out of the repository"
    if parts.fragment and parts.fragment not in {found.slug for found in sections(path)}:
        return f"{target} names no heading of {name_of(path)}"
    return None


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_links_resolve(page: Path) -> None:
    """Broken if a link inside the repository leads to no file, or to no heading of it."""
    problems = [problem for target in links(page) if (problem := _problem(page, target))]
    assert problems == []


@pytest.mark.parametrize(
    ("target", "is_good"),
    [
        ("index.md", True),
        ("index.md#how-to", True),
        ("../README.md", True),
        ("https://www.rfc-editor.org/rfc/rfc8785", True),
        ("index.md#no-such-heading", False),
        ("no-such-page.md", False),
        ("http://example.com", False),
        ("../../elsewhere.md", False),
    ],
)
def test_a_bad_link_is_seen(target: str, *, is_good: bool) -> None:
    """Broken if the test above could not fail."""
    assert is_good == (_problem(DOCS / "index.md", target) is None)


def test_index_reaches_every_page() -> None:
    """Broken if a page exists that a reader of the index is not led to."""
    index = DOCS / "index.md"
    linked = {(DOCS / urlsplit(target).path).resolve() for target in links(index)}
    missing = set(DOCS.rglob("*.md")) - linked - {index}
    assert sorted(map(name_of, missing)) == []


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_pages_are_well_made(page: Path) -> None:
    """Broken if a page has no title or two, or skips a level, so that its outline misleads."""
    levels = [found.level for found in sections(page)]
    assert levels.count(1) == 1
    assert max((below - above for above, below in pairwise(levels)), default=0) <= 1
