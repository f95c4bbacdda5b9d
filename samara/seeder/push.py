"""Handing what was published to a registry: the catalog, and the releases that it lists and the registry lacks.

A registry proves everything by itself and needs no password; from here it gets public documents only. What it answers
is not believed: the worst a lying registry does is not to list what it was given. Pushing again is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import zstandard

from samara.registry.home import Home
from samara.registry.http import HttpClient, HttpError, HttpFailure
from samara.registry.index import Index
from samara.registry.registries import metadata_source
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.catalogs import read_catalog
from samara.registry.trust.keys import AskPassphrase
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.repository import read_repository
from samara.registry.trust.signing import sign_payload
from samara.registry.web import UrlSource
from samara.schemas.envelope import Envelope, strict_json
from samara.schemas.errors import MalformedError, NetworkError, NotFoundError, SamaraError, TrustError, UsageError
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.namespace_claim import NamespaceClaim, claim_payload, may_be_claimed
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import MEDIA_TYPE, pack_parts
from samara.schemas.release_file import ReleaseBundle, pack_release_object

BATCH_BYTES = 32 << 20  # release objects sent at once, unpacked: registries take twice as much
MAX_WAIT = 60.0  # seconds that a registry may make us wait before the next try
TRIES = 4
_MAX_WORDS = 300  # characters of what a registry says that are shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What a registry says came of it. `names`: those the publisher has there; `sent`: releases that went there;
    `missing`: names of the catalog whose releases aren't on this machine either.
    """

    origin: str
    identity: str
    names: tuple[str, ...]
    listed: int
    sent: int
    missing: tuple[str, ...]


def push(
    home: Home,
    publisher: Publisher,
    origin: str,
    *,
    claim: str | None = None,
    ask: AskPassphrase | None = None,
    client: HttpClient | None = None,
    sleep: Callable[[float], None] = time.sleep,
    on_event: OnEvent = ignore,
) -> Pushed:
    """Bring the registry at `origin` up to date with what this machine has published as `publisher`.

    `claim`: the name to be known by there, signed for with the online key that `ask` opens. Raises NotFoundError
    (nothing published), UsageError, TrustError (the registry refuses it), NetworkError.
    """
    state = own_catalog(publisher)
    if state is None:
        raise NotFoundError(f"{publisher.name} has published nothing yet", next_step="see: samara publish --help")
    envelope = None if claim is None else _claim(publisher, origin, claim, ask)
    if client is not None:
        return _Push(client, state, origin, sleep, on_event).run(home, envelope)
    with HttpClient(NetworkPolicy(), named=(origin,)) as own:
        return _Push(own, state, origin, sleep, on_event).run(home, envelope)


class _Push:
    """One publisher's way to one registry."""

    def __init__(
        self, client: HttpClient, state: CatalogState, origin: str, sleep: Callable[[float], None], on_event: OnEvent
    ) -> None:
        self._client = client
        self._state = state
        self._origin = origin
        self._sleep = sleep
        self._on_event = on_event

    def run(self, home: Home, claim: Envelope | None) -> Pushed:
        identity = self._state.chain.identity
        there = _listed_there(self._client, self._origin, identity)
        wanted = [
            entry.manifest for entry in self._state.catalog.entries.values() if entry.manifest not in there
        ]  # fmt: skip
        index = Index.open_existing(home)
        sent: set[str] = set()
        lacking: set[str] = set()
        try:
            while True:
                batch = _batch(index, dict.fromkeys(one for one in wanted if one not in sent), lacking)
                answer = self._post([data for _, data in batch], claim)
                sent.update(manifest for manifest, _ in batch)
                paths = _texts(answer.get("missing"))
                entries = (self._state.catalog.entries.get(path) for path in paths)
                more = {entry.manifest for entry in entries if entry is not None} - sent - lacking
                wanted = [*(one for one in wanted if one not in sent and one not in lacking), *more]
                if not wanted:
                    break
                self._on_event(Note(message=f"{len(sent)} releases sent to {self._origin}, {len(wanted)} to go"))
        finally:
            if index is not None:
                index.close()
        for warning in _texts(answer.get("warnings")):
            self._on_event(Warned(message=f"{self._origin}: {_short(warning)}"))
        listed = answer.get("listed")
        return Pushed(
            origin=self._origin,
            identity=identity,
            names=tuple(map(_short, _texts(answer.get("names")))),
            listed=listed if isinstance(listed, int) else 0,
            sent=len(sent),
            missing=tuple(map(_short, paths)),
        )

    def _post(self, releases: Sequence[bytes], claim: Envelope | None) -> dict[str, object]:
        body = zstandard.ZstdCompressor(level=6).compress(pack_parts(self._state.bundle, releases, claim))
        headers = {"Content-Type": MEDIA_TYPE, "Content-Encoding": "zstd", "Accept": "application/json"}
        for tries_left in range(TRIES - 1, -1, -1):
            reply = self._client.post(f"{self._origin}/v1/publish", body, headers, vouched=True)
            if reply.status not in {429, 503} or not tries_left:
                break
            seconds = _seconds(reply.headers.get("retry-after"))
            self._on_event(Note(message=f"{self._origin} is busy: trying again in {seconds:.0f} s"))
            self._sleep(seconds)
        said = _json(reply.body)
        if reply.status in {200, 201} and said is not None and isinstance(said.get("missing"), list):
            return said
        raise _refusal(self._origin, reply.status, said)


