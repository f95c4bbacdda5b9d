"""From what a person typed to a release whose signature was checked: a reference, a `.samara` file or its URL.

Nothing here believes its input: files and URLs are untrusted containers, and what the index holds is verified again
each time, so that a changed index can't change what is trusted.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samara.registry.home import Home
from samara.registry.records import StoredRelease
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.release import VerifiedRelease, open_release
from samara.schemas.errors import MalformedError, NetworkError, NotFoundError, UsageError, cannot_read
from samara.schemas.manifest import Release
from samara.schemas.references import Reference, looks_like_reference, parse_reference
from samara.schemas.release_file import MAX_COMPRESSED_BYTES, SUFFIX, ReleaseBundle, unpack_release

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

    from samara.registry.index import Index

_URL_TIMEOUT = 30.0  # seconds without a byte
_URL_DEADLINE = 300.0  # seconds for a release file, which is at most a few megabytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A release to work with. `alias` is what this machine calls its publisher; `from_file`: freshness not checked."""

    verified: VerifiedRelease
    alias: str
    from_file: bool

    @property
    def release(self) -> Release:
        """The release itself."""
        return self.verified.release

    @property
    def reference(self) -> str:
        """How people on this machine name it."""
        return f"{self.alias}/{self.release.model}:{self.release.tag}"


def resolve(home: Home, source: str) -> Resolved:
    """Find and verify the release `source` names. Raises NotFoundError, TrustError, MalformedError, NetworkError."""
    if is_url(source) or is_release_file(source):
        verified = open_release(read_bundle(source), TrustFolder(home.trust))
        return Resolved(verified=verified, alias=verified.pin.alias, from_file=True)
    with open_index(home, source) as index:
        return resolve_reference(home, index, parse_reference(source))


def resolve_reference(home: Home, index: Index, reference: Reference) -> Resolved:
    """The newest release this machine knows under a reference, verified again."""
    trust = TrustFolder(home.trust)
    pin = trust.resolve(reference.publisher)
    stored: StoredRelease | None
    if reference.manifest is not None:
        stored = index.release_by_digest(reference.manifest)
    else:
        stored = index.release(pin.identity, reference.model, reference.tag or "")
    if stored is None:
        raise unknown(str(reference))
    verified = reopen(stored, trust)
    release = verified.release
    asked = (pin.identity, reference.model, reference.tag if reference.manifest is None else release.tag)
    if (release.identity, release.model, release.tag) != asked or stored.manifest != release.digest:
        raise MalformedError(
            f"the index says {reference} is another release than its manifest says", expected=str(reference),
            actual=f"{release.identity[:8]}…/{release.model}:{release.tag}", next_step='run "samara audit"',
        )  # fmt: skip
    return Resolved(verified=verified, alias=pin.alias, from_file=False)


def reopen(stored: StoredRelease, trust: TrustFolder) -> VerifiedRelease:
    """Verify a release that the index holds, as if it had just arrived: the index is no authority."""
    return open_release(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents), trust)


def open_index(home: Home, source: str) -> Index:
    """The index of a machine that should know `source`; NotFoundError where there is none yet."""
    from samara.registry.index import Index  # SQLAlchemy takes longer to import than a pull from a file can wait

    index = Index.open_existing(home)
    if index is None:
        raise unknown(source)
    return index


def unknown(source: str) -> NotFoundError:
    """The error for a reference that nothing here knows."""
    return NotFoundError(
        f"{source} is not known here", next_step="give its .samara file or URL: samara pull FILE.samara"
    )


def is_url(source: str) -> bool:
    """Whether `source` is an http(s) URL."""
    return source.startswith(("http://", "https://"))


def is_release_file(source: str) -> bool:
    """Whether `source` means a file rather than a reference."""
    return source.endswith(SUFFIX) or not looks_like_reference(source) or os.path.isfile(source)  # noqa: PTH113


def read_bundle(source: str) -> ReleaseBundle:
    """The unproven parts of a `.samara` file or URL. Raises NotFoundError, UsageError, NetworkError, MalformedError."""
    return unpack_release(_download(source) if is_url(source) else _read_file(Path(source)))


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_COMPRESSED_BYTES + 1)
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", expected=f"a {SUFFIX} file") from None
    except (OSError, ValueError) as error:
        is_no_file = not isinstance(error, PermissionError) and not os.path.lexists(path)
        if path.suffix != SUFFIX and is_no_file:
            parse_reference(str(path))  # says what a reference looks like, should that have been meant
        if isinstance(error, ValueError):
            raise UsageError(f"{str(path)!r} can't be the name of a file") from None
        raise cannot_read(path, error) from None


def _web_opener() -> OpenerDirector:
    """Follows redirects to http and https alone: the standard one would go to ftp too, and wait there for ever."""
    import urllib.request

    class WebOnly(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request: Any, *rest: Any) -> Any:
            if not is_url(rest[-1]):
                raise OSError("redirected to something that is not http(s)")
            return super().redirect_request(request, *rest)

    return urllib.request.build_opener(WebOnly)


def _read_in_time(answer: Any) -> bytes:
    """The body, at most as large as a release file can be. Raises TimeoutError for one that drips."""
    deadline = time.monotonic() + _URL_DEADLINE
    data = bytearray()
    while len(data) <= MAX_COMPRESSED_BYTES and (chunk := answer.read1(1 << 20)):
        data += chunk
        if time.monotonic() > deadline:
            raise TimeoutError(f"not there after {_URL_DEADLINE:.0f} s")
    return bytes(data)


def _download(url: str) -> bytes:
    import urllib.error
    import urllib.parse
    import urllib.request
    from http.client import HTTPException, InvalidURL

    from samara import __version__

    try:
        if not urllib.parse.urlsplit(url).hostname:
            raise InvalidURL("no host")  # noqa: TRY301  (like what urlopen raises)
        request = urllib.request.Request(url, headers={"User-Agent": f"samara/{__version__}"})  # noqa: S310  (is_url checked)
        with _web_opener().open(request, timeout=_URL_TIMEOUT) as answer:
            data = _read_in_time(answer)
            length = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code in {404, 410}:
            raise NotFoundError(f"{url} is not there (HTTP {error.code})") from None
        raise NetworkError(f"{url} answered HTTP {error.code}", next_step="try again later") from None
    except (InvalidURL, ValueError) as error:
        raise UsageError(f"not a URL ({error})", actual=repr(url[:120]), next_step="check the address") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise NetworkError(f"can't get {url} ({reason})", next_step="check the address and the network") from None
    if length is not None and length.isdigit() and len(data) < min(int(length), MAX_COMPRESSED_BYTES):
        raise NetworkError(f"{url} ended early", expected=f"{length} bytes", actual=len(data), next_step="try again")
    return data
