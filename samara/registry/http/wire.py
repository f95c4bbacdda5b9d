"""HTTP/1.1 over a socket that is connected already. The only module that knows urllib3: import it late, it is slow."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.response import HTTPResponse

from samara.registry.http.dial import Dialled
from samara.registry.http.waits import Guard

MAX_HEAD = 1 << 17  # bytes of one answer's head, with all its interim answers: more than any server needs
_ANSWERS_BADLY = (http.client.HTTPException, HTTPError, OSError, ValueError)


class WireError(Exception):
    """The connection is of no use any more. `silent`: a timeout; `unheard`: it broke before an answer came."""

    def __init__(self, what: str, *, silent: bool = False, unheard: bool = False) -> None:
        super().__init__(what)
        self.silent = silent
        self.unheard = unheard


class Wire:
    """One connection: a request, its answer's head, its body, and again. Not thread-safe, but for its guard."""

    def __init__(self, dialled: Dialled, guard: Guard) -> None:
        self.address = dialled.address
        self.endpoint = dialled.endpoint
        self.guard = guard
        self._sock = dialled.sock
        self._connection = HTTPConnection(dialled.address)
        self._connection.sock = dialled.sock
        self._connection.response_class = _WholeHead
        self._connection.auto_open = 0  # once lost, it is never silently another one
        self._response: HTTPResponse | None = None

    def ask(
        self, path: str, headers: Mapping[str, str], *, timeout: float, body: bytes | None = None
    ) -> tuple[int, dict[str, str]]:
        """Send GET, or POST with a body; (status, headers with lower-case names, repeated ones joined by commas).

        `timeout`: seconds for all of it, the body's way included. Raises WireError.
        """
        self._connection.timeout = timeout
        try:
            with self.guard.within(timeout):
                self._connection.request(
                    "GET" if body is None else "POST", path, body=body, headers=headers, preload_content=False,
                    decode_content=False,
                )  # fmt: skip
                self._response = self._connection.getresponse()
        except _ANSWERS_BADLY as error:
            silent = isinstance(error, TimeoutError)
            raise WireError(_text(error), silent=silent, unheard=isinstance(error, ConnectionError)) from None
        found = self._response.headers
        return self._response.status, {name.lower(): found[name] for name in found}

    def read(self, size: int, *, timeout: float) -> bytes:
        """What is there of the body, 1 … `size` bytes; nothing at its end. Raises WireError."""
        assert self._response is not None
        try:
            self._sock.settimeout(timeout)
            with self.guard.within(timeout):
                data: bytes = self._response.read1(size, decode_content=False)
        except _ANSWERS_BADLY as error:
            raise WireError(_text(error), silent=isinstance(error, (TimeoutError, ReadTimeoutError))) from None
        if self.guard.ended is not None:
            raise WireError("ended meanwhile")  # what comes from a socket that was shut proves nothing
        return data

    @property
    def is_free(self) -> bool:
        """Whether the answer was read to its end and another request can follow."""
        finished = self._response is None or self._response.closed
        return finished and self.guard.ended is None and self._connection.sock is not None

    @property
    def is_alive(self) -> bool:
        """As far as can be told without asking: nothing came unasked, not even an end."""
        return self.guard.ended is None and self._connection.is_connected

    def close(self) -> None:
        """Let go of it, whatever is under way."""
        self.guard.release()
        if self._response is not None:
            self._response.close()
        self._connection.close()
        self._sock.close()


class _WholeHead(http.client.HTTPResponse):
    """http.client takes the end of a connection for the end of a head, and half a head for a whole one. Not here."""

    def begin(self, *some: Any, **named: Any) -> None:
        buffer = self.fp
        lines: Any = _Lines(buffer)
        self.fp = lines  # of which `begin` reads lines only
        try:
            super().begin(*some, **named)
        finally:
            self.fp = buffer
        if lines.last not in (b"\r\n", b"\n"):
            raise http.client.HTTPException("the connection ended within an answer's head")


class _Lines:
    """The lines of a head, and not too many."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._read = 0
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self._buffer.readline(limit)
        self._read += len(self.last)
        if self._read > MAX_HEAD:
            raise http.client.HTTPException(f"a head of more than {MAX_HEAD} bytes")
        return self.last

    def close(self) -> None:
        self._buffer.close()


def _text(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
