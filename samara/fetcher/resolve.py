"""From what a person typed to a release that was checked: a reference, a `.samara` file or its URL, a magnet link.

A name (`acme/tiny:q8_0`) always goes through its publisher's catalog, which says what is current; a digest needs no
catalog; what travels alone is proven by its signature, and the result says that its freshness was not checked.
Nothing here believes its input: files and URLs are untrusted containers, and what the index holds is verified again
each time, so that a changed index can't change what is trusted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samara.fetcher.catalogs import DHT_SOURCE, Asking, age, current_catalog, open_source
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.pins import Pin
from samara.registry.trust.release import VerifiedRelease, open_listed, open_release
from samara.registry.trust.sources import read_whole
from samara.registry.web import download, is_url
from samara.schemas.bittorrent import MAX_SMALL_FILE, parse_magnet
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3, b3_hex
from samara.schemas.errors import (
    IntegrityError,
    MalformedError,
    NetworkError,
    NotFoundError,
    SamaraError,
    TrustError,
    UsageError,
    cannot_read,
)
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.manifest import Release
from samara.schemas.references import Reference, is_name, looks_like_reference, parse_reference
from samara.schemas.release_file import (
    MAX_COMPRESSED_BYTES,
    SUFFIX,
    ReleaseBundle,
    release_object_name,
    unpack_release,
    unpack_release_object,
)

if TYPE_CHECKING:
    from samara.registry.index import Index


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A release to work with.

    `alias`: what this machine calls its publisher. `tag`: the one that was asked for; the release's own where none was.
    `says`: what is known of its freshness, for people. `current`: whether a catalog that hasn't expired says that this
    is what the name means now.
    """

    verified: VerifiedRelease
    alias: str
    tag: str
    says: str
    current: bool = False

    @property
    def release(self) -> Release:
        """The release itself."""
        return self.verified.release

    @property
    def reference(self) -> str:
        """How people on this machine name it."""
        return f"{self.alias}/{self.release.model}:{self.tag}"


def resolve(home: Home, source: str, asking: Asking | None = None) -> Resolved:
    """Find and verify the release that `source` names: a reference, a `.samara` file or URL, or a magnet link.

    With `asking`, others are asked: a tag means what its publisher's catalog says now, and nothing else. Without, it
    means what this machine knows. Raises NotFoundError, TrustError, MalformedError, IntegrityError, NetworkError.
    """
    known = KnownCatalogs(home)
    on_event = ignore if asking is None else asking.on_event
    if is_magnet(source):
        return _alone(_by_magnet(home, source, asking), known, on_event)
    if is_url(source) or is_release_file(source):
        return _alone(read_bundle(source), known, on_event)
    reference = parse_reference(source)
    if asking is not None and reference.manifest is None:
        return _by_name(home, reference, known, asking)
    if asking is not None:
        return _by_digest(home, reference, known, asking)
    with open_index(home, source) as index:
        return resolve_reference(home, index, reference)


def resolve_reference(home: Home, index: Index, reference: Reference, *, on_event: OnEvent = ignore) -> Resolved:
    """What a reference means on this machine, from what it knows, verified again. Asks nobody."""
    known = KnownCatalogs(home)
    pin = known.trust.resolve(reference.publisher)
    if reference.manifest is not None:
        resolved = _held(index, reference, known, pin, reference.manifest)
        if resolved is None:
            raise unknown(str(reference))
        return resolved
    tag = reference.tag or ""
    state = known.of(pin.identity)
    entry = None if state is None else state.catalog.find(reference.model, tag)
    listed = None if entry is None else _held(index, reference, known, pin, entry.manifest)
    if listed is not None and entry is not None:
        if entry.retracted is not None:
            on_event(Warned(message=f"{pin.alias} has withdrawn {reference}: {entry.retracted}"))
        return replace(
            listed, tag=tag, says=f"{pin.alias} is {pin.short}…; its catalog, as known here, lists this release"
        )
    stored = index.release(pin.identity, reference.model, tag)
    if stored is None:
        raise unknown(str(reference))
    older = _held(index, reference, known, pin, stored.manifest)
    assert older is not None
    if (older.release.model, older.release.tag) != (reference.model, tag):
        raise _contradiction(str(reference), older.release)
    if entry is not None:
        on_event(
            Warned(message=f"{reference} is version {entry.version} by now; here is version {older.release.version}")
        )
    return older


def _by_name(home: Home, reference: Reference, known: KnownCatalogs, asking: Asking) -> Resolved:
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


def _by_digest(home: Home, reference: Reference, known: KnownCatalogs, asking: Asking) -> Resolved:
    """A pinned release: whatever the catalog says of its name, and also when it has expired."""
    assert reference.manifest is not None
    pin = known.trust.resolve(reference.publisher)
    from samara.registry.index import Index

    index = Index.open_existing(home)
    if index is not None:
        with index:
            held = _held(index, reference, known, pin, reference.manifest)
        if held is not None:
            _warn_of_retraction(known, held.release, pin, asking.on_event)
            return held
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
        raise _contradiction(str(reference), verified.release)
    fresh_known = KnownCatalogs(home, known.trust)
    _warn_of_retraction(fresh_known, verified.release, pin, asking.on_event)
    return Resolved(verified=verified, alias=pin.alias, tag=verified.release.tag, says=_PINNED.format(pin=pin))


