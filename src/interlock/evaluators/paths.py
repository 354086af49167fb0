"""The evaluator `path`: a file's path in an argument must lead into one of the directories that are granted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, model_validator

from interlock._argument import ArgumentPath, Place
from interlock._call import Call
from interlock._verdict import Opinion, Verdict
from interlock.evaluators._path_text import Unclear, directory, parts_of


class PathConfig(BaseModel):
    """
    What the evaluator `path` is told.

    Attributes:
        argument: The path of a text argument; it must be there.
        roots: Directories, absolute; everything below one of them may be used.
        capabilities: What may be done there: the tool must declare capabilities, and none but these. None: anything.
        base: The directory in which the tool reads relative paths; None means that they are denied.
        resolve: Whether symbolic links are followed on this machine, and where they lead must be granted, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argument: ArgumentPath
    roots: tuple[Annotated[StrictStr, AfterValidator(directory)], ...] = Field(min_length=1)
    capabilities: frozenset[Annotated[StrictStr, Field(min_length=1)]] | None = Field(
        None, min_length=1
    )
    base: Annotated[StrictStr, AfterValidator(directory)] | None = None
    resolve: bool = True

    @model_validator(mode="after")
    def _base_is_granted(self) -> Self:
        if self.base is not None and not _is_below(parts_of(self.base), map(parts_of, self.roots)):
            raise ValueError(
                "'base' is not below any of 'roots', so every relative path would be denied"
            )
        return self


class PathEvaluator:
    """
    Denies a call whose path does not lead below a root, or may be read in more than one way.

    It is judged as it is written, and, unless told otherwise, once more with all symbolic links followed.
    """

    Config = PathConfig

    def __init__(self, config: PathConfig) -> None:
        """Take the roots apart once."""
        self._place = Place(config.argument)
        self._roots = config.roots
        self._root_parts = tuple(map(parts_of, config.roots))
        self._capabilities = config.capabilities
        self._base = config.base
        self._resolve = config.resolve

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        objection = self._objection(call)
        if objection is None:
            return None
        return Opinion(verdict=Verdict.DENY, reason=objection, author="evaluator:path")

    def _objection(self, call: Call) -> str | None:
        if self._capabilities is not None:
            declared = frozenset(call.tool.capabilities)
            if not declared:
                return "the tool declares no capabilities, so no path is granted for them"
            if not declared <= self._capabilities:
                words = ", ".join(sorted(declared - self._capabilities))
                return f"no path is granted for: {words}"
        text = self._place.find(call.arguments)
        if not isinstance(text, str):
            return f"argument {self._place.name} is missing or no text, so it is no path"
        try:
            parts = parts_of(text, self._base)
            if not _is_below(parts, self._root_parts):
                return f"the path in argument {self._place.name} is not below a granted directory"
            if self._resolve and not _leads_below("/" + "/".join(parts), self._roots):
                return f"the path in argument {self._place.name} leads out of what is granted"
        except Unclear as error:
            return f"the path in argument {self._place.name} cannot be judged: {error}"
        return None


def beneath(root: str) -> Callable[[str, int], int]:
    """
    Return an opener for the built-in `open` that does not leave *root*, whatever others do to it meanwhile.

    `open(path, opener=beneath("/srv/reports"))` takes what is below *root*, absolute or relative to it. It goes down
    name by name, each looked up in the directory that the one before has opened, and follows no symbolic link below
    *root*. It opens nothing but ordinary files.

    Raises:
        OSError: from `open`; a PermissionError if the path leaves *root* or may be read in more than one way.
    """
    top = parts_of(directory(root))

    def opener(path: str, flags: int) -> int:
        try:
            parts = parts_of(os.fsdecode(path), root)
            if not _is_below(parts, [top]) or len(parts) == len(top):
                raise Unclear("it is not below the directory")  # noqa: TRY301 - one way out
        except Unclear as error:
            raise PermissionError(f"the path is not opened: {error}") from None
        *directories, name = parts[len(top) :]
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for directory in directories:
                down = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                here, above = os.open(directory, down, dir_fd=here), here
                os.close(above)
            # Without blocking, since it may be a pipe that nobody writes to; of an ordinary file that says nothing.
            last = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            found = os.open(name, last, 0o666, dir_fd=here)
        finally:
            os.close(here)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise PermissionError("the path is not opened: it is no ordinary file")
        os.set_blocking(found, True)
        return found

    return opener


def _is_below(parts: tuple[str, ...], roots: Iterable[tuple[str, ...]]) -> bool:
    return any(parts[: len(root)] == root for root in roots)


def _leads_below(path: str, roots: tuple[str, ...]) -> bool:
    """
    Whether *path*, all symbolic links in it followed, is below one of *roots*, theirs followed likewise.

    Raises:
        Unclear: it cannot be followed, or leads to what is neither a file nor a directory.
    """
    found = _followed(path)
    try:
        mode = os.lstat(found).st_mode
    except FileNotFoundError:
        pass  # to be made
    except OSError as error:
        raise Unclear(f"it cannot be followed ({type(error).__name__})") from None
    else:
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Unclear("it leads to what is neither a file nor a directory")
    parts = tuple(found.split("/")[1:])
    return _is_below(parts, (tuple(_root(root).split("/")[1:]) for root in roots))


def _root(path: str) -> str:
    try:
        return _followed(path)
    except Unclear:
        return "/"  # what cannot be followed grants nothing: no path has this one's empty name


def _followed(path: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except FileNotFoundError:
        return os.path.realpath(path)  # what is not there yet is no link
    except OSError as error:
        raise Unclear(f"it cannot be followed ({type(error).__name__})") from None
