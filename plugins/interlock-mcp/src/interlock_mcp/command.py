"""`interlock mcp`: the proxy from the command line, over stdio or streamable HTTP."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import httpx2
import typer
import uvicorn
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server

from interlock import Governor, Misuse, Session, wait
from interlock.cli.output import settings
from interlock.errors import Conflict, StoreUnavailable
from interlock.store import tickets
from interlock_mcp.canary import canary
from interlock_mcp.catalogue import Catalogue
from interlock_mcp.link import Connect, first
from interlock_mcp.proxy import Proxy

_TIME = re.compile(r"(\d+)(s|m|h)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}

_GRACE = 3
"""Seconds that open connections have when the proxy is told to end."""


def mcp(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND ...]", help="Starts the server, over stdio."),
    ] = None,
    *,
    policy: Annotated[str, typer.Option(help="The policy's file, or the word observe.")],
    store: Annotated[
        str, typer.Option("--store", "--db", envvar="INTERLOCK_DB", help="The books' URL.")
    ] = "sqlite:///interlock.db",
    name: Annotated[str, typer.Option(help="What policies call the server.")] = "mcp",
    url: Annotated[str | None, typer.Option(help="The server's URL, instead of a command.")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VARIABLE: a header for --url, its value from the environment."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve streamable HTTP instead of stdio."),
    ] = None,
    agent: Annotated[str, typer.Option(help="Which agent acts.")] = "mcp-client",
    user: Annotated[str | None, typer.Option(help="For whom.")] = None,
    team: Annotated[str | None, typer.Option(help="In which team.")] = None,
    org: Annotated[str | None, typer.Option(help="In which organisation.")] = None,
    session: Annotated[str | None, typer.Option(help="The session's name.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="SESSION", help="Go on with a paused session.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing.")] = False,
    wait_for: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Wait so long for a yes: 30s, 5m, 1h."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="The longest that a request may take.")
    ] = None,
    pins: Annotated[
        Path | None, typer.Option(help="Where the definitions of tools are pinned.")
    ] = None,
) -> None:
    """Put decisions, approvals, budgets and records before an MCP server, for any client."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="interlock: %(message)s")
    connect = _connector(command or [], url, header or [])
    address = None if listen is None else _address(listen)
    waits = None if wait_for is None else wait(_time("--wait", wait_for))
    seconds = None if timeout is None else _time("--timeout", timeout).total_seconds()
    catalogue = Catalogue(pins)
    if resume is not None and (session or user or team or org or dry_run):
        raise Misuse(
            "a session that is resumed has its own name, identity and mode; leave them out"
        )
    canary()
    with Governor(store, policy=policy, **settings()) as governor:
        if resume is None:
            made = governor.session(
                session or name,
                agent=agent,
                user=user,
                team=team,
                org=org,
                dry_run=dry_run,
                on_ask=waits,
            )
        else:
            made = governor.resume_session(resume, on_ask=waits)
        with made as opened:
            proxy = Proxy(connect, opened, name=name, catalogue=catalogue, timeout=seconds)
            sys.stderr.write(f"interlock: session {opened.id}\n")
            sys.stderr.flush()
            try:
                anyio.run(_served, proxy, address)
            except BaseExceptionGroup as group:
                raise first(group) from group
            finally:
                _leave(governor, proxy, opened)
    if proxy.failure is not None:
        raise Misuse(proxy.failure)


