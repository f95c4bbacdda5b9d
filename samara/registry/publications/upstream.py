"""The registry that is followed, as it answers: who publishes there, their metadata, releases and claims. Unproven.

It may lie, drip, or send for ever. Every answer is bounded; a publisher's answers together may take `Patience.seconds`
of waiting and one second more for each `Patience.slowest` bytes that came. Where it asks to be left alone for a moment
(429, 503), it is, within bounds. Only the very host and port that the
operator named are asked: a registry has no reason to send anybody elsewhere in its own network. Judges nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from samara.registry.http import HttpClient, HttpError, HttpFailure
from samara.registry.registries import metadata_source
from samara.registry.trust.sources import let_go, read_whole
from samara.registry.web import read
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.envelope import Envelope, parse_envelope, strict_json
from samara.schemas.errors import MalformedError, NetworkError, NotFoundError
from samara.schemas.namespace_claim import may_be_claimed
from samara.schemas.publication import MAX_CLAIM_BYTES
from samara.schemas.references import is_identity, is_name
from samara.schemas.release_file import release_object_name

MAX_PUBLISHERS = 100_000
_PAGE = 500
_MAX_PAGES = 2 * MAX_PUBLISHERS // _PAGE
_PAGE_BYTES = 1 << 20
_ABSENT = frozenset({403, 404, 410})
_LATER = frozenset({429, 503})
_TRIES = 3
_MOST_OBEYED = 65.0  # seconds of a Retry-After: rates are counted by the minute


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long one publisher's answers may take: `seconds`, and one more for each `slowest` bytes. `lost`: seconds that
    those who can't be taken in may take together, in one run.
    """

    seconds: float = 30.0
    slowest: float = 64 * 1024.0
    lost: float = 900.0


class TooSlowError(NetworkError):
    """One publisher's answers took too long. What came of them is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A publisher as the other registry lists it. `namespace`: the name that it says is its own there."""

    identity: str
    namespace: str | None

    @property
    def shown(self) -> str:
        """What people call it."""
        return self.namespace or self.identity


class Upstream:
    """Asks `origin`. Not for several threads. `received`: bytes, ever."""

    def __init__(
        self, origin: str, client: HttpClient, patience: Patience, *, pause: Callable[[float], object] = time.sleep
    ) -> None:
        """`client`: made with `named=(origin,)`. `pause`: waits so many seconds, or less when all is to end."""
        self.origin = origin
        self.received = 0
        self._client = client
        self._patience = patience
        self._pause = pause
        self._waited = 0.0
        self._came = 0

    @property
    def waited(self) -> float:
        """Seconds that were spent waiting for this publisher's answers."""
        return self._waited

    def begin(self) -> None:
        """The next publisher: its time begins."""
        self._waited, self._came = 0.0, 0

    def publishers(self) -> Iterator[Listed]:
        """Everybody it lists, each once, as far as it makes sense. Raises NetworkError."""
        known: set[str] = set()
        offset = 0
        for _ in range(_MAX_PAGES):
            self.begin()
            page = self._page(offset)
            offset += len(page)
            fresh = [one for raw in page if (one := _listed(raw)) is not None and one.identity not in known]
            fresh = list({one.identity: one for one in fresh}.values())[: MAX_PUBLISHERS - len(known)]
            known.update(one.identity for one in fresh)
            yield from fresh
            if len(page) < _PAGE or not fresh:
                return

    def _page(self, offset: int) -> list[object]:
        url = f"{self.origin}/v1/publishers?limit={_PAGE}&offset={offset}"
        try:
            value = strict_json(self._download(url, _PAGE_BYTES), "list of publishers")
        except (MalformedError, NotFoundError):
            value = None
        page = value.get("publishers") if isinstance(value, dict) else None
        if not isinstance(page, list):
            raise NetworkError(f"{self.origin} is no Samara registry", next_step="check the address")
        return page[:_PAGE]

    def claim(self, name: str) -> Envelope | None:
        """The statement by which a name was claimed there; None where there is none that can be read."""
        try:
            statement = self._download(f"{self.origin}/v1/namespaces/{name}/claim", MAX_CLAIM_BYTES)
            return parse_envelope(strict_json(statement, "claim"))
        except (NotFoundError, MalformedError):
            return None

    def source(self, identity: str) -> Source:
        """A publisher's metadata and release objects."""
        return Source(metadata_source(self.origin, identity), self)

    def _download(self, url: str, limit: int) -> bytes:
        data = bytearray()
        for piece in self.ask(url, absent=frozenset({404, 410})):
            data += piece
            if len(data) > limit:
                raise MalformedError(f"{url} sends too much", expected=f"≤ {limit} bytes")
        return bytes(data)

    def ask(self, url: str, *, absent: frozenset[int] = _ABSENT) -> Iterator[bytes]:
        """What is at `url`, in pieces, the first of which has come. Raises NotFoundError, NetworkError."""
        for attempt in range(_TRIES):
            pieces = self._in_time(read(url, absent=absent, client=self._client, vouched=False))
            try:
                return _again(next(pieces, b""), pieces)
            except HttpError as error:
                if error.status not in _LATER or attempt == _TRIES - 1:
                    raise
                self._pause(min(error.retry_after or 1.0, _MOST_OBEYED))
        raise AssertionError("unreachable")

    def _in_time(self, answer: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, while there is time. Raises TooSlowError."""
        try:
            while True:
                before = time.monotonic()
                try:
                    piece = next(answer, b"")
                finally:
                    self._waited += time.monotonic() - before
                self._came += len(piece)
                self.received += len(piece)
                if self._waited > self._patience.seconds + self._came / self._patience.slowest:
                    raise TooSlowError(
                        f"{self.origin} is too slow", expected=f"{self._patience.slowest:,.0f} bytes per second",
                        actual=f"{self._came:,} bytes in {self._waited:.0f} s", next_step="try again later",
                    )  # fmt: skip
                if not piece:
                    return
                yield piece
        finally:
            let_go(answer)


class Source:
    """One publisher's folder there (a MetadataSource)."""

    def __init__(self, base: str, upstream: Upstream) -> None:
        self.name = base
        self._base = base
        self._upstream = upstream

    def read(self, name: str) -> Iterator[bytes] | None:
        """As MetadataSource. Raises TooSlowError too."""
        try:
            return self._upstream.ask(self._base + name)
        except NotFoundError:
            return None

    def release(self, manifest_hex: str) -> bytes | None:
        """A release object, at most as large as any may be; None where it isn't."""
        return read_whole(self, "releases/" + release_object_name(manifest_hex), MAX_SMALL_FILE)


def is_about_one_file(error: NetworkError) -> bool:
    """Whether another file of the same registry may well be had: this one is too large, or gives a status."""
    if isinstance(error, HttpError):
        return error.kind is HttpFailure.STATUS and error.status not in _LATER
    return not isinstance(error, TooSlowError)


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from rest
    finally:
        let_go(rest)


def _listed(raw: object) -> Listed | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("identity"), str) or not is_identity(raw["identity"]):
        return None
    namespace = raw.get("namespace")
    named = isinstance(namespace, str) and is_name(namespace) and may_be_claimed(namespace)
    return Listed(identity=raw["identity"], namespace=namespace if named else None)