def _listed_there(client: HttpClient, origin: str, identity: str) -> frozenset[str]:
    """The manifests that the registry's catalog of this publisher names: what probably needn't be sent."""
    try:
        bundle = read_repository(UrlSource(metadata_source(origin, identity), client=client))
        if bundle is None:
            return frozenset()
        return frozenset(entry.manifest for entry in read_catalog(identity, bundle).entries.values())
    except HttpError as error:
        if error.kind is HttpFailure.STATUS:  # it will say so again, about what matters
            return frozenset()
        raise
    except (MalformedError, NotFoundError):  # whatever it is: it only means that more is sent than needed
        return frozenset()


def _batch(index: Index | None, manifests: dict[str, None], lacking: set[str]) -> list[tuple[str, bytes]]:
    """(manifest, release object) of as many as fit one publication. What isn't in the index is added to `lacking`."""
    return list(_some(index, manifests, lacking))


def _some(index: Index | None, manifests: dict[str, None], lacking: set[str]) -> Iterator[tuple[str, bytes]]:
    room = BATCH_BYTES
    for manifest in manifests:
        stored = None if index is None else index.release_by_digest(manifest)
        if stored is None:
            lacking.add(manifest)
            continue
        data = pack_release_object(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents))
        room -= len(data)
        if room < 0 and room + len(data) < BATCH_BYTES:
            return
        yield manifest, data


def _claim(publisher: Publisher, origin: str, name: str, ask: AskPassphrase | None) -> Envelope:
    if not may_be_claimed(name):
        raise UsageError(f"{name!r} can be nobody's name at a registry", next_step="choose another")
    said = NamespaceClaim(
        origin=origin, name=name, identity=publisher.identity, issued=datetime.now(UTC).replace(microsecond=0)
    )
    return sign_payload(claim_payload(said), publisher.online_keys(ask))


def _refusal(origin: str, status: int, said: dict[str, object] | None) -> SamaraError:
    words = {
        name: _short(text)
        for name in ("title", "expected", "actual", "next_step", "reason")
        if said is not None and isinstance(text := said.get(name), str)
    }
    if status in {404, 405} or "title" not in words:
        return NetworkError(f"{origin} is no Samara registry, or none that takes publications (HTTP {status})")
    kind = NetworkError if status in {408, 429, 500, 502, 503, 504, 507} else TrustError  # 507: no room there
    return kind(
        f"{origin} refuses: {words['title']}",
        expected=words.get("expected"),
        actual=words.get("actual"),
        next_step=words.get("next_step"),
    )


def _json(body: bytes) -> dict[str, object] | None:
    try:
        value = strict_json(body, "answer")
    except MalformedError:
        return None
    return value if isinstance(value, dict) else None


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _short(text: str) -> str:
    """A registry's words in one bounded line, without what could drive a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_WORDS])


def _seconds(retry_after: str | None) -> float:
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= 6:
        return min(float(retry_after) + 0.1, MAX_WAIT)
    return 2.0
