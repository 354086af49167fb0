"""
Where clients really go: each is given a URL and run, with name resolution and connections led to a server here.

What is recorded is the host and port that the client asks to be connected with, and the target of its request. Nothing
of Interlock's own grammar is used: `is_granted` is written anew, from what the grants of the corpus mean.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import aiohttp
import httpx
import msgspec
import requests

CLIENTS = ("urllib", "requests", "httpx", "aiohttp")
CURL = shutil.which("curl")


class Contact(msgspec.Struct, frozen=True):
    """One connection that a client asked for, and what it asked the server then; None if it got no further."""

    host: str
    port: int
    target: str | None = None


def is_granted(contact: Contact) -> bool:
    """Whether the grants of `_corpus.GRANTS` give this contact."""
    host = contact.host.strip("[]").lower()
    ports = {443, 80}
    match host:
        case "api.example.com" | "192.0.2.10" | "2001:db8::10" | "xn--mnchen-3ya.example":
            pass
        case "db1.example.net":
            ports = {8443, 8080}
        case "files.example.net":
            if contact.target is not None and not _is_below_public(contact.target):
                return False
        case _:
            label, dot, base = host.partition(".")
            if not (label and dot and base == "example.org"):
                return False
    return contact.port in ports


def _is_below_public(target: str) -> bool:
    """Whether no reading of the path leaves /public: decoded or not, with dot segments and parameters resolved."""
    path, _, _ = target.partition("?")
    for _ in range(4):
        for reading in {path, path.replace("\\", "/"), path.replace("//", "/")}:
            kept: list[str] = []
            for segment in reading.split("/")[1:]:
                bare = segment.split(";")[0].split("\0")[0]
                if bare == "..":
                    kept[-1:] = []
                elif bare != ".":
                    kept.append(bare)
            if kept[:1] != ["public"]:
                return False
        path = unquote(path)
    return True


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heads: list[list[str]] = []


class _Handler(socketserver.StreamRequestHandler):
    """Answers one request and keeps its head."""

    server: _Server

    def handle(self) -> None:
        head: list[str] = []
        with suppress(OSError):
            while (line := self.rfile.readline(65536).strip()) != b"":
                head.append(line.decode("latin-1"))
            self.server.heads.append(head)
            status = b"403 No" if head and head[0].startswith("CONNECT ") else b"204 Yes"
            self.wfile.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n")


@contextmanager
def _serving() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Oracle:
    """Runs the four Python clients. Use `run`, which patches what they resolve and connect with."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._place: tuple[str, int] = server.server_address  # type: ignore[assignment]
        self._contacts: list[tuple[str, int]] = []
        self._is_answered = True
        context = ssl.create_default_context()
        self._requests = requests.Session()
        self._requests.trust_env = False
        self._httpx = httpx.Client(trust_env=False, verify=context)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._loop = asyncio.new_event_loop()
        self._aiohttp: aiohttp.ClientSession | None = None

    def close(self) -> None:
        """Close all clients."""
        self._requests.close()
        self._httpx.close()
        self._opener.close()
        if self._aiohttp is not None:
            self._loop.run_until_complete(self._aiohttp.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def resolve(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        """Stand in for `socket.getaddrinfo`."""
        name = host.decode("latin-1") if isinstance(host, bytes) else str(host)
        if (name, port) != self._place:
            self._contacts.append((name, int(port)))
        if not self._is_answered:
            raise socket.gaierror("nobody is to be found")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", self._place)]

    async def start(self, addr_infos: Any, **options: Any) -> socket.socket:
        """Stand in for aiohappyeyeballs, which aiohttp hands literal addresses to without resolving them."""
        for *_, place in addr_infos:
            if place[:2] != self._place:
                self._contacts.append(place[:2])
        if not self._is_answered:
            raise OSError("nobody is to be found")
        sock = socket.socket()
        sock.setblocking(False)
        await self._loop.sock_connect(sock, self._place)
        return sock

    def contacts(self, url: str) -> dict[str, list[Contact]]:
        """Return, by client, whom it contacts when given *url*; nothing for one that refuses it."""
        # What is not plain HTTP is recorded, and not answered.
        self._is_answered = url.lstrip().lower().startswith("http:")
        found = {}
        for name in CLIENTS:
            self._contacts.clear()
            self._server.heads.clear()
            fetch: Callable[[str], None] = getattr(self, f"_with_{name}")
            with suppress(Exception):
                fetch(url)
            heads = [head for head in self._server.heads if head]
            target = heads[0][0].split(" ")[1] if heads and " " in heads[0][0] else None
            found[name] = [Contact(host, port, target) for host, port in self._contacts]
        return found

    def _with_urllib(self, url: str) -> None:
        self._opener.open(url, timeout=5).close()

    def _with_requests(self, url: str) -> None:
        self._requests.get(url, timeout=5, allow_redirects=False).close()

    def _with_httpx(self, url: str) -> None:
        self._httpx.get(url, timeout=5)

    def _with_aiohttp(self, url: str) -> None:
        self._loop.run_until_complete(self._aget(url))

    async def _aget(self, url: str) -> None:
        if self._aiohttp is None:
            connector = aiohttp.TCPConnector(
                resolver=aiohttp.ThreadedResolver(), use_dns_cache=False, force_close=True
            )
            self._aiohttp = aiohttp.ClientSession(connector=connector, trust_env=False)
        async with self._aiohttp.get(url, allow_redirects=False):
            pass


@contextmanager
def oracle() -> Iterator[Oracle]:
    """Run clients, none of which reaches the network."""
    with _serving() as server:
        running = Oracle(server)
        with (
            patch("socket.getaddrinfo", running.resolve),
            patch("aiohttp.connector.aiohappyeyeballs.start_connection", running.start),
        ):
            yield running
            running.close()


def with_curl(urls: list[str]) -> list[Contact | None]:
    """Return whom curl contacts for each of *urls*: it is told that a server here is its proxy."""
    assert CURL is not None
    with _serving() as server, tempfile.TemporaryDirectory() as directory:
        port = server.server_address[1]
        lines = []
        for number, url in enumerate(urls):
            quoted = url.replace("\\", "\\\\").replace('"', '\\"')
            lines += [
                f'url = "{quoted}"',
                f"proxy = http://127.0.0.1:{port}",
                f'proxy-header = "X-Number: {number}"',
                f"output = {directory}/out",
                "globoff",
                "path-as-is",
                "silent",
                "next",
            ]
        config = Path(directory, "config")
        config.write_text("\n".join(lines[:-1]), "utf-8")
        subprocess.run([CURL, "-q", "-K", config], check=False, env={"PATH": "", "NO_PROXY": ""})
        heads = list(server.heads)
    found: list[Contact | None] = [None] * len(urls)
    for head in heads:
        ((_, number),) = (line.split(": ") for line in head if line.startswith("X-Number: "))
        method, target, _ = head[0].split(" ")
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, _, port_text = authority.rpartition(":")
        if not port_text.isdigit() or not host:
            host, port_text = authority, "80"
        path = None if method == "CONNECT" else "/" + "/".join(target.split("/")[3:])
        found[int(number)] = Contact(_plain(host), int(port_text), path)
    return found


def _plain(host: str) -> str:
    bare = host.strip("[]")
    with suppress(ValueError):
        return str(ip_address(bare))
    return bare
