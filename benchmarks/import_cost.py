"""
What `import interlock` costs: a fresh interpreter that imports it, over one that imports nothing.

Each turn starts one process, which finds all bytecode compiled: by the turn that warms up, in a directory of the run,
so that a machine on which none is written measures the same. SQLAlchemy and pydantic are what most of it goes to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _harness import Options, Sample, directory, interleaved, show, timed

PROGRAMS = {
    "bare interpreter": "pass",
    "import sqlalchemy": "import sqlalchemy",
    "import pydantic": "from pydantic import BaseModel",
    "import interlock": "import interlock",
}

UNWANTED = {"PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME"}


def started(program: str, bytecode: Path) -> Callable[[float], Sample]:
    """Return the cell that runs *program* in a process of its own, which keeps its *bytecode* there."""
    command = [sys.executable, "-c", program]
    variables = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    variables["PYTHONPYCACHEPREFIX"] = str(bytecode)
    return partial(timed, partial(subprocess.run, command, check=True, env=variables))


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    with directory() as place:
        cells = {name: started(code, place) for name, code in PROGRAMS.items()}
        results = interleaved(options, cells)
    bare = results["bare interpreter"].typical_s
    ours = results["import interlock"].typical_s
    theirs = [results[f"import {name}"].typical_s - bare for name in ("sqlalchemy", "pydantic")]
    show(
        options,
        title="Import",
        method=str(__doc__).strip(),
        results=results,
        ratios={
            "import.over_bare": ours / bare,
            "import.over_dependencies": (ours - bare) / sum(theirs),
        },
        meanings={
            "import.over_bare": "time of a process that imports interlock over that of one that imports nothing",
            "import.over_dependencies": "what the import adds, over what importing SQLAlchemy and pydantic adds",
        },
    )


if __name__ == "__main__":
    main()
