"""
CheckpointUrl: checkpoints on another machine, behind a URL.

`GET` returns all lines, 404 that there is none yet; `POST` appends the line in its body, and answers once that is
durable. Where `GET` gives an entity tag, `POST` asks that nobody has appended since (RFC 9110, sections 8.8.3 and 13).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from interlock._checkpoint import Overtaken
from interlock.errors import Conflict, Misuse

TIMEOUT_S = 10.0
"""For how long the other side may keep silent."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TAKEN = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}


class CheckpointUrl:
    """Checkpoints behind a URL."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """
        Use *url*, with *token* as the bearer token of each request.

        Raises:
            Misuse: it is no URL, the token is none, or one of them would be sent in clear to another machine.
        """
        try:
            parts = urlsplit(url)
            httpx.URL(url)
        except (ValueError, httpx.InvalidURL) as error:
            raise Misuse(f"checkpoints cannot be kept there, as it is no URL: {error}") from None
        if not parts.hostname:
            raise Misuse("checkpoints cannot be kept there, as the URL names no machine")
        if token and not (token.isascii() and token.isprintable()):
            raise Misuse("the token for checkpoints has a character that no header can have")
        is_secret = bool(token) or parts.username is not None
        if is_secret and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise Misuse(f"a token is not sent in clear to {parts.hostname}: use https")
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def read(self) -> bytes:
        """
        Return all lines.

        Raises:
            OSError: they cannot be had.
        """
        with self._client() as client:
            return self._lines(client)[0]

    @contextmanager
    def held(self, known: int) -> Iterator[HeldLines]:
        """
        Read the lines, of which the first *known* bytes were read before.

        Raises:
            Conflict: there are fewer.
            OSError: they cannot be had.
        """
        with self._client() as client:
            lines, tag = self._lines(client)
            if len(lines) < known:
                raise Conflict(f"{self.name} has less than it had: lines were taken out of it")
            yield HeldLines(self, client, lines[known:], tag, known)

    def post(self, client: httpx.Client, data: bytes, tag: str | None, *, is_first: bool) -> None:
        """
        Append *data*, if nobody has since *tag* was given.

        Raises:
            Overtaken: somebody has.
            OSError: it was not taken, or nobody knows whether it was.
        """
        headers = {"content-type": "application/jsonl"}
        if tag is not None:
            headers["if-match"] = tag
        elif is_first:
            headers["if-none-match"] = "*"
        try:
            answer = client.post(self._url, content=data, headers=headers)
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        if answer.status_code in _TAKEN:
            raise Overtaken(f"{self.name} was appended to by somebody else; try again")
        if not answer.is_success:
            raise OSError(f"{self.name} answers {answer.status_code} to a line that is appended")

    def _client(self) -> httpx.Client:
        return httpx.Client(headers=self._headers, timeout=TIMEOUT_S)

    def _lines(self, client: httpx.Client) -> tuple[bytes, str | None]:
        try:
            answer = client.get(self._url)
        except httpx.HTTPError as error:
            raise self._failed(error) from error
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return b"", None
        if not answer.is_success:
            raise OSError(f"{self.name} answers {answer.status_code}, not the lines that it holds")
        return answer.content, answer.headers.get("etag")

    def _failed(self, error: httpx.HTTPError) -> OSError:
        return OSError(f"{self.name} does not answer: {type(error).__name__}: {error}")


class HeldLines:
    """
    Lines behind a URL, as they were read.

    Attributes:
        known: How many bytes of them were read before.
    """

    def __init__(
        self, url: CheckpointUrl, client: httpx.Client, rest: bytes, tag: str | None, known: int
    ) -> None:
        """Use what *url* has answered."""
        self.known = known
        self._url = url
        self._client = client
        self._rest = rest
        self._tag = tag

    def rest(self) -> bytes:
        """Return what comes after the bytes that are known."""
        return self._rest

    def append(self, data: bytes) -> None:
        """
        Append *data*; return once the other side has it.

        Raises:
            Overtaken: somebody else has appended meanwhile; nothing was written.
            OSError: it was not taken, or nobody knows whether it was.
        """
        is_first = not self.known and not self._rest
        self._url.post(self._client, data, self._tag, is_first=is_first)
