"""A Postgres server of a test's own, which it may kill and start again; and a wire to it that it may cut."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import postgres_server as programs


class Server:
    """A server that lives in `directory`, with one database of ours in it."""

    def __init__(self, directory: Path) -> None:
        """Make it and start it."""
        self._data = directory / "data"
        programs._start(directory)
        self.admin = f"postgresql://postgres@/postgres?host={programs._socket(directory)}"
        user = None
        if os.geteuid() == 0:
            user = next(name for name in ("postgres", "nobody") if programs._exists(name))
        # Those of `_start` are copied by now, where they had to be.
        copied = next(iter(directory.glob("programs/*/*/bin")), None)
        found = copied or programs._programs(directory, user)
        self._run = programs._runner(found, self._data, user)

    def kill(self) -> None:
        """Kill every process of it, as the loss of power would."""
        master = int((self._data / "postmaster.pid").read_text("utf-8").split()[0])
        family = [master, *_children(master)]
        os.kill(master, signal.SIGSTOP)  # or it would give birth to others
        for pid in {*family, *_children(master)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_is_alive(pid) for pid in family):
            time.sleep(0.005)

    def start(self) -> None:
        """Start it again; it recovers first."""
        options = "-c listen_addresses='' "
        options += f"-c unix_socket_directories='{self._data}' -c max_connections=200"
        for lock in (
            "postmaster.pid",
            ".s.PGSQL.5432.lock",
        ):  # where nobody has buried its process yet
            (self._data / lock).unlink(missing_ok=True)
        arguments = (f"--pgdata={self._data}", f"--log={self._data}/log", f"--options={options}")
        self._run("pg_ctl", "start", "-w", *arguments)


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in found.read_text("utf-8").split()]


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


@contextmanager
def server() -> Iterator[Server]:
    """Yield a server; whatever is left of it in the end is gone."""
    if shutil.which("sh") is None or not Path("/proc/self/task").exists():
        raise programs.NoServer("a server can be killed here only where there is /proc")
    with programs._directory() as directory:
        yield Server(directory)


class Wire:
    """
    A path to a server's socket that can be cut: just before, or just after, it has carried a commit.

    Cut `for good` it is cut after a commit, and nobody gets through any more while it `is_dead`.
    """

    def __init__(self, path: str) -> None:
        """Listen at a free port of this machine."""
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut: str | None = None
        self.cuts = 0
        self.is_dead = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.is_dead:
                    near.close()
                    continue
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._path)
                ends = threading.Event()
                for pair in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._carry, args=(*pair, ends), daemon=True).start()

    def _carry(
        self, source: socket.socket, sink: socket.socket, to_server: bool, ends: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                commits = to_server and b"COMMIT" in data and self.cut is not None
                if commits:
                    how, self.cut = self.cut, None
                    self.cuts += 1
                    ends.set()
                    if how == "before":
                        break
                    self.is_dead = how == "for good"
                    source.shutdown(socket.SHUT_RDWR)  # nobody hears what the server says to it
                    sink.sendall(data)
                    time.sleep(0.2)
                    break
                if not to_server and ends.is_set():
                    continue
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
