"""A headless Chromium: what a page says once its scripts have run, and a picture of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    f"there is no browser: none of {', '.join(NAMES)} is on the PATH. Install Chromium "
    "(Debian, Ubuntu: apt install chromium), or leave the page unseen: "
    'make e2e-traces E2E_FLAGS="--no-browser"'
)
PATIENCE_MS = 20_000
"""How much time passes on the page before it is read; it passes faster than outside, and stands while it loads."""


class Seen:
    """What a page shows: `texts` in its order, and `rows` of its tables, cell by cell."""

    def __init__(self, html: str) -> None:
        """Read the page."""
        reader = _Reader()
        reader.feed(html)
        reader.close()
        self.texts = reader.texts
        self.rows = [tuple("".join(cell) for cell in row) for row in reader.rows]

    def __contains__(self, text: str) -> bool:
        """Whether the page shows *text*, as the whole of a piece of it."""
        return text in self.texts


def find() -> str | None:
    """Return the path of a browser; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def look(browser: str, url: str, *, profile: Path, picture: Path) -> Seen:
    """Open *url* in *browser*, keep a picture of the window, and return what is on the page."""
    # A sandbox needs privileges that root is not given in most containers; the page is our own.
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    ran = subprocess.run(
        [
            browser,
            "--headless",
            *root,
            "--disable-dev-shm-usage",
            "--force-prefers-reduced-motion",
            f"--user-data-dir={profile}",
            "--window-size=1280,960",
            f"--virtual-time-budget={PATIENCE_MS}",
            "--dump-dom",
            f"--screenshot={picture}",
            url,
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (ran.returncode, picture.exists()) == (0, True), ran.stderr[-2000:]
    return Seen(ran.stdout)


class _Reader(HTMLParser):
    """Collects the text of a page, without what is no text for its reader."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.rows: list[list[list[str]]] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "style"}:
            self._unseen += 1
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"} and self.rows:
            self.rows[-1].append([])

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._unseen -= 1

    def handle_data(self, data: str) -> None:
        text = data.strip()
        if not text or self._unseen:
            return
        self.texts.append(text)
        for cell in self._cells():
            cell.append(text)

    def _cells(self) -> Iterator[list[str]]:
        if self.rows and self.rows[-1]:
            yield self.rows[-1][-1]
