"""The site that `make docs` builds: without a warning, without a network, and with everything in it."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

import interlock
from interlock import (
    canaries,
    clients,
    egress,
    errors,
    events,
    hookspecs,
    notify,
    testing,
    tool_use,
)
from tests.docs.pages import DOCS, ROOT, first, rows

READMES = (".", "benchmarks", "examples", "examples/plugin_template", "plugins/*")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by the command of the Makefile where the network is out of reach."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (command,) = re.findall(r"\$\(BIN\)/sphinx-build (.+) build/docs$", makefile, re.MULTILINE)
    built = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *shlex.split(command), built],
        cwd=ROOT,
        env={**os.environ, "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return built


def _html(source: Path) -> Path:
    return Path(source.relative_to(ROOT)).with_suffix(".html")


def _navigation(site: Path) -> set[Path]:
    """The pages that the navigation of the landing page leads to."""
    start = (site / "index.html").read_text("utf-8")
    (landing,) = re.findall(r'<a href="([^"]+)"', start)
    page = site / landing
    links = re.findall(r'<li class="toctree-[^>]+><a [^>]*href="([^"#]+)"', page.read_text("utf-8"))
    return {(page.parent / link).resolve().relative_to(site.resolve()) for link in links}


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """Broken if a file under docs, or a README, has no page, or one that the navigation does not lead to."""
    readmes = (ROOT.glob(f"{place}/README.md") for place in READMES)
    sources = {
        *ROOT.glob(".github/*.md"),
        *chain.from_iterable(readmes),
        *DOCS.rglob("*.md"),
        *DOCS.rglob("*.rst"),
    }
    expected = {_html(source) for source in sources - {DOCS / "index.md"}}
    assert expected == _navigation(site)
    assert [page for page in expected if not (site / page).is_file()] == []


def _own(module: ModuleType) -> list[str]:
    """The names that a module without `__all__` offers: what is defined in it."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _public() -> Iterator[str]:
    for module in (interlock, clients, egress, notify, testing):
        yield from (f"{module.__name__}.{name}" for name in module.__all__)
    for module in (canaries, errors, events, hookspecs, tool_use):
        yield from (f"{module.__name__}.{name}" for name in _own(module))
    for kind in (interlock.Governor, interlock.Session):
        methods = inspect.getmembers(kind, inspect.isroutine)
        yield from (f"interlock.{kind.__name__}.{name}" for name, _ in methods if name[0] != "_")
    for title in ("Operations on the store", "Values of the store", "Egress and files"):
        yield from (f"interlock.{first(row)}" for row in rows("api", title))


def test_every_public_name_is_in_the_api_reference(site: Path) -> None:
    """Broken if something that may be relied on is missing from the API reference."""
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    described = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    assert sorted(set(_public()) - described) == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("docs/how-to/stop-an-agent.md", ["halt", "releas"]),
        ("docs/explanation/threats.md", ["threat", "defend"]),
        ("docs/reference/python/interlock.rst", ["heartbeat", "sqlite"]),
        ("plugins/interlock-mcp/README.md", ["proxi", "stdio"]),
    ],
)
def test_search_finds_words_of_pages(site: Path, page: str, words: list[str]) -> None:
    """Broken if the search is given no index, or one that lacks what pages and docstrings say."""
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    number = index["filenames"].index(page)
    for stem in words:
        found = [index[where].get(stem, []) for where in ("terms", "titleterms")]
        assert number in [
            n for these in found for n in (these if isinstance(these, list) else [these])
        ]


def test_pages_need_no_network(site: Path) -> None:
    """Broken if a page that is opened from disk loads a script, a style or a picture from elsewhere."""
    loads = re.compile(r'<(?:script|link|img|iframe)\b[^>]+\b(?:src|href)="((?:https?:)?//[^"]+)')
    found = {
        f"{page.relative_to(site)}: {link}"
        for page in site.rglob("*.html")
        for link in loads.findall(page.read_text("utf-8"))
    }
    styles = "".join(style.read_text("utf-8") for style in site.rglob("*.css"))
    assert (sorted(found), re.findall(r"(?:@import|url\()\s*[\"']?https?:[^;)]*", styles)) == (
        [],
        [],
    )


def test_every_local_link_leads_somewhere(site: Path) -> None:
    """Broken if a link that is good in the repository, such as one to a test, leads nowhere in the site."""
    # The list of modules is Sphinx's own, and has modules of which there is no source.
    link = re.compile(r'<a [^>]*\bhref="(?![a-z]+:|#)([^"#?]+)')
    missing = {
        f"{page.relative_to(site)}: {target}"
        for page in set(site.rglob("*.html")) - {site / "_modules/index.html"}
        for target in link.findall(page.read_text("utf-8"))
        if not (page.parent / target).is_file()
    }
    assert sorted(missing) == []
