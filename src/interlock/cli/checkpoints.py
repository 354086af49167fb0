"""`interlock checkpoint`, and what `interlock verify --checkpoint` compares: how far every session had come."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from interlock import Governor
from interlock._checkpoint import Checkpoint
from interlock._checkpoints import Checkpoints, Comparison
from interlock.cli.output import DEFAULT, Database, Json, cut, opened, print_json, safe, show
from interlock.errors import InterlockError, Misuse

KEY = "INTERLOCK_CHECKPOINT_KEY"
"""The variable that holds what checkpoints are signed with."""

_UNITS = {"s": 1, "m": 60, "h": 3600}

BEARER = "INTERLOCK_CHECKPOINT_TOKEN"
"""The variable that holds the bearer token for the URL that checkpoints are kept behind."""

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", help=f"The file of the key; without it the key is in the variable {KEY}."
    ),
]


def checkpoint(
    db: Database = DEFAULT,
    *,
    to: Annotated[
        str,
        typer.Option(
            help=f"The file that a line is appended to, or a URL that takes it by POST; {BEARER} is sent there."
        ),
    ],
    key: KeyFile = None,
    every: Annotated[
        str | None, typer.Option(help="Go on until Ctrl-C, one each 30s, 5m or 1h.")
    ] = None,
    json: Json = False,
) -> None:
    """Append a signed checkpoint of how far every session has come to a place outside of the database."""
    pause = None if every is None else duration(every)
    with opened(db) as governor:
        kept = _kept(governor, to, key)
        if pause is None:
            _tell(_appended(kept), kept.name, json=json)
            return
        try:
            while True:
                try:
                    _tell(_appended(kept), kept.name, json=json)
                except InterlockError as error:
                    if isinstance(error, Misuse):  # another try does not mend it
                        raise
                    cut(f"no checkpoint was written, and it is tried again: {error}")
                time.sleep(pause.total_seconds())
        except KeyboardInterrupt:
            return


def compared(governor: Governor, place: str, key: Path | None) -> Comparison:
    """Compare the store with the checkpoints in *place*, a file or a URL."""
    kept = _kept(governor, place, key)
    try:
        return kept.compare()
    except OSError as error:
        raise Misuse(
            f"the checkpoints in {kept.name} cannot be read: {error.strerror or error}"
        ) from error


def show_comparison(comparison: Comparison) -> None:
    """Say what came of it."""
    for note in comparison.notes:
        show(safe(note, "yellow"))
    for problem in comparison.problems:
        show(safe(problem, "red"))
    last = comparison.last
    if last is not None and not comparison.problems:
        show(
            Text(
                f"all that checkpoint {last.number} of {last.at:%Y-%m-%d %H:%M:%SZ} and those before it have seen "
                f"is still there: {last.sessions} sessions, {last.events} events",
                style="green",
            )
        )


def key_of(path: Path | None) -> bytes:
    """
    Return the key in the file at *path*, or else in the environment.

    Raises:
        Misuse: there is none.
    """
    if path is None:
        if found := os.environ.get(KEY):
            return found.encode()
        raise Misuse(
            f"checkpoints need a key: name its file with --key, or put it into {KEY}. "
            "Make one with: openssl rand -hex 32"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misuse(f"the key in {path} cannot be read: {error.strerror}") from error


def duration(text: str) -> timedelta:
    """Return the time that *text* says, such as 60s, 5m or 1h."""
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdecimal() or not int(number):
        raise typer.BadParameter(f"{text!r} is no duration; write it as 30s, 5m or 1h")
    return timedelta(seconds=int(number) * unit)


def _kept(governor: Governor, place: str, key: Path | None) -> Checkpoints:
    is_url = place.startswith(("http://", "https://"))
    token = os.environ.get(BEARER) if is_url else None
    return governor.checkpoints(place, key=key_of(key), token=token)


def _appended(kept: Checkpoints) -> Checkpoint:
    try:
        return kept.append()
    except OSError as error:
        raise InterlockError(
            f"the checkpoint cannot be written to {kept.name}: {error.strerror or error}"
        ) from error


def _tell(made: Checkpoint, to: str, *, json: bool) -> None:
    if json:
        told: dict[str, Any] = {
            name: getattr(made, name)
            for name in ("number", "at", "sessions", "events", "position", "root")
        }
        print_json([{**told, "changed": len(made.changed), "key": made.key}])
    else:
        show(
            safe(
                f"checkpoint {made.number} in {to}: {made.sessions} sessions, {made.events} events, "
                f"{len(made.changed)} heads listed"
            )
        )
    sys.stdout.flush()
