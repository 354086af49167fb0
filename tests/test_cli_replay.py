"""`interlock replay`: in the terminal, as JSON and as a page that needs nothing and lets nothing in."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from interlock import Governor
from interlock.cli import page
from interlock.store import sessions
from interlock.testing import ManualClock
from tests import eventful
from tests.test_story import recorded_calls

VOID = {"meta", "input", "br", "link", "img", "rect", "polyline"}
LINK = "https://traces.example/{trace_id}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

Cli = Callable[..., subprocess.CompletedProcess[str]]


class Tree(HTMLParser):
    """Reads a page strictly: every element that begins must end, in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element that has nothing in it."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Remember that it ended, which must be its turn."""
        if tag not in VOID:
            assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Remember text, that of the style sheet by itself."""
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each such element."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The store of the eventful session, and the session's id."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - of the tests alone

    url = f"sqlite:///{tmp_path_factory.mktemp('cli') / 'interlock.db'}"
    return url, eventful.live(url, ManualClock(), tracer_provider=TracerProvider())


@pytest.fixture
def cli(lived: tuple[str, str]) -> Cli:
    """Run `interlock replay` on the eventful session, as a process."""

    def run(*options: str, session: str = lived[1], **env: str) -> Any:
        command = [sys.executable, "-m", "interlock", "replay", session, *options, "--db", lived[0]]
        known = {**os.environ, "PYTHONIOENCODING": "utf-8", **env}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=known, encoding="utf-8"
        )

    return run


@pytest.fixture(scope="module")
def written(lived: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the eventful session."""
    path = tmp_path_factory.mktemp("page") / "replay.html"
    command = [sys.executable, "-m", "interlock", "replay", lived[1], "--db", lived[0]]
    subprocess.run([*command, "--html", str(path), "--trace-url", LINK], check=True)
    return path


