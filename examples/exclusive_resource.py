"""Leases: two agents deploy, one at a time for each service, and write it down as the holder or not at all."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from sqlalchemy import Connection, text

from interlock import Call, Governor, LeaseTaken, current_call, governed
from interlock.store import leases

POLICY = {
    "version": 1,
    "name": "operations",
    "default": "allow",
    "leases": [{"name": "one-deployment", "tools": ["deploy"], "per": "resource"}],
}


def write_down(connection: Connection, call: Call | None, version: str) -> None:
    """Write a version down as the holder of the lease, or not at all."""
    leases.check(connection, call, lease="one-deployment")
    connection.execute(text("INSERT INTO versions VALUES (:version)"), {"version": version})


def work(governor: Governor) -> None:
    """Deploy from two threads: both of them the same service, then another one."""
    begun, over = threading.Event(), threading.Event()

    @governed(resource="service")
    def deploy(service: str, version: str, *, slowly: bool = False) -> str:
        call = current_call()
        assert call is not None
        if slowly:
            begun.set()
            over.wait()
        governor.write(write_down, call, f"{service} {version}")
        return f"deployed {service} {version} under token {call.leases['one-deployment']}"

    def other_agent() -> None:
        with governor.session("day-shift", agent="release-bot"):
            print(deploy("api", "1.2", slowly=True))

    agent = threading.Thread(target=other_agent)
    agent.start()
    begun.wait()
    with governor.session("night-shift", agent="ops-bot"):
        try:
            deploy("api", "1.3")
        except LeaseTaken as taken:
            print(taken)
        print(deploy("web", "7.0"))
        over.set()
        agent.join()
        print(deploy("api", "1.3"))


def main() -> None:
    """Make a store, let the agents work, and show what was written."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'interlock.db'}"
        with Governor(url, policy=POLICY) as governor:
            governor.write(lambda c: c.execute(text("CREATE TABLE versions (version TEXT)")))
            work(governor)
            rows = governor.read(lambda c: c.execute(text("SELECT version FROM versions")).all())
            print("versions:", ", ".join(row.version for row in rows))


if __name__ == "__main__":
    main()
