"""prompt(): ask whoever sits at this process's terminal whether a call may run."""

from __future__ import annotations

import sys
import threading

from interlock._asking import Answer
from interlock._ticket import Ticket

_one_at_a_time = threading.Lock()


def prompt(ticket: Ticket) -> Answer | None:
    """
    Show *ticket* on the terminal, and return what is typed; None where there is no terminal.

    Only `y` and `yes` are a yes, and `n` and `no` a no; anything else, and the end of the input, is no answer.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    from rich.console import Console  # noqa: PLC0415 - few hosts ask on a terminal, and it takes long to import

    from interlock._display import panel  # noqa: PLC0415 - likewise

    console = Console()
    with _one_at_a_time:
        console.print(panel(ticket))
        try:
            typed = input("Run it? [y/n] ").strip().lower()
            if typed not in {"y", "yes", "n", "no"}:
                return None
            comment = input("Comment: ").strip()
        except EOFError:
            return None
    return Answer(typed.startswith("y"), comment or None)
