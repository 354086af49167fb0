"""Every link inside README, docs, examples, the plugins' READMEs and .github leads somewhere; every page is reached."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import TARGETS
from tests.docs.pages import DOCS, ROOT, links, name_of, pages, sections

COMMUNITY = sorted(ROOT.glob(".github/*.md"))
READMES = [
    *sorted(ROOT.glob("examples/**/README.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
ALL = [*pages(), *READMES, *COMMUNITY]


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
        ("index.md#reference", True),
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


@pytest.mark.parametrize("page", COMMUNITY, ids=name_of)
def test_what_contributors_are_told_exists(page: Path) -> None:
    """Broken if somebody who follows the page looks for a file, or makes a target, that is not there."""
    text = page.read_text("utf-8")
    paths = re.findall(
        r"`((?:src|tests|plugins|docs|examples)(?:/[\w./]+)?|[\w-]+\.(?:toml|lock))`", text
    )
    if not (ROOT / "src").exists():  # where the wheels are tested
        paths = [path for path in paths if not path.startswith("src")]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    made = re.findall(r"^\$ make ([a-z-]+)", text, re.MULTILINE)
    assert sorted(set(made) - TARGETS) == []
    assert paths or made or page.name == "SECURITY.md"