async def _served(proxy: Proxy, address: tuple[str, int] | None) -> None:
    """Serve until the client is gone, or the process is told to end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_told, tasks.cancel_scope)
        if address is None:
            lines: Any = _Input()
            async with stdio_server(stdin=lines) as (read, write):
                options = proxy.server.create_initialization_options()
                await proxy.server.run(read, write, options)
        else:
            await _listened(proxy, address)
        tasks.cancel_scope.cancel()


class _Input:
    """
    Standard input by lines, read by a thread that is left where it is when the process is told to end.

    A thread that waits for a silent client cannot be interrupted, and the package's own would be waited for.
    """

    async def __aiter__(self) -> AsyncIterator[str]:
        send, receive = anyio.create_memory_object_stream[bytes](0)
        token = anyio.lowlevel.current_token()
        threading.Thread(target=_pump, args=(send, token), daemon=True).start()
        begun: list[bytes] = []
        async with receive:
            async for chunk in receive:
                *ended, rest = chunk.split(b"\n")
                for line in ended:
                    begun.append(line)
                    yield b"".join(begun).decode("utf-8", "replace")
                    begun = []
                begun.append(rest)


def _pump(send: Any, token: Any) -> None:
    """Read standard input past Python's buffer, whose lock the end of the process would wait for."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.RunFinishedError):
        while chunk := os.read(0, 65_536):
            anyio.from_thread.run(send.send, chunk, token=token)
        anyio.from_thread.run_sync(send.close, token=token)


async def _listened(proxy: Proxy, address: tuple[str, int]) -> None:
    host, port = address
    app = proxy.server.streamable_http_app(host="127.0.0.1")  # which guards against DNS rebinding
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GRACE)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen()  # before it is said: who reads it may connect at once
        except OSError as error:
            raise Misuse(f"cannot listen on {host}:{port}: {error.strerror}") from error
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"interlock: http://{shown}:{listening.getsockname()[1]}/mcp\n")
        sys.stderr.flush()
        await _Uvicorn(config).serve(sockets=[listening])


class _Uvicorn(uvicorn.Server):
    """A server that leaves signals to the command, which has books to close."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _until_told(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


def _leave(governor: Governor, proxy: Proxy, session: Session) -> None:
    """Let the session wait where a person's answer is still to come; else the closed one would cancel it."""
    try:
        found = [governor.read(tickets.get, ticket) for ticket in proxy.gate.waiting]
        waits = any(ticket.state in {"pending", "approved"} for ticket in found)
        if waits:
            session.pause()
    except (Conflict, StoreUnavailable):  # which closing the session says, if it matters
        return
    if waits:
        sys.stderr.write(f"interlock: calls wait for an answer; go on with --resume {session.id}\n")


def _connector(command: list[str], url: str | None, headers: list[str]) -> Connect:
    if bool(command) == (url is not None):
        raise Misuse("name the server: a command after `--`, or --url, and not both")
    if url is not None:
        return _over_http(url, _headers(headers))
    if headers:
        raise Misuse("--header is for a server with a --url")
    if shutil.which(command[0]) is None:
        raise Misuse(f"there is no program {command[0]!r} to start the server with")
    # Its own environment but for what is ours: the URL of the books may hold a password.
    env = {key: value for key, value in os.environ.items() if not key.startswith("INTERLOCK_")}
    server = StdioServerParameters(command=command[0], args=command[1:], env=env)
    return lambda: stdio_client(server)


def _over_http(url: str, headers: dict[str, str]) -> Connect:
    @asynccontextmanager
    async def connect() -> AsyncIterator[tuple[Any, Any]]:
        timeout = httpx2.Timeout(30, read=300)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout) as client,
            streamable_http_client(url, http_client=client) as (read, write),
        ):
            yield read, write

    return connect


def _headers(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, is_pair, variable = one.partition("=")
        if not is_pair or variable not in os.environ:
            raise Misuse(
                f"--header {one!r} must be NAME=VARIABLE, and the environment must have the variable"
            )
        found[name] = os.environ[variable]
    return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        is_here = host == "localhost" or ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise Misuse(f"--listen {text!r} is no address; write it as 127.0.0.1:8080") from None
    if not is_here:
        raise Misuse(
            f"--listen {text!r} can be reached from other machines, and the proxy asks nobody who they are; "
            "listen on 127.0.0.1, behind what does"
        )
    return ("127.0.0.1" if host == "localhost" else host), number


def _time(option: str, text: str) -> timedelta:
    found = _TIME.fullmatch(text)
    if found is None:
        raise Misuse(f"{option} {text!r} is no time; write it as 30s, 5m or 1h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
