"""Small files from web servers: release files, and publishers' metadata from a plain HTTP folder. Untrusted, bounded.

Not for blobs: those come from mirrors and peers, piece by piece. The URLs here are those that the user gave: the hosts
may be local ones, within the client's policy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from samara.schemas.errors import NotFoundError
from samara.schemas.release_file import MAX_COMPRESSED_BYTES

if TYPE_CHECKING:
    from samara.registry.http import Answer, HttpClient, HttpError

TIMEOUT = 20.0  # seconds without a byte
DEADLINE = 300.0  # seconds for one file, which is at most a few megabytes
SLOWEST = 1024.0  # bytes per second: who gives less over SLOW_AFTER seconds only holds us up
SLOW_AFTER = 20.0
_CHUNK = 1 << 16


def is_url(text: str) -> bool:
    """Whether `text` is an http(s) URL."""
    return text.startswith(("http://", "https://"))


def download(
    url: str, *, limit: int = MAX_COMPRESSED_BYTES, client: HttpClient | None = None, vouched: bool = True
) -> bytes:
    """A file of at most `limit` bytes, and one more if it is larger.

    `client`: whose policy and connections to use; a new one without any restriction if not given. `vouched`: the user
    named this host, all of it; else only what the client was made with counts. Raises NotFoundError (404, 410),
    NetworkError (HttpError), or UsageError for what is no URL.
    """
    data = bytearray()
    for piece in read(url, client=client, vouched=vouched):
        data += piece
        if len(data) > limit:
            break
    return bytes(data[: limit + 1])


def read(
    url: str,
    *,
    absent: frozenset[int] = frozenset({404, 410}),
    client: HttpClient | None = None,
    vouched: bool = True,
) -> Iterator[bytes]:
    """A file piece by piece, as `download`; `absent`: which HTTP statuses mean that it isn't there.

    The answer is let go of when the reader stops.
    """
    from samara.registry.http import HttpClient, HttpError, HttpFailure
    from samara.schemas.networks import NetworkPolicy

    deadline = time.monotonic() + DEADLINE
    try:
        with ExitStack() as stack:
            asked = client or stack.enter_context(HttpClient(NetworkPolicy()))
            answer = stack.enter_context(asked.get(url, vouched=vouched, stall_timeout=TIMEOUT))
            for piece in _pieces(answer):
                if time.monotonic() > deadline:
                    raise HttpError(f"it was not there after {DEADLINE:.0f} s", kind=HttpFailure.STALLED)  # noqa: TRY301
                yield piece
    except HttpError as error:
        if error.kind is HttpFailure.STATUS and error.status in absent:
            raise NotFoundError(f"{url} is not there (HTTP {error.status})") from None
        raise _about(url, error) from None


def _pieces(answer: Answer) -> Iterator[bytes]:
    """The body. Raises HttpError for one that drips, which no wait for a next byte would end."""
    from samara.registry.http import HttpError, HttpFailure

    buffer = memoryview(bytearray(_CHUNK))
    waited = got = 0.0  # since the last look; what the reader does meanwhile is not the server's fault
    while True:
        before = time.monotonic()
        count = answer.readinto(buffer)
        waited += time.monotonic() - before
        if not count:
            return
        got += count
        if waited >= SLOW_AFTER:
            if got < SLOWEST * waited:
                raise HttpError(f"less than {SLOWEST:.0f} bytes per second came", kind=HttpFailure.STALLED)
            waited = got = 0.0
        yield bytes(buffer[:count])


def _about(url: str, error: HttpError) -> HttpError:
    """The same for people who asked for a file and not for a connection."""
    from samara.registry.http import HttpError

    reason = error.what if error.actual is None else f"{error.what}: {error.actual}"
    return HttpError(
        f"can't get {url} ({reason.removeprefix(f'{url} ').removeprefix(f'{url}: ')})",
        kind=error.kind,
        status=error.status,
        retry_after=error.retry_after,
        next_step=error.next_step or "check the address, and try again later",
    )


class UrlSource:
    """A publisher's metadata in a folder of a web server (a MetadataSource). `client`: as in `download`."""

    def __init__(self, base: str, *, client: HttpClient | None = None) -> None:
        self.name = base
        self._base = base if base.endswith("/") else base + "/"
        self._client = client

    def read(self, name: str) -> Iterator[bytes] | None:
        """The file `name` in pieces; None where the server has none (also HTTP 403: so do object stores say it)."""
        from samara.registry.http.urls import parse_url

        parse_url(self._base)  # or `http://` and a name would be a host
        pieces = read(self._base + name, absent=frozenset({403, 404, 410}), client=self._client)
        try:
            first = next(pieces, b"")
        except NotFoundError:
            return None
        return _again(first, pieces)


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
