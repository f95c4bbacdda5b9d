"""Small files from web servers: release files, and publishers' metadata from a plain HTTP folder. Untrusted, bounded.

Not for blobs: those come through the swarm session, from mirrors and peers alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from samara.schemas.errors import NetworkError, NotFoundError, UsageError
from samara.schemas.release_file import MAX_COMPRESSED_BYTES

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

TIMEOUT = 30.0  # seconds without a byte
DEADLINE = 300.0  # seconds for one file, which is at most a few megabytes
_CHUNK = 1 << 16


def is_url(text: str) -> bool:
    """Whether `text` is an http(s) URL."""
    return text.startswith(("http://", "https://"))


def download(url: str, *, limit: int = MAX_COMPRESSED_BYTES) -> bytes:
    """A file of at most `limit` bytes, and one more if it is larger.

    Raises NotFoundError (404, 410), NetworkError, or UsageError for what is no URL.
    """
    data = bytearray()
    for piece in read(url):
        data += piece
        if len(data) > limit:
            break
    return bytes(data[: limit + 1])


def read(url: str, *, absent: frozenset[int] = frozenset({404, 410})) -> Iterator[bytes]:
    """A file piece by piece, as `download`; `absent`: which HTTP statuses mean that it isn't there.

    The connection closes when the reader stops.
    """
    import urllib.error
    import urllib.parse
    import urllib.request
    from http.client import HTTPException, InvalidURL

    from samara import __version__

    deadline = time.monotonic() + DEADLINE
    got = 0
    try:
        if not urllib.parse.urlsplit(url).hostname:
            raise InvalidURL("no host")  # noqa: TRY301  (like what urlopen raises)
        headers = {"User-Agent": f"samara/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  (is_url checked)
        with _web_opener().open(request, timeout=TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
            while piece := answer.read1(_CHUNK):
                got += len(piece)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not there after {DEADLINE:.0f} s")
                yield piece
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code in absent:
            raise NotFoundError(f"{url} is not there (HTTP {error.code})") from None
        raise NetworkError(f"{url} answered HTTP {error.code}", next_step="try again later") from None
    except (InvalidURL, ValueError) as error:
        raise UsageError(f"not a URL ({error})", actual=repr(url[:120]), next_step="check the address") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise NetworkError(f"can't get {url} ({reason})", next_step="check the address and the network") from None
    if length is not None and length.isdigit() and got < int(length):
        raise NetworkError(f"{url} ended early", expected=f"{length} bytes", actual=got, next_step="try again")


class UrlSource:
    """A publisher's metadata in a folder of a web server (a MetadataSource)."""

    def __init__(self, base: str) -> None:
        self.name = base
        self._base = base if base.endswith("/") else base + "/"

    def read(self, name: str) -> Iterator[bytes] | None:
        """The file `name` in pieces; None where the server has none (also HTTP 403: so do object stores say it)."""
        pieces = read(self._base + name, absent=frozenset({403, 404, 410}))
        try:
            first = next(pieces, b"")
        except NotFoundError:
            return None
        return _again(first, pieces)


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _web_opener() -> OpenerDirector:
    """Follows redirects to http and https alone: the standard one would go to ftp too, and wait there for ever."""
    import urllib.request

    class WebOnly(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request: Any, *rest: Any) -> Any:
            if not is_url(rest[-1]):
                raise OSError("redirected to something that is not http(s)")
            return super().redirect_request(request, *rest)

    return urllib.request.build_opener(WebOnly)
