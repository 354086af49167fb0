"""
Paths that are meant to get out of a directory, and ordinary ones that stay in it.

The strings are made of pieces: ways up, ways to write them, prefixes and ends. Some are harmless where they are tried;
what matters is that none is let through that reaches what is outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

DOTS = [
    "..",
    "../..",
    "../../..",
    "..//..",
    "./..",
    ".../...",
    "../.",
    "....//....",
    "..;",
    ".. ",
    "..\t",
    "...",
    "..\u200b",
]
WRITTEN = {
    "plain": lambda text: text,
    "percent": lambda text: text.replace(".", "%2e"),
    "percent slash": lambda text: text.replace("/", "%2f"),
    "percent twice": lambda text: text.replace(".", "%252e").replace("/", "%252f"),
    "overlong": lambda text: text.replace("/", "%c0%af"),
    "iis": lambda text: text.replace("/", "%u2215"),
    "backslash": lambda text: text.replace("/", "\\"),
    "both": lambda text: text.replace("/", "\\/"),
    "full width": lambda text: text.replace(".", "\uff0e").replace("/", "\uff0f"),
    "one dot leader": lambda text: text.replace(".", "\u2024"),
    "two dot leader": lambda text: text.replace("..", "\u2025"),
    "division slash": lambda text: text.replace("/", "\u2215"),
    "fraction slash": lambda text: text.replace("/", "\u2044"),
    "zero width": lambda text: text.replace(".", ".\u200b"),
    "joined": lambda text: text.replace("..", ".\u034f."),
    "nul": lambda text: text + "\x00",
    "newline": lambda text: "\n" + text,
    "small stop": lambda text: text.replace(".", "\ufe52"),
    "html": lambda text: text.replace(".", "&#46;"),
    "unicode escape": lambda text: text.replace(".", "\\u002e"),
    "surrogate": lambda text: text.replace(".", "\udc2e"),
}
PREFIXES = [
    "",
    "./",
    "a/",
    "a/b/",
    "a/../",
    "//",
    "/./",
    ".//",
    "-",
    " ",
    "~",
    "~root/",
    "$HOME/",
    "${PWD}/",
    "%USERPROFILE%/",
]
ENDS = [
    "secret",
    "outside/secret",
    "outside/",
    "secret\x00.txt",
    "secret ",
    "secret.",
    "SECRET",
    "secret::$DATA",
]

LINKS = [
    "out",
    "up",
    "file",
    "loop",
    "dangling",
    "deep/out",
    "a/out",
    "proc",
    "rel",
    "chain",
    "inside/../out",
    "fd",
]
"""Symbolic links of `build`'s tree, all of them leading outside, nowhere, or around."""

ODD = [
    *[
        "/etc/passwd",
        "/",
        "//",
        "///",
        "/..",
        "/.",
        "",
        ".",
        "..",
        " ",
        "\x00",
        "~",
        "~root",
        "-",
        "--",
        "\u202e",
    ],
    *[
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "/proc/1/root",
        "/dev/stdin",
        "/dev/fd/0",
    ],
    *[
        "file:///etc/passwd",
        "file:secret",
        "http://x/secret",
        "\\\\server\\share\\x",
        "//server/share",
        "\\\\?\\C:\\x",
    ],
    *[
        "C:\\Windows\\win.ini",
        "C:secret",
        "c:/secret",
        "\\secret",
        "/c:/secret",
        "\\\\.\\COM1",
        "//?/C:/x",
        "\\??\\C:",
    ],
    *[
        "a:b",
        "secret:stream",
        "x::$INDEX_ALLOCATION",
        "CON",
        "con.txt",
        "aux",
        "NUL.tar.gz",
        "COM1",
        "lpt9.x",
        "com\u00b9",
    ],
    *[
        "CONIN$",
        "PROGRA~1/x",
        "a~2",
        "a.",
        "a..",
        "a ",
        " a",
        "a. ",
        "a\u00a0",
        "\u3000a",
        "a\u2028b",
        "a\u0085b",
    ],
    *[
        "$HOME",
        "${HOME}/x",
        "$(id)",
        "`id`",
        "%TEMP%",
        "!x!%",
        "a%00b",
        "a|b",
        "a>b",
        "a<b",
        'a"b',
        "a*",
        "a?",
        "**/x",
    ],
    *[
        "x" * 256,
        "x/" * 2_100,
        "x" * 5_000,
        "\u00e9" * 128,
        "e\u0301",
        "a" + "\u0300" * 40,
        "\ud800",
        "\U000e0041",
    ],
    *[
        "\u2126",
        "\u212b",
        "\u0340",
        "\ue000",
        "\U0010ffff",
        "a\u0378",
        "\uff0fetc\uff0fpasswd",
        "\u2025/secret",
    ],
]


