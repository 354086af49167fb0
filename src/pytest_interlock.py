"""
The pytest plugin: each example beside a policy is a test.

It stands outside the package so that pytest, which loads it wherever Interlock is installed, imports nothing of
Interlock until there is a policy to test.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from interlock._trial import Trial
    from interlock.policy.document import ExampleDocument

INI = "interlock_policies"

_USUAL = ("policy.yaml", "*.policy.yaml")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting that ask for policies."""
    parser.getgroup("interlock").addoption(
        "--interlock-policies",
        action="store_true",
        default=False,
        help=f"test the examples in files named {' or '.join(_USUAL)}",
    )
    parser.addini(INI, "names of policy files, globs too, whose examples are tests", "args", [])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a policy's file where it is asked for."""
    config = parent.config
    wanted: list[str] = [*config.getini(INI)]
    if config.getoption("--interlock-policies"):
        wanted += _USUAL
    if any(fnmatchcase(file_path.name, pattern) for pattern in wanted) or _is_path(
        file_path, wanted, config.rootpath
    ):
        return PolicyTests.from_parent(parent, path=file_path)
    return None


class PolicyTests(pytest.File):
    """The examples of one policy."""

    _trial: Trial | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each example."""
        from interlock.errors import InterlockError  # noqa: PLC0415 - only where there is a policy
        from interlock.policy.source import Source  # noqa: PLC0415

        try:
            source = Source(self.path)
        except InterlockError as error:
            raise self.CollectError(str(error)) from None
        taken: set[str] = set()
        for number, example in enumerate(source.document.expect):
            called = example.name or f"{example.call.tool}-{example.verdict}"
            name = called if called not in taken else f"{called}-{number}"
            taken.add(name)
            line = source.line("expect", number)
            yield ExampleTest.from_parent(
                self, name=name, number=number, example=example, line=line
            )

    def trial(self) -> Trial:
        """Return the policy with its evaluators, built for the first test."""
        from interlock import Policy  # noqa: PLC0415
        from interlock._trial import Trial  # noqa: PLC0415

        if self._trial is None:
            self._trial = Trial(Policy.load(self.path))
        return self._trial

    def teardown(self) -> None:
        """Stop the evaluators."""
        if self._trial is not None:
            self._trial.close()
            self._trial = None


class ExampleTest(pytest.Item):
    """One example."""

    def __init__(
        self, *, number: int, example: ExampleDocument, line: int | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._number, self._example, self._line = number, example, line

    def runtest(self) -> None:
        """Fail where the policy says something else than the example."""
        if not isinstance(self.parent, PolicyTests):
            raise TypeError("an example is collected from its policy")
        result = self.parent.trial().result(self._number, self._example)
        if result.failures:
            raise ExampleFailed(
                f"{self.path}:{self._line or 1}: example {self.name}", *result.explained
            )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what failed in plain lines; no traceback, because no code of the reader's is in it."""
        if isinstance(excinfo.value, ExampleFailed):
            first, *others = excinfo.value.args
            return "\n".join([first, *(f"  {line}" for line in others)])
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the example is."""
        return self.path, None if self._line is None else self._line - 1, self.name


class ExampleFailed(AssertionError):
    """A policy says something else than an example beside it."""


def _is_path(file_path: Path, wanted: list[str], root: Path) -> bool:
    """Whether a name with directories in it, seen from the root of the tests, is that of the file."""
    if not file_path.is_relative_to(root):
        return False
    relative = file_path.relative_to(root).as_posix()
    return any("/" in pattern and fnmatchcase(relative, pattern) for pattern in wanted)
