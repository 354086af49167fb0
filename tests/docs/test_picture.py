"""The picture of the demo's terminal: it says what the demo prints, needs nothing from elsewhere, and is shown."""

from __future__ import annotations

import re
import runpy
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.docs.pages import DOCS, README, links

PICTURE = DOCS / "pictures" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What the script that draws it defines."""
    return runpy.run_path(str(PICTURE.with_suffix(".py")))


def _told(svg: str) -> list[str]:
    """The lines of text in a picture, from top to bottom."""
    lines: dict[float, dict[float, str]] = defaultdict(dict)
    for text in ET.fromstring(svg).iter(f"{SVG}text"):  # noqa: S314 - our own file
        lines[float(text.get("y", 0))][float(text.get("x", 0))] = text.text or ""
    return [
        "".join(lines[y][x] for x in sorted(lines[y])).replace("\xa0", " ").rstrip()
        for y in sorted(lines)
    ]


def test_the_picture_says_what_the_demo_prints(script: dict[str, Any]) -> None:
    """Broken if the README shows a terminal that nobody who runs the demo will see: `make picture` draws it anew."""
    assert _told(PICTURE.read_text("utf-8")) == _told(script["draw"](script["run"]()))


def test_the_picture_is_whole(script: dict[str, Any]) -> None:
    """Broken if the picture leaves out anything of the demo but calls of the model and what to try next."""
    printed = (
        "Case 1\n"
        "12:00:01  ✔ allow  chat        may think\n"
        "                   model=m     returned, 7.1 ms\n"
        "12:00:01  ✔ allow  find_b      looking\n"
        "                   b=2         returned, 12.3 ms\n"
        "12:00:02  ✔ allow  find_a      looking\n"
        "                   a=1         returned, 0.9 ms\n"
        "  /x/bin/interlock approvals approve 00000000-0000-7000-8000-00000000000a\n"
        "12:00:03  ✘ deny   chatter     no rule\n"
        "\n"
        "Try next:\n"
        "  verify\n"
    )
    assert [line.plain for line in script["scene"](printed)] == [
        "$ make demo",
        "Case 1",
        "09:30:00  ✔ allow  find_b      looking",
        "                   b=2         returned, 0.4 ms",
        "09:30:00  ✔ allow  find_a      looking",
        "                   a=1         returned, 0.4 ms",
        "  .venv/bin/interlock approvals approve 01a20466-87ae-7579-8e1b-c12f11b8a4f0",
        "09:30:00  ✘ deny   chatter     no rule",
    ]


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    """Broken if a reader's browser is sent to another server, or sees letters that overlap for want of a font."""
    svg = PICTURE.read_text("utf-8")
    elements = ET.fromstring(svg).iter()  # noqa: S314 - our own file
    kinds = {element.tag.removeprefix(SVG) for element in elements}

    assert sorted(kinds & {"image", "script", "foreignObject", "use", "a", "link"}) == []
    assert [target for target in re.findall(r"url\(([^)]*)\)", svg) if target[0] != "#"] == []
    assert re.findall(r"@[a-z-]+", svg) == []
    assert len(re.findall(r"font-family: [^;]*\bmonospace;", svg)) == 1
    assert len(_told(svg)) <= 45, "it is to be seen without scrolling"


def test_the_readme_shows_it() -> None:
    """Broken if nobody sees it, or another picture is shown that nothing keeps true."""
    shown = [target for target in links(README) if Path(target).suffix in {".svg", ".png"}]
    assert shown == ["docs/pictures/demo.svg"]
