"""
Checkpoints on another machine: a collector keeps them, and tells what was done to the database behind its back.

A bot works, and `governor.checkpoints(url)` has signed checkpoints of its history kept by a collector, as
`interlock checkpoint --to URL` does. Then somebody who owns the database takes a session out of it, so well that the
database itself cannot tell, and the collector's lines can. No key, no model, no network but the loopback is needed.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, text

from interlock import Governor, governed
from interlock.store import append_only

KEY = b"a secret of the auditors"  # of theirs: the collector needs none
BEARER = "who may append and read"


@governed
def refund(order: str) -> str:
    """Give money back."""
    return f"refunded {order}"


class Collector(ThreadingHTTPServer):
    """Keeps lines in a file: `GET` returns them, `POST` appends one, if nobody else has since."""

    def __init__(self, file: Path, port: int) -> None:
        """Listen on a port of the loopback; 0: one that is free."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.file = file
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/checkpoints"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_GET(self) -> None:
        """Return all lines, or say that there is none yet."""
        if self._is_allowed():
            lines = self._lines()
            self._answer(200 if lines else 404, lines)

    def do_POST(self) -> None:
        """Append a line, unless the sender has not seen the last."""
        line = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            if not self._is_allowed():
                return
            lines = self._lines()
            if self.headers.get("If-Match", "") != (_tag(lines) if lines else ""):
                self._answer(412)
                return
            with self.server.file.open("ab") as file:
                file.write(line)
            self._answer(204)

    def _lines(self) -> bytes:
        return self.server.file.read_bytes() if self.server.file.exists() else b""

    def _is_allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {BEARER}".encode()):
            return True
        self._answer(401)
        return False

    def _answer(self, code: int, body: bytes = b"") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if body:
            self.send_header("ETag", _tag(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: what happens is printed by the example."""


def _tag(lines: bytes) -> str:
    return f'"{sha256(lines).hexdigest()}"'


@contextmanager
def collecting(file: Path, *, port: int = 0) -> Iterator[Collector]:
    """Run a collector that keeps its lines in *file*."""
    with Collector(file, port) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def work(governor: Governor, name: str) -> None:
    """Let the bot work in a session."""
    with governor.session(name, agent="support-bot"):
        refund("o-1")


def take_out(database: str, name: str) -> None:
    """Take a session out with all that is about it, as only the owner of the tables can."""
    with create_engine(database).begin() as connection:
        append_only.unprotect(connection)
        found = connection.execute(text("SELECT id FROM sessions WHERE name = :n"), {"n": name})
        session_id = found.scalar_one()
        for table, column in (("events", "session_id"), ("sessions", "id")):
            gone = f"DELETE FROM {table} WHERE {column} = :id"  # noqa: S608 - names of our own
            connection.execute(text(gone), {"id": session_id})
        connection.execute(text("DELETE FROM counters"))


def main() -> None:
    """Work, take checkpoints, tamper, and compare."""
    with TemporaryDirectory() as place, collecting(Path(place) / "lines.jsonl") as collector:
        database = f"sqlite:///{place}/interlock.db"
        policy = {"version": 1, "name": "all", "default": "allow"}
        with Governor(database, policy=policy) as governor:
            kept = governor.checkpoints(collector.url, key=KEY, token=BEARER)
            for name in ("ticket-1", "ticket-2"):
                work(governor, name)
                made = kept.append()
                print(f"checkpoint {made.number}: {made.sessions} sessions, {made.events} events")
        take_out(database, "ticket-1")
        print("somebody took a session out of the database")
        with Governor(database) as governor:
            alone = [report.problem for report in governor.verify() if report.problem]
            print("the database by itself:", alone or "all of its sessions are sound")
            for problem in (
                governor.checkpoints(collector.url, key=KEY, token=BEARER).compare().problems
            ):
                print("the collector:", problem)


if __name__ == "__main__":
    main()
