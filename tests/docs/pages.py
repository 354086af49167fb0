"""The pages of the documentation, read as Markdown: their headings, tables, fences and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"

Row: TypeAlias = dict[str, str]
"""A row of a table: Markdown by the heading of its column."""


class Section(msgspec.Struct):
    """What stands between one heading and the next."""

    title: str
    level: int
    slug: str
    rows: list[Row] = msgspec.field(default_factory=list)
    fences: list[tuple[str, str]] = msgspec.field(default_factory=list)
    items: list[str] = msgspec.field(default_factory=list)


def pages() -> list[Path]:
    """Return the README and every page under docs, in order."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return what to call *page*: its path from the top."""
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    """Return the Markdown tokens of *page*."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


@cache
def sections(page: Path) -> list[Section]:
    """Return the sections of *page*, in order; rows are those of all tables of a section."""
    found: list[Section] = []
    used: dict[str, int] = {}
    columns: list[str] = []
    cells: list[str] | None = None
    stream = iter(tokens(page))
    for token in stream:
        match token.type:
            case "heading_open":
                inline = next(stream)
                slug = _slug(_plain(inline), used)
                found.append(Section(_plain(inline), int(token.tag[1]), slug))
            case "thead_open":
                columns = []
            case "tr_open":
                cells = []
            case "tr_close" if cells is not None:
                if columns:
                    found[-1].rows.append(dict(zip(columns, cells, strict=True)))
                columns = columns or cells
                cells = None
            case "inline" if cells is not None:
                cells.append(token.content)
            case "fence" if found:
                found[-1].fences.append((token.info.strip(), token.content))
            case "list_item_open":
                next(stream)
                found[-1].items.append(next(stream).content)
            case _:
                pass
    return found


def section(page: Path, title: str) -> Section:
    """Return the one section of *page* with that *title*."""
    (found,) = [item for item in sections(page) if item.title == title]
    return found


def reference(name: str) -> list[Section]:
    """Return the sections of a page of the reference."""
    return sections(REFERENCE / f"{name}.md")


def rows(name: str, title: str) -> list[Row]:
    """Return the rows of the tables in one section of a page of the reference."""
    return section(REFERENCE / f"{name}.md", title).rows


def first(row: Row) -> str:
    """Return the code in the first cell of a row: what the row is about."""
    (name,) = code(next(iter(row.values())))
    return name


def links(page: Path) -> Iterator[str]:
    """Yield the target of every link and image of *page*."""
    for token in tokens(page):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                yield str(target)


def code(markdown: str) -> list[str]:
    """Return the code spans of a piece of Markdown, such as a table's cell."""
    return re.findall(r"`([^`]+)`", markdown)


def _plain(inline: Token) -> str:
    kinds = {"text", "code_inline"}
    return "".join(child.content for child in inline.children or [] if child.type in kinds)


def _slug(title: str, used: dict[str, int]) -> str:
    """The anchor that GitHub gives a heading: github.com/Flet/github-slugger."""
    slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    number = used[slug] = used.get(slug, -1) + 1
    return f"{slug}-{number}" if number else slug
