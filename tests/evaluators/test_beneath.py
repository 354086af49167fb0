"""`beneath`: an opener that stays below a directory, also while somebody swaps what is in it for links."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from interlock.evaluators.paths import beneath
from tests.path_tricks import build, escaping

RACES = 1_000
ROUNDS = 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with links that lead out of it."""
    return build(tmp_path.resolve())


def read(path: str | Path, root: Path) -> str:
    """Read what is opened beneath *root*."""
    with open(path, encoding="utf-8", opener=beneath(str(root))) as file:
        return file.read()


def test_what_is_below_is_opened(root: Path) -> None:
    """Broken if ordinary files, absolute or relative, cannot be read and written through it."""
    for path in (
        "note.txt",
        f"{root}/note.txt",
        root / "a" / "note.txt",
        "./a/note.txt",
        os.fsencode("note.txt"),
    ):
        assert read(path, root) == "ordinary"  # type: ignore[arg-type]
    with open("a/new.txt", "w", encoding="utf-8", opener=beneath(str(root))) as file:
        file.write("made")
        assert os.get_blocking(file.fileno())
    assert (root / "a" / "new.txt").read_text() == "made"
    with pytest.raises(FileExistsError):
        open("a/new.txt", "x", encoding="utf-8", opener=beneath(str(root)))  # noqa: SIM115
    with pytest.raises(FileNotFoundError):
        read("none.txt", root)


@pytest.mark.promise(1)
def test_nothing_escapes(root: Path) -> None:
    """Broken if any of thousands of strings opens what is outside."""
    opened = set()
    for text in dict.fromkeys(escaping(root)):
        try:
            opened.add(read(text, root))
        except (OSError, ValueError):
            continue
    assert opened <= {"ordinary"}


@pytest.mark.promise(1)
def test_only_ordinary_files_are_opened(root: Path) -> None:
    """Broken if a pipe hangs who opens it, or a directory or link is opened."""
    os.mkfifo(root / "pipe")
    for path in ("pipe", "a", "fine/note.txt", "a/fine.txt", "file", "."):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
            read(path, root)


def test_no_descriptor_is_left(root: Path) -> None:
    """Broken if what fails half way down leaves directories open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path in ("a/b/none", "a/out/secret", "a/note.txt/x", "../x", "a", "a/note.txt"):
        try:
            read(path, root)
        except OSError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def swap(place: Path, ordinary: Path, link: Path, stop: threading.Event) -> None:
    """Exchange what stands at *place*, an ordinary thing and a link to what is outside, again and again."""
    while not stop.is_set():
        os.rename(ordinary, place)  # noqa: PTH104
        os.rename(place, ordinary)  # noqa: PTH104
        os.rename(link, place)  # noqa: PTH104
        os.rename(place, link)  # noqa: PTH104


@pytest.mark.promise(1)
@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_swap_does_not_lead_out(what: str, root: Path) -> None:
    """Broken if a link that is put in place between the check and the use leads out."""
    spare = root / "spare"
    spare.mkdir()
    if what == "directory":
        (spare / "ordinary").mkdir()
        (spare / "ordinary" / "secret").write_text("ordinary")
        (spare / "link").symlink_to(root.parent / "outside")
        place, path = root / "swapped", "swapped/secret"
    else:
        (spare / "ordinary").write_text("ordinary")
        (spare / "link").symlink_to(root.parent / "secret")
        place, path = root / "swapped", "swapped"
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(place, spare / "ordinary", spare / "link", stop))
    swapper.start()
    ours: list[str] = []
    theirs: set[str] = set()
    try:
        # Until enough have been tried, and a plain `open` has been led out: only then there was a race.
        while (
            len(ours) < RACES or not {"planted", "ordinary"} <= {*theirs} or "ordinary" not in ours
        ):
            for _ in range(ROUNDS):
                try:
                    ours.append(read(path, root))
                except OSError as error:
                    ours.append(type(error).__name__)
                try:
                    theirs.add((root / path).read_text())
                except OSError:
                    continue
    finally:
        stop.set()
        swapper.join()
    assert "planted" not in ours
