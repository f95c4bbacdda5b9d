"""Following another registry: what its publishers proved there is asked for and proven here, through the same door.

Nothing of what the other registry says is believed. Names are another matter: a claim is for one registry alone. With
`names` those are taken over that a publisher claimed there with a signed statement and that are free here, because the
operator says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from samara.registry.http import HttpClient
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import claimed_by
from samara.registry.registries import metadata_source
from samara.registry.trust.repository import read_repository
from samara.registry.trust.sources import MetadataSource, read_whole
from samara.registry.web import UrlSource, download
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.digests import b3, b3_hex
from samara.schemas.envelope import parse_envelope, strict_json
from samara.schemas.errors import MalformedError, NetworkError, NotFoundError, SamaraError, StoreError
from samara.schemas.events import Note, OnEvent, Warned
from samara.schemas.metadata_bundle import MetadataBundle
from samara.schemas.publication import MAX_CLAIM_BYTES, Publication
from samara.schemas.references import is_identity, is_name
from samara.schemas.release_file import ReleaseBundle, release_object_name, unpack_release_object

MAX_PUBLISHERS = 100_000
_PAGE = 500
_PAGE_BYTES = 1 << 20
_BATCH_BYTES = 32 << 20  # release objects in memory at once


@dataclass(frozen=True, kw_only=True, slots=True)
class _There:
    identity: str
    namespace: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncedFrom:
    """What came of following a registry once: publishers seen there, changed here, releases added, names taken over,
    publishers that couldn't be taken in.
    """

    origin: str
    publishers: int
    changed: int
    releases: int
    names: tuple[str, ...]
    failed: int


def sync_from(
    index: Index,
    origin: str,
    client: HttpClient,
    rules: Rules,
    *,
    now: datetime,
    names: bool,
    on_event: OnEvent,
) -> SyncedFrom:
    """Bring what is listed here up to date with what `origin` lists. Raises NetworkError or StoreError.

    A publisher that can't be taken in (refused, unreachable half-way) is a warning; the others are taken.
    """
    seen = changed = releases = failed = 0
    gained: list[str] = []
    for there in _publishers(origin, client):
        seen += 1
        try:
            granted = _names(index, origin, client, there, on_event) if names else {}
            with_names = replace(rules, claims=replace(rules.claims, listed={**rules.claims.listed, **granted}))
            added, was_new = _take(index, origin, client, there.identity, with_names, now, bool(granted))
        except StoreError:
            raise
        except SamaraError as error:
            failed += 1
            on_event(Warned(message=f"{there.namespace or there.identity} of {origin} isn't taken over: {error}"))
            continue
        releases += added
        changed += was_new or bool(added)
        gained += granted
        if was_new or added:
            on_event(Note(message=f"{there.namespace or there.identity}: {added} releases new here"))
    return SyncedFrom(
        origin=origin, publishers=seen, changed=changed, releases=releases, names=tuple(gained), failed=failed
    )  # fmt: skip


def _publishers(origin: str, client: HttpClient) -> Iterator[_There]:
    known: set[str] = set()
    while len(known) < MAX_PUBLISHERS:
        url = f"{origin}/v1/publishers?limit={_PAGE}&offset={len(known)}"
        try:
            value = strict_json(download(url, limit=_PAGE_BYTES, client=client), "list of publishers")
        except (MalformedError, NotFoundError):
            value = None
        page = value.get("publishers") if isinstance(value, dict) else None
        if not isinstance(page, list):
            raise NetworkError(f"{origin} is no Samara registry", next_step="check the address")
        fresh = [one for raw in page if (one := _there(raw)) is not None and one.identity not in known]
        known.update(one.identity for one in fresh)
        yield from fresh
        if len(page) < _PAGE or not fresh:
            return


def _there(raw: object) -> _There | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("identity"), str) or not is_identity(raw["identity"]):
        return None
    namespace = raw.get("namespace")
    named = isinstance(namespace, str) and is_name(namespace)
    return _There(identity=raw["identity"], namespace=namespace if named else None)


def _take(
    index: Index, origin: str, client: HttpClient, identity: str, rules: Rules, now: datetime, renamed: bool  # noqa: FBT001
) -> tuple[int, bool]:  # fmt: skip
    """(releases added, whether its catalog was new)."""
    source = UrlSource(metadata_source(origin, identity), client=client)
    bundle = read_repository(source)
    if bundle is None:
        raise NotFoundError(f"{origin} has no catalog of it")
    was_new, added = bundle != index.listings.metadata(identity), 0
    first = accept(index, Publication(metadata=bundle), rules, now=now) if was_new or renamed else None
    lacking = list(_lacking(index, bundle, identity))
    while lacking:
        batch, lacking = _fetch(source, lacking)
        if batch:
            first = accept(index, Publication(metadata=bundle, releases=tuple(batch)), rules, now=now)
            added += first.added
    return added, was_new


def _lacking(index: Index, bundle: MetadataBundle, identity: str) -> Iterator[str]:
    from samara.registry.trust.catalogs import read_catalog

    here = set(index.manifests())
    for entry in read_catalog(identity, bundle).entries.values():
        if entry.manifest not in here:
            yield entry.manifest


def _fetch(source: MetadataSource, manifests: list[str]) -> tuple[list[ReleaseBundle], list[str]]:
    """(release objects of the first few, the rest); what the other registry hasn't either is left out."""
    batch: list[ReleaseBundle] = []
    size = done = 0
    for manifest in manifests:
        if size >= _BATCH_BYTES:
            break
        done += 1
        data = read_whole(source, "releases/" + release_object_name(b3_hex(manifest)), MAX_SMALL_FILE)
        if data is None:
            continue
        bundle = unpack_release_object(data)
        if b3(bundle.envelope.payload) == manifest:
            batch.append(bundle)
            size += len(data)
    return batch, manifests[done:]


def _names(
    index: Index, origin: str, client: HttpClient, there: _There, on_event: OnEvent
) -> dict[str, str]:  # fmt: skip
    """Its name there, if the publisher itself claimed it there, and nobody has it here."""
    if there.namespace is None or index.listings.namespace_owner(there.namespace) is not None:
        return {}
    url = f"{origin}/v1/namespaces/{there.namespace}/claim"
    try:
        statement = download(url, limit=MAX_CLAIM_BYTES, client=client)
        claim = parse_envelope(strict_json(statement, "claim"))
    except (NotFoundError, MalformedError):
        on_event(Note(message=f"the name {there.namespace} isn't taken over: no signed claim of it at {origin}"))
        return {}
    bundle = index.listings.metadata(there.identity) or read_repository(
        UrlSource(metadata_source(origin, there.identity), client=client)
    )
    if bundle is None or not claimed_by(claim, bundle.roots, there.identity, there.namespace, origin):
        on_event(Warned(message=f"the name {there.namespace} isn't taken over: its claim at {origin} doesn't hold"))
        return {}
    return {there.namespace: there.identity}
