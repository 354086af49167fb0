"""
Draws docs/pictures/demo.svg: the terminal in which the demo was run, which the README shows. Run by `make picture`.

The demo is really run. Left out are the calls of the model, which take half of the screen, and what to try next.
Whatever differs from run to run is made the same: ids, times, durations, and which of two lookups made at once ends
first. The picture needs nothing from elsewhere: no font, no script.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

DEMO = Path(__file__).parents[2] / "examples/support_desk.py"
PICTURE = Path(__file__).with_suffix(".svg")
COLUMNS = 100
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

# Colours that can be read on the theme's background, dimmed too.
THEME = TerminalTheme(
    background=(22, 24, 29),
    foreground=(226, 228, 232),
    normal=[
        (60, 64, 72),
        (255, 117, 117),
        (110, 214, 124),
        (240, 200, 90),
        (120, 170, 255),
        (226, 140, 255),
        (90, 205, 220),
        (226, 228, 232),
    ],
)

SAME = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "01a20466-87ae-7579-8e1b-c12f11b8a4f0"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}…", "01a20466-87ae…"),
    (r"\d\d:\d\d:\d\d", "09:30:00"),
    (r"\b\d+\.\d ms\b", "0.4 ms"),
    (r"(?<= )\S*/interlock (?=approvals)", ".venv/bin/interlock "),
]
"""What differs from run to run, and what is shown instead."""


def run() -> list[Text]:
    """Run the demo in an empty directory, and return the lines of its picture."""
    with tempfile.TemporaryDirectory() as directory:
        ran = subprocess.run(  # noqa: S603 - our own example
            [sys.executable, DEMO],
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "COLUMNS": str(COLUMNS),
                "FORCE_COLOR": "1",
                "TERM": "xterm-256color",
                "PYTHONUTF8": "1",
            },
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        )
    return scene(ran.stdout)


def scene(printed: str) -> list[Text]:
    """Return what the picture shows of what the demo *printed*, colours and all."""
    for pattern, instead in SAME:
        printed = re.sub(pattern, instead, printed)
    printed, _, _ = printed.partition("\nTry next:")
    lines = list(Text.from_ansi(printed.rstrip()).split("\n"))
    for line in lines:
        line.rstrip()
    shown = [Text.assemble(("$ ", "green"), ("make demo", "bold"))]
    lookups: list[list[Text]] = []
    while lines:
        line = lines.pop(0)
        if re.match(r"\S+ +\S allow +chat\b", line.plain):
            lines.pop(0)  # its arguments and outcome
        elif re.match(r"\S+ +\S allow +find_", line.plain):
            lookups.append([line, lines.pop(0)])
            if len(lookups) == 2:  # noqa: PLR2004 - the demo makes two at once
                for lookup in sorted(lookups, key=lambda both: both[0].plain, reverse=True):
                    shown += lookup
        else:
            shown.append(line)
    return shown


def draw(lines: list[Text]) -> str:
    """Return the picture of these lines, as SVG."""
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    for line in lines:
        console.print(line)
    svg = console.export_svg(title="make demo", theme=THEME, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # they come over the network
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {FONTS}")
    svg = svg.replace("font-family: arial", "font-family: system-ui, sans-serif")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(run()), "utf-8")
