"""
The runner of a page's code blocks, in order, in one namespace and one directory.

========  ==========================================================================================
language  what happens to the block
========  ==========================================================================================
python    it runs; `input()` has the following blocks run, up to the first `console`, before it returns
console   each line that begins with ``$`` runs; what it prints must be what is shown below it;
          of ``make TARGET``, only whether the Makefile has it is looked at: it may run the tests
text      what the block before it printed; whatever a block prints must be shown
yaml      it is a policy, or part of one; a first line ``# NAME.yaml`` also makes it that file
toml      it is TOML
          a block without a language is a figure
========  ==========================================================================================

Ids, digests, times and durations differ from run to run. They are compared by shape, and an id stands for the
same thing on the whole page: once shown, it can be used in a command.
A block is not run if the paragraph before it says ``not run by the tests:`` and why; Python is compiled even so.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from interlock import Policy
from tests.docs.pages import ROOT

COLUMNS = 110
"""The width of the terminal that the pages show."""

TARGETS = frozenset(
    re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
)
"""What the Makefile can make."""

_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SHAPES = {
    "id": _ID,
    "digest": r"\b[0-9a-f]{64}\b",
    "date": r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?:Z| UTC)",
    "day": r"\b\d{4}-\d\d-\d\d\b",
    "time": r"\d\d:\d\d:\d\d\.\d{3}",
    "duration": r"\b\d+(?:\.\d+)? (?:µs|ms|s)\b",
    "since": r" *\+\d+\.\d{3}s",
}
_VOLATILE = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items()))
_EXCUSE = re.compile(r"[Nn]ot run by the tests: \S.*\Z", re.DOTALL)


class Page:
    """One page being run."""

    def __init__(self, path: Path) -> None:
        """Read the page at *path*."""
        evaluators: dict[str, Callable[[Example], None]] = {
            "python": self._python,
            "console": self._console,
            "text": self._text,
            "yaml": self._yaml,
            "toml": self._toml,
        }
        parsers = [CodeBlockParser(language, run) for language, run in evaluators.items()]
        document = Document.parse(str(path), *parsers)
        document.namespace["__name__"] = "__main__"
        document.namespace["input"] = self._input
        self._waiting = deque(document.examples())
        self._evaluate = PythonEvaluator()
        self._output = io.StringIO()
        self._ids: dict[str, str] = {}
        self.ran = 0
        """How many blocks ran, those excused not among them."""

    def run(self) -> None:
        """Run every block, in the current directory."""
        __tracebackhide__ = True
        while self._waiting:
            self._next()
        self._must_have_been_shown("the page")

    def _next(self) -> str:
        """Run one block and return its language."""
        __tracebackhide__ = True
        example = self._waiting.popleft()
        language = str(example.region.lexemes["arguments"])
        if language != "text":
            self._must_have_been_shown(f"the block at line {example.line}")
        if not _is_excused(example):
            self.ran += 1
            example.evaluate()
        elif language == "python":
            compile(str(example.parsed), str(example.path), "exec")
        return language

    def _python(self, example: Example) -> None:
        __tracebackhide__ = True
        with contextlib.redirect_stdout(self._output):
            self._evaluate(example)

    def _input(self, prompt: str = "") -> str:
        sys.stdout.write(f"{prompt}\n")
        with contextlib.redirect_stdout(sys.__stdout__):
            while self._next() != "console":
                pass
        return ""

    def _console(self, example: Example) -> None:
        __tracebackhide__ = True
        for part in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
            command, shown = _split(part)
            if target := re.match(r"make ([a-z0-9-]+)", command):
                assert target[1] in TARGETS, f"the Makefile has no {target[1]}"
                continue
            for written, actual in self._ids.items():
                command = command.replace(written, actual)
            printed = _shell(command)
            self._compare(shown, printed, f"$ {command}")

    def _text(self, example: Example) -> None:
        __tracebackhide__ = True
        printed = self._output.getvalue()
        self._output.seek(0)
        self._output.truncate()
        self._compare(str(example.parsed), printed, f"the block before line {example.line}")

    def _yaml(self, example: Example) -> None:
        text = str(example.parsed)
        data = YAML(typ="safe").load(text)
        Policy.build({"version": 1, "name": "example", **data})
        if named := re.match(r"# (\w+\.yaml)\n", text):
            Policy.parse(text)
            Path(named[1]).write_text(text, "utf-8")

    def _toml(self, example: Example) -> None:
        tomllib.loads(str(example.parsed))

    def _must_have_been_shown(self, where: str) -> None:
        __tracebackhide__ = True
        unseen = self._output.getvalue()
        if unseen:
            pytest.fail(f"before {where}, this was printed and no `text` block shows it:\n{unseen}")

    def _compare(self, shown: str, printed: str, what: str) -> None:
        """Fail unless *printed* is what is *shown*, but for what differs from run to run, and remember ids."""
        __tracebackhide__ = True
        found = re.fullmatch(self._pattern(shown), _tidy(printed), re.DOTALL)
        if found is None:
            pytest.fail(
                f"{what} printed\n\n{_tidy(printed)}\n\nbut the page shows\n\n{_tidy(shown)}"
            )
        for group, actual in found.groupdict().items():
            self._ids[group.removeprefix("id_").replace("_", "-")] = actual
        if len(set(self._ids.values())) < len(self._ids):
            pytest.fail(f"{what} printed one id where the page shows two")

    def _pattern(self, shown: str) -> str:
        """A regular expression for what is *shown*; ids not met before become groups."""
        parts: list[str] = []
        new: set[str] = set()
        place = 0
        shown = _tidy(shown)
        for volatile in _VOLATILE.finditer(shown):
            parts.append(re.escape(shown[place : volatile.start()]))
            place = volatile.end()
            written = volatile[0]
            group = "id_" + written.replace("-", "_")
            if volatile.lastgroup != "id":
                parts.append(_SHAPES[str(volatile.lastgroup)])
            elif written in self._ids:
                parts.append(re.escape(self._ids[written]))
            elif written in new:
                parts.append(f"(?P={group})")
            else:
                new.add(written)
                parts.append(f"(?P<{group}>{_ID})")
        return "".join([*parts, re.escape(shown[place:])])


def _is_excused(example: Example) -> bool:
    before = example.document.text[: example.start].rstrip()
    return _EXCUSE.search(before.rpartition("\n\n")[2]) is not None


def _split(part: str) -> tuple[str, str]:
    """A command, which goes on after a backslash at the end of its line, and what it prints."""
    lines = part.splitlines()
    last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
    return "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])


def _tidy(text: str) -> str:
    """The text without trailing blanks, which nobody sees."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def _shell(command: str) -> str:
    """What *command* prints; fails if its exit code is not 0."""
    __tracebackhide__ = True
    ours = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": str(COLUMNS),
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={name: value for name, value in os.environ.items() if name != "INTERLOCK_DB"} | ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"$ {command}\nended with exit code {done.returncode}:\n{done.stdout}")
    return done.stdout
