"""A process that calls tools in a session which an earlier one has opened, and prints what became of them."""

from __future__ import annotations

import json
import sys

from interlock import Governor, governed
from interlock.errors import Refused
from tests.language._joining import joined


def main() -> None:
    """Take a URL, a policy as JSON, a session's id and names of tools."""
    url, policy, session_id, *tools = sys.argv[1:]
    found = []
    with Governor(url, policy=json.loads(policy)) as governor, joined(governor, session_id):
        for name in tools:
            tool = governed(name=name)(lambda: "done")
            try:
                found.append(tool())
            except Refused as error:
                found.append(error.decision.verdict.value)
    print(json.dumps(found))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
