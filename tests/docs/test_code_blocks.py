"""Every code block of README and docs runs, and prints what the page shows."""

from __future__ import annotations

import codeop
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import interlock
from interlock import Policy
from tests.docs.blocks import TARGETS, Page
from tests.docs.pages import DOCS, README, ROOT, name_of, pages, tokens

LANGUAGES = {"python", "console", "text", "yaml", "toml", ""}
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a directory of the test's own, and leave no default governor behind."""
    monkeypatch.chdir(tmp_path)
    yield
    interlock.configure(None)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_blocks_run(
    page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if a reader who follows the page from its top meets an error, or sees what the page does not show."""
    if "DATABASE_URL" in page.read_text("utf-8"):
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("empty_postgres"))
    Page(page).run()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_block_escapes(page: Path) -> None:
    """Broken if a block is in a language that the runner ignores, so that nothing would notice when it rots."""
    escaped = [token.info for token in tokens(page) if token.type == "fence"]
    assert sorted(set(escaped) - LANGUAGES) == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    """Broken if the text of a page tells the reader to make what the Makefile has not."""
    told = set(re.findall(r"`make ([a-z0-9-]+)", page.read_text("utf-8")))
    assert sorted(told - TARGETS) == []


@pytest.mark.parametrize("page", sorted((DOCS / "tutorial").glob("*.md")), ids=name_of)
def test_tutorials_can_be_typed(page: Path) -> None:
    """Broken if a reader who types a block into a Python prompt, as the page says, meets a syntax error."""
    compiled = codeop.CommandCompiler()
    typed = 0
    for block in (token.content for token in tokens(page) if token.info == "python"):
        waiting: list[str] = []
        for line in [*block.splitlines(), ""]:
            waiting.append(line)
            if compiled("\n".join(waiting), symbol="single") is not None:
                waiting.clear()
                typed += 1
        assert waiting == []
    assert typed > 1


def _readme(language: str) -> list[str]:
    return [token.content for token in tokens(README) if token.info == language]


def test_quickstart_is_the_readme() -> None:
    """Broken if the file that the README points to is another program, or has another policy, than the README."""
    source = (EXAMPLES / "quickstart.py").read_text("utf-8")
    body = source.replace('HERE / "quickstart.yaml"', '"policy.yaml"')
    block, *_ = _readme("python")
    imports, _, rest = block.partition("\n\n\n")
    assert [line for line in imports.splitlines() if line not in body.splitlines()] == []
    assert rest.strip() in body
    policy, *_ = _readme("yaml")
    assert Policy.parse(policy).digest == Policy.load(EXAMPLES / "quickstart.yaml").digest


def _printed(example: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / example],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}", "ID", done.stdout)


@pytest.mark.parametrize("example", ["quickstart.py", "quickstart_async.py"])
def test_quickstarts_print_what_the_readme_shows(example: str) -> None:
    """Broken if a quickstart fails, or if sync and async callers get different answers."""
    shown, *_ = _readme("text")
    shown = re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}", "ID", shown)
    assert shown == _printed(example)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```python\nprint(1)\n```\n", "no `text` block shows it"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "but the page shows"),
        ("```python\n1 / 0\n```\n", "division by zero"),
        ("```python\nx = 1\n```\n\n```text\n1\n```\n", "but the page shows"),
        ("```console\n$ make money\n```\n", "no money"),
        ("```console\n$ exit 3\n```\n", "exit code 3"),
        ("```console\n$ echo one\ntwo\n```\n", "but the page shows"),
        ("```yaml\nrules: [{id: x}]\n```\n", "key is missing"),
        ("Not run by the tests: no time.\n\n```python\nif:\n```\n", "invalid syntax"),
    ],
)
def test_the_runner_can_fail(tmp_path: Path, text: str, problem: str) -> None:
    """Broken if a page could be wrong and pass."""
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    with pytest.raises(BaseException, match=problem):
        Page(page).run()


def test_ids_are_bound(tmp_path: Path) -> None:
    """Broken if two things could be shown under one id or one under two, or an excused block were run."""
    page = tmp_path / "page.md"
    one, two = "01a20466-9190-74ba-9870-0cb617382d5b", "01a20466-9197-71ca-a5b6-95d4283cdd94"
    page.write_text(
        "```python\n"
        "from uuid import uuid4\n"
        "x, y = uuid4(), uuid4()\n"
        "print(x, y)\n"
        "input('go on?')\n"
        "print(y, '0.3 ms')\n"
        "```\n\n"
        f"```text\n{one} {two}\ngo on?\n```\n\n"
        f"```console\n$ echo '{two}'\n{two}\n```\n\n"
        f"```text\n{two} 17.5 ms\n```\n\n"
        "Not run by the tests: it would fail.\n\n"
        "```console\n$ exit 3\n```\n",
        "utf-8",
    )
    ran = Page(page)
    ran.run()
    assert ran.ran == 4
    right = page.read_text("utf-8")
    page.write_text(right.replace(f"{two} 17.5", f"{one} 17.5"), "utf-8")
    with pytest.raises(BaseException, match="but the page shows"):
        Page(page).run()
    page.write_text(right.replace(f"{two} 17.5", f"{two[:-1]}0 17.5"), "utf-8")
    with pytest.raises(BaseException, match="one id where the page shows two"):
        Page(page).run()