def build(top: Path) -> Path:
    """Make a tree in *top*, with a secret beside the root and links to it in the root; return the root."""
    outside = top / "outside"
    root = top / "root"
    for directory in (
        outside,
        root / "a" / "b",
        root / "deep",
        root / "inside",
        top / "root-evil",
        top / "rootx",
    ):
        directory.mkdir(parents=True)
    for secret in (
        top / "secret",
        outside / "secret",
        top / "root-evil" / "secret",
        top / "rootx" / "secret",
    ):
        secret.write_text("planted")
    for ordinary in (root / "note.txt", root / "a" / "note.txt", root / "inside" / "note.txt"):
        ordinary.write_text("ordinary")
    links = {
        "out": outside,
        "up": Path(".."),
        "file": top / "secret",
        "loop": root / "loop",
        "dangling": outside / "new",
        "deep/out": Path("../../outside"),
        "a/out": outside,
        "proc": Path("/proc/self/root"),
        "rel": Path("a/../../outside"),
        "chain": root / "out",
        "fd": Path("/proc/self/cwd"),
        "fine": Path("inside"),
        "a/fine.txt": Path("../note.txt"),
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def escaping(root: Path) -> Iterator[str]:
    """Yield more than 6,000 strings, each tried as it is and below *root*."""
    yield from ODD
    yield from (f"{root}/{odd}" for odd in ODD)
    for dots, write, prefix, end in product(DOTS, WRITTEN.values(), PREFIXES, ENDS):
        text = prefix + write(f"{dots}/{end}")
        # Every third of the many, absolute and relative in turn; which ones is fixed, and all pieces take part.
        number = hash_of(text)
        if number % 3 == 0:
            yield text if number % 2 else f"{root}/{text}"
    for link, end in product(
        LINKS,
        ["", "/", "/secret", "/.", "/..", "/../secret", "/outside/secret", "/new", "/etc/passwd"],
    ):
        yield f"{root}/{link}{end}"
        yield f"{link}{end}"
    for beside in (
        "-evil/secret",
        "x/secret",
        "../secret",
        "/../root-evil/secret",
        "\\secret",
        " /secret",
        "./secret",
    ):
        yield f"{root}{beside}"


def hash_of(text: str) -> int:
    """Return a number that is the same in every run."""
    return sum(ord(char) * (place + 7) for place, char in enumerate(text))


_WORDS = [
    "notes",
    "report",
    "Q3 summary",
    "invoice-2024-001",
    "main",
    "README",
    "data_v2",
    "photo (1)",
    "r\u00e9sum\u00e9",
    "\u6771\u4eac",
]
_TYPES = [".txt", ".py", ".tar.gz", "", ".PDF", ".min.js", ".csv~", ".d.ts", "@2x.png", "[1].pdf"]
_PLACES = [
    "",
    "a/",
    "a/b/",
    "docs/2024/",
    ".config/",
    "src/my-app/",
    "node_modules/@scope/x/",
    "./",
    "Users/Ann B/",
    "v1.2.3/",
]

ORDINARY = [f"{place}{word}{kind}" for place, word, kind in product(_PLACES, _WORDS, _TYPES)]
"""A thousand names of files."""
