"""The page on guarantees and the README tell of each promise which tests prove it, and what they say is so."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, README, ROOT, Section, sections
from tests.promises import PROMISES

PAGE = DOCS / "explanation" / "guarantees.md"


def _proofs() -> dict[int, set[str]]:
    """The files that have a test marked with each promise, read and not run."""
    found: dict[int, set[str]] = defaultdict(set)
    for pattern in ("tests/**/test_*.py", "plugins/*/tests/**/test_*.py"):
        for path in ROOT.glob(pattern):
            for number in _marked(path):
                found[number].add(path.relative_to(ROOT).as_posix())
    return found


def _marked(path: Path) -> set[int]:
    """The promises that tests in a file are marked with, and those in the suites that it derives from."""
    numbers: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.promise":
            numbers.update(ast.literal_eval(argument) for argument in node.args)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests."):
            suites = [alias for alias in node.names if alias.name.endswith("Suite")]
            numbers.update(*[_marked(ROOT / f"{node.module.replace('.', '/')}.py") for _ in suites])
    return numbers


def _numbered(page: Path) -> dict[int, Section]:
    starts = {int(s.title.split(".")[0]): s for s in sections(page) if s.title[:1].isdigit()}
    return dict(sorted(starts.items()))


def _told(number: int) -> set[str]:
    """The test files that the section on a promise links to after "Proved by"."""
    text = PAGE.read_text("utf-8")
    start = text.index(f"\n## {number}. ")
    proved = text[start + 4 :].partition("\n## ")[0].partition("**Proved by**")[2]
    return {part.partition(")")[0] for part in proved.split("](../../")[1:]}


def test_every_promise_has_a_section() -> None:
    """Broken if a promise could be counted that is not written down, or the other way round."""
    assert list(PROMISES) == list(_numbered(PAGE))


@pytest.mark.parametrize("number", PROMISES)
def test_proofs(number: int) -> None:
    """Broken if the page names a file that proves nothing of the promise, or leaves out one that does."""
    proofs = sorted(_proofs()[number])
    listed = ",\n".join(f"[{name}](../../{name})" for name in proofs)
    assert proofs == sorted(_told(number)), (
        f"the section should end with:\n\n**Proved by**\n{listed}."
    )


@pytest.mark.parametrize("number", PROMISES)
def test_readme_promises_what_is_proved(number: int) -> None:
    """Broken if the README makes a promise that no test proves."""
    slug = _numbered(PAGE)[number].slug
    promised = f"guarantees.md#{slug})" in README.read_text("utf-8")
    assert not promised or _proofs()[number] != set()