_PINNED = "{pin.alias} is {pin.short}…; this release is pinned by its digest"


def _alone(bundle: ReleaseBundle, known: KnownCatalogs, on_event: OnEvent) -> Resolved:
    """A release that travels alone: proven by its signature; how fresh it is, only a catalog could say."""
    verified = open_release(bundle, known.trust)
    release, pin = verified.release, verified.pin
    reason = known.retraction(release)
    if reason is not None:
        raise TrustError(
            f"{pin.alias} ({pin.short}…) has withdrawn this release: {reason}",
            next_step=f"to have it all the same: {pin.alias}/{release.model}@{release.digest}",
        )
    newer = known.newer(release)
    if newer is not None:
        on_event(
            Warned(
                message=f"this is version {release.version} of {pin.alias}/{release.model}:{release.tag};"
                f" its catalog knows version {newer}"
            )
        )
    return Resolved(
        verified=verified,
        alias=pin.alias,
        tag=release.tag,
        says=f"{pin.alias}/{release.model}:{release.tag} is signed by {pin.short}…; freshness not checked",
    )


def _get_listed(home: Home, pin: Pin, entry: CatalogEntry, asking: Asking) -> ReleaseBundle:
    """The release an entry names, unproven: from the index, a configured source, or its own swarm."""
    from samara.registry.index import Index

    index = Index.open_existing(home)
    if index is not None:
        with index:
            stored = index.release_by_digest(entry.manifest)
        if stored is not None:
            return ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)
    found = _from_sources(pin, entry.manifest, asking)
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
    for text in dict.fromkeys((*asking.sources, *pin.sources)):
        if text.startswith(DHT_SOURCE):
            continue
        try:
            data = read_whole(open_source(text), name, MAX_SMALL_FILE)
            bundle = None if data is None else unpack_release_object(data)
        except SamaraError as problem:
            asking.on_event(Note(message=str(problem)))
            continue
        if bundle is not None and b3(bundle.envelope.payload) == manifest:
            return bundle
    return None


def _by_magnet(home: Home, link: str, asking: Asking | None) -> ReleaseBundle:
    """The release that a magnet link names. Raises UsageError for a link that names none."""
    parsed = parse_magnet(link)
    if parsed.manifest is None:
        raise UsageError(
            "this magnet link names a blob, not a release", expected="x.manifest=b3:… in it",
            next_step="ask for the link that `samara show` prints, or for the .samara file",
        )  # fmt: skip
    from samara.registry.index import Index

    index = Index.open_existing(home)
    if index is not None:
        with index:
            stored = index.release_by_digest(parsed.manifest)
        if stored is not None:
            return ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)
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


def _held(index: Index, reference: Reference, known: KnownCatalogs, pin: Pin, manifest: str) -> Resolved | None:
    """A release that the index holds, verified again; None if it doesn't."""
    stored = index.release_by_digest(manifest)
    if stored is None:
        return None
    verified = known.reopen(stored)
    release = verified.release
    if (release.identity, release.model, release.digest) != (pin.identity, reference.model, manifest):
        raise _contradiction(str(reference), release)
    return Resolved(
        verified=verified,
        alias=pin.alias,
        tag=release.tag,
        says=_PINNED.format(pin=pin) if reference.manifest else f"{pin.alias} is {pin.short}…; freshness not checked",
    )


def _warn_of_retraction(known: KnownCatalogs, release: Release, pin: Pin, on_event: OnEvent) -> None:
    reason = known.retraction(release)
    if reason is not None:
        on_event(Warned(message=f"{pin.alias} has withdrawn this release: {reason}"))


def _contradiction(reference: str, release: Release) -> MalformedError:
    return MalformedError(
        f"the index says {reference} is another release than its manifest says", expected=reference,
        actual=f"{release.identity[:8]}…/{release.model}:{release.tag}", next_step='run "samara audit"',
    )  # fmt: skip


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


def is_magnet(source: str) -> bool:
    """Whether `source` is a magnet link."""
    return source.startswith("magnet:")


def is_release_file(source: str) -> bool:
    """Whether `source` means a file rather than a reference."""
    if is_magnet(source):
        return False
    return source.endswith(SUFFIX) or not looks_like_reference(source) or os.path.isfile(source)  # noqa: PTH113


def read_bundle(source: str) -> ReleaseBundle:
    """The unproven parts of a `.samara` file or URL. Raises NotFoundError, UsageError, NetworkError, MalformedError."""
    return unpack_release(download(source) if is_url(source) else _read_file(Path(source)))


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