def test_the_story_is_told_in_the_terminal(cli: Cli) -> None:
    """Broken if the command does not tell the whole story, or lets text from outside act."""
    done = cli(COLUMNS="80", INTERLOCK_TRACE_URL=LINK)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "approved",
        "steer",
        "denied",
        "request_payment",
        "https://traces.example/",
        f"{eventful.CALLS}: ",
    ):
        assert said in done.stdout
    assert not {"\x1b", "\u202e"} & set(done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "4111-secret" not in done.stdout


def test_json_is_one_object_a_line(cli: Cli) -> None:
    """Broken if a program cannot read the story, or finds another shape than the one that is documented."""
    lines = [json.loads(line) for line in cli("--json").stdout.splitlines()]
    assert [lines[0]["line"], lines[-1]["line"]] == ["session", "totals"]
    assert {"call", "event"} == {line["line"] for line in lines[1:-1]}
    calls = [line for line in lines if line["line"] == "call"]
    assert [*range(1, eventful.CALLS + 1)] == [call["number"] for call in calls]
    keys = {"line", "seq", "at", "after_us", "trace", "number", "decided", "ended", "approvals"}
    keys |= {"waited_us", "steered", "follows", "recovered"}
    assert all(keys == set(call) for call in calls)
    assert calls[0]["decided"]["kind"] == "call_decided"
    assert lines[-1]["events"] == eventful.EVENTS


def test_check_says_that_nothing_differs(cli: Cli) -> None:
    """Broken if a sound session does not pass, or a script cannot tell."""
    done = cli("--check")
    assert (
        done.returncode,
        done.stdout.strip(),
    ) == (0, f"{eventful.CALLS} decisions made again, and none differs")


def test_check_under_another_policy_exits_with_one(cli: Cli, tmp_path: Path) -> None:
    """Broken if a what-if does not name the calls that differ, or a script cannot tell that there are some."""
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\nname: other\ndefault: deny\n", encoding="utf-8")
    done = cli("--check", "--policy", str(other))
    assert done.returncode == 1
    assert "of look: verdict was allow, is deny" in done.stdout
    *found, counts = map(
        json.loads, cli("--check", "--policy", str(other), "--json").stdout.splitlines()
    )
    assert counts["differing"] == len([one for one in found if "differs" in one])
    assert counts["decisions"] == eventful.CALLS


@pytest.mark.parametrize(
    "options",
    [
        ("--policy", "p.yaml"),
        ("--trace-url", "javascript:alert(1)//{trace_id}"),
        ("--trace-url", "https://traces.example/"),
        ("--html", "x.html", "--json"),
        ("--html", "x.html", "--check"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, options: tuple[str, ...]) -> None:
    """Broken if an option is ignored, or a link could run a script."""
    done = cli(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("interlock: ")


def test_the_page_is_well_formed_and_needs_nothing(written: Path) -> None:
    """Broken if the page asks for anything from anywhere, or an element is left open."""
    tree = Tree(written.read_text(encoding="utf-8"))
    assert [tag for tag, _ in tree.elements if tag in {"script", "link", "img", "iframe"}] == []
    assert [
        key
        for _, attributes in tree.elements
        for key in attributes
        if key.startswith("on") or key in {"src", "style", "srcset"}
    ] == []
    assert not re.search(r"url\(|@import", tree.style)
    assert all(
        str(one["href"]).startswith(("#", "https://traces.example/")) for one in tree.all("a")
    )
    ids = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert sorted(set(ids), key=str) == sorted(ids, key=str)


def test_the_page_forbids_itself_all_but_its_style(written: Path) -> None:
    """Broken if the page's policy lets anything in, or shuts its own style sheet out."""
    tree = Tree(written.read_text(encoding="utf-8"))
    [policy] = [one["content"] for one in tree.all("meta") if "http-equiv" in one]
    digest = base64.b64encode(hashlib.sha256(tree.style.encode()).digest()).decode()
    expected = {
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    }
    assert expected == set(str(policy).split("; "))


def test_the_page_shows_hostile_text_as_text(written: Path) -> None:
    """Broken if what an agent wrote becomes an element, an attribute, or something that cannot be seen."""
    text = written.read_text(encoding="utf-8")
    assert not {"\x1b", "\u202e"} & set(text)
    tree = Tree(text)
    shown = "".join(tree.text)
    assert "<script>alert(1)</script>" in shown
    assert "4111-secret" not in shown


def test_the_page_can_be_used_by_everybody(written: Path) -> None:
    """Broken if the page lacks landmarks, a language, labels of its filters, or a heading."""
    tree = Tree(written.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in tree.elements]
    assert {"header", "main", "footer"} <= set(tags)
    assert [tags.count(tag) for tag in ("h1", "main", "title")] == [1, 1, 1]
    assert tree.all("html") == [{"lang": "en"}]
    assert tags.count("input") == tags.count("label") == 5
    assert all(one.get("aria-label") for one in tree.all("article"))
    assert all(one.get("aria-label") for one in tree.all("svg"))
    assert tags.count("details") == tags.count("article") == eventful.CALLS


def test_each_filter_hides_what_it_names(written: Path) -> None:
    """Broken if a filter of the page hides nothing, or no line can be found by its filter."""
    tree = Tree(written.read_text(encoding="utf-8"))
    shown = {str(one["id"]).removeprefix("show-") for one in tree.all("input")}
    lines = {str(one["class"]).removeprefix("is-") for one in tree.all("li")}
    assert {"allow", "ask", "steer", "deny", "event"} == shown == lines
    for name in shown:
        assert f"body:has(#show-{name}:not(:checked)) .is-{name}" in tree.style


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    lit = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]


def test_all_text_has_contrast_in_light_and_dark(written: Path) -> None:
    """Broken if a colour of text is too weak on its ground. Source: WCAG 2.2, 1.4.3: 4.5 to 1."""
    style = Tree(written.read_text(encoding="utf-8")).style
    for root in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", root))
        on = [(f, f"{f}-bg") for f in ("good", "wait", "turn", "bad", "plain")]
        on += [(f, g) for f in ("ink", "soft", "focus") for g in ("page", "card")]
        on += [(f, "card") for f in ("good", "wait", "turn", "bad")]
        for text, ground in on:
            light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_a_page_is_private_and_written_whole(lived: tuple[str, str], tmp_path: Path) -> None:
    """Broken if others can read a page, or a failure leaves half of one in the place of the last."""
    path = tmp_path / "replay.html"
    path.write_text("the last one", encoding="utf-8")
    with Governor(lived[0]) as governor:
        row = governor.read(sessions.get, lived[1])
    reads = 0

    def failing() -> Any:
        nonlocal reads
        reads += 1
        yield from recorded_calls(2)
        if reads == 3:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        page.write(path, row, failing)
    assert [one.read_text(encoding="utf-8") for one in tmp_path.iterdir()] == ["the last one"]
    page.write(path, row, lambda: recorded_calls(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_page_of_ten_thousand_calls_takes_little_memory(
    lived: tuple[str, str], tmp_path: Path
) -> None:
    """Broken if a page is made in memory before it is written."""
    with Governor(lived[0]) as governor:
        row = governor.read(sessions.get, lived[1])
    path = tmp_path / "replay.html"
    page.write(path, row, lambda: recorded_calls(2))  # what is loaded once is not counted
    tracemalloc.start()
    page.write(path, row, lambda: recorded_calls(10_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.read_text(encoding="utf-8").count("<article") == 10_000
    assert peak < 4_000_000 < path.stat().st_size


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_browser_sees_the_same_tree(written: Path, tmp_path: Path) -> None:
    """Broken if a browser makes more of the page than a parser does, or runs any of it."""
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--dump-dom", written.as_uri()],
        capture_output=True, text=True, check=True, timeout=60, encoding="utf-8",
    )  # fmt: skip
    seen, meant = Tree(done.stdout), Tree(written.read_text(encoding="utf-8"))
    names = [
        [tag for tag, _ in tree.elements if tag not in {"rect", "polyline"}]
        for tree in (seen, meant)
    ]
    assert names[0] == names[1]
