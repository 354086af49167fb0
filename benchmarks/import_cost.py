"""
What `import interlock` costs: a fresh interpreter that imports it, over one that imports nothing.

Each turn starts one process; its bytecode is compiled beforehand. `interlock.policy` is what reads policies.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

from _harness import Options, Sample, interleaved, show, timed

PROGRAMS = {
    "bare interpreter": "pass",
    "import sqlalchemy": "import sqlalchemy",
    "import pydantic": "from pydantic import BaseModel",
    "import interlock": "import interlock",
}


def started(program: str) -> Callable[[float], Sample]:
    """Return the cell that runs *program* in a process of its own."""
    command = [sys.executable, "-c", program]
    return partial(timed, partial(subprocess.run, command, check=True))


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    results = interleaved(options, {name: started(code) for name, code in PROGRAMS.items()})
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
