"""What a name, a digest or a magnet link means, by asking others: sources of catalogs, the DHT, peers.

A name (`acme/tiny:q8_0`) always goes through its publisher's catalog, which says what is current; a digest needs no
catalog, and whoever carries the manifest proves it by being what was asked for. What comes is untrusted until checked.
"""

from __future__ import annotations

from dataclasses import replace

from samara.fetcher.catalogs import Asking, age, current_catalog, open_source
from samara.fetcher.held import PINNED, Resolved, contradiction, held, held_bundle, unknown, warn_of_retraction
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.pins import Pin
from samara.registry.trust.release import open_listed, open_release
from samara.registry.trust.sources import read_whole
from samara.schemas.bittorrent import MAX_SMALL_FILE, parse_magnet
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3, b3_hex
from samara.schemas.errors import (
    IntegrityError,
    NetworkError,
    NotFoundError,
    SamaraError,
    TrustError,
    UsageError,
)
from samara.schemas.events import Note, Warned
from samara.schemas.references import Reference, is_name
from samara.schemas.release_file import ReleaseBundle, release_object_name, unpack_release_object


def by_name(home: Home, reference: Reference, known: KnownCatalogs, asking: Asking) -> Resolved:
    """The current release of a name, by the publisher's catalog alone."""
    pin = known.trust.resolve(reference.publisher)
    state = current_catalog(known, pin, asking)
    tag = reference.tag or ""
    entry = state.catalog.find(reference.model, tag)
    if entry is None:
        prefix = reference.model + "/"
        said = (path.removeprefix(prefix) for path in state.catalog.entries if path.startswith(prefix))
        tags = sorted(tag for tag in said if is_name(tag))
        raise NotFoundError(
            f"{pin.alias} ({pin.short}…) has no {reference.model}:{tag} in its catalog",
            next_step=f"it has {', '.join(tags[:12])}" if tags else "see: samara trust show " + pin.alias,
        )
    if entry.retracted is not None:
        raise TrustError(
            f"{pin.alias} ({pin.short}…) has withdrawn {reference.model}:{tag}: {entry.retracted}",
            next_step="choose another release; to have it all the same:"
            f" {pin.alias}/{reference.model}@{entry.manifest}",
        )
    verified = open_listed(_get_listed(home, pin, entry, asking), entry, state, known.trust)
    fresh = age(state, asking.now)
    return Resolved(
        verified=verified,
        alias=pin.alias,
        tag=tag,
        says=f"{pin.alias} is {pin.short}…; its catalog, {fresh}, "
        + (f"has EXPIRED ({', '.join(state.stale)})" if state.stale else "lists this release"),
        current=not state.stale,
    )


def by_digest(home: Home, reference: Reference, known: KnownCatalogs, asking: Asking) -> Resolved:
    """A pinned release: whatever the catalog says of its name, and also when it has expired."""
    assert reference.manifest is not None
    pin = known.trust.resolve(reference.publisher)
    from samara.registry.index import Index

    index = Index.open_existing(home)
    if index is not None:
        with index:
            here = held(index, reference, known, pin, reference.manifest)
        if here is not None:
            warn_of_retraction(known, here.release, pin, asking.on_event)
            return here
    state: CatalogState | None
    try:
        state = current_catalog(known, pin, replace(asking, by_digest=True))
    except (NetworkError, NotFoundError, IntegrityError, TrustError) as problem:
        is_odd = isinstance(problem, (IntegrityError, TrustError))
        asking.on_event(Warned(message=str(problem)) if is_odd else Note(message=str(problem)))
        state = known.of(pin.identity)  # it only says where things lie: what they are, the digest does
    entry = None if state is None else state.catalog.of_manifest(reference.manifest)
    if state is not None and entry is not None:
        verified = open_listed(_get_listed(home, pin, entry, asking), entry, state, known.trust)
    else:
        bundle = _from_sources(pin, reference.manifest, asking)
        if bundle is None:
            raise unknown(str(reference))
        verified = open_release(replace(bundle, roots=() if state is None else state.chain.roots), known.trust)
    if verified.release.digest != reference.manifest or verified.release.model != reference.model:
        raise contradiction(str(reference), verified.release)
    fresh_known = KnownCatalogs(home, known.trust)
    warn_of_retraction(fresh_known, verified.release, pin, asking.on_event)
    return Resolved(verified=verified, alias=pin.alias, tag=verified.release.tag, says=PINNED.format(pin=pin))


def by_magnet(home: Home, link: str, asking: Asking | None) -> ReleaseBundle:
    """The release that a magnet link names. Raises UsageError for a link that names none."""
    parsed = parse_magnet(link)
    if parsed.manifest is None:
        raise UsageError(
            "this magnet link names a blob, not a release", expected="x.manifest=b3:… in it",
            next_step="ask for the link that `samara show` prints, or for the .samara file",
        )  # fmt: skip
    here = held_bundle(home, parsed.manifest)
    if here is not None:
        return here
    if parsed.release is None or asking is None or asking.finder is None:
        raise NotFoundError(
            f"manifest {parsed.manifest} is not known here",
            next_step="allow the DHT or name a --peer, with a link that has x.release",
        )
    data = asking.finder().release(parsed.release, b3_hex(parsed.manifest))
    bundle = unpack_release_object(data)
    if b3(bundle.envelope.payload) != parsed.manifest:
        raise IntegrityError(
            "the release that the magnet link leads to is another one", expected=parsed.manifest,
            actual=b3(bundle.envelope.payload), next_step="don't use this link",
        )  # fmt: skip
    return bundle


def _get_listed(home: Home, pin: Pin, entry: CatalogEntry, asking: Asking) -> ReleaseBundle:
    """The release an entry names, unproven: from the index, a configured source, or its own swarm."""
    found = held_bundle(home, entry.manifest) or _from_sources(pin, entry.manifest, asking)
    if found is not None:
        return found
    if asking.finder is None:
        raise NotFoundError(
            f"nobody to ask for the manifest of {entry.path}",
            next_step="allow the DHT, name a --peer that has it, or give its .samara file",
        )
    return unpack_release_object(asking.finder().release(entry.release_v2, b3_hex(entry.manifest)))


def _from_sources(pin: Pin, manifest: str, asking: Asking) -> ReleaseBundle | None:
    """A release object from a configured source that keeps them, if its digest is right; None if none has it."""
    name = "releases/" + release_object_name(b3_hex(manifest))
    for text in asking.sources_of(pin):
        try:
            data = read_whole(open_source(text, asking), name, MAX_SMALL_FILE)
            bundle = None if data is None else unpack_release_object(data)
        except SamaraError as problem:
            asking.on_event(Note(message=str(problem)))
            continue
        if bundle is not None and b3(bundle.envelope.payload) == manifest:
            return bundle
    return None
