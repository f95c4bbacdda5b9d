"""`audit`, second half: looking. Collects facts about the whole store; judges and repairs nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from samara.fetcher.audit import BlobFact, CatalogFact, Facts, LeftoverFact, LocationFact, ReleaseFact
from samara.fetcher.recheck import recheck
from samara.registry.durable import TEMPORARY_PREFIX, io_error, io_errors
from samara.registry.holdings import Holdings
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accepted import AcceptedCatalogs
from samara.registry.records import BlobRecord, Location, StoredRelease
from samara.registry.store import stamp_at
from samara.registry.trust.catalog_client import CatalogClient
from samara.registry.trust.known import KnownCatalogs
from samara.schemas.digests import b3_hex
from samara.schemas.errors import NotFoundError, SamaraError, StoreError, TrustError
from samara.schemas.events import OnEvent, ignore
from samara.schemas.manifest import Block, Release, ReleaseFile, parse_manifest
from samara.schemas.stamps import Stamp

T = TypeVar("T")


@dataclass(slots=True)
class _Seen:
    """What could not be looked at, or not be made sense of, is noted here while the rest is looked at."""

    index_damage: list[str] = field(default_factory=list)
    unchecked: list[tuple[str, str]] = field(default_factory=list)

    def rows(self, read: Callable[[], T]) -> T | None:
        """What `read` reads from the index; rows that can't be read are damage."""
        try:
            return read()
        except StoreError as error:
            self.index_damage.append(error.what)
            return None

    def missed(self, path: Path, error: OSError) -> None:
        """Something on disk that can't be looked at; what is gone by now is no miss."""
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            self.unchecked.append((str(path), str(io_error(error, path))))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Claims:
    """What releases say of one blob. `good`: the file of one whose signature holds, and that release's name."""

    good: tuple[ReleaseFile, str] | None
    shapes: frozenset[tuple[str, tuple[Block, ...]]]


def collect(home: Home, *, read_blocks: bool = True, on_event: OnEvent = ignore) -> Facts:
    """Look at everything under SAMARA_HOME. Raises NotFoundError where there is no index, StoreError if it can't be
    opened; whatever else can't be looked at becomes an `unchecked` fact.
    """
    index = Index.open_existing(home)
    if index is None:
        raise NotFoundError(f"there is nothing to audit at {home.root}", next_step="publish or pull something first")
    seen = _Seen()
    catalogs = KnownCatalogs(home)
    accepted = AcceptedCatalogs(index.listings)
    with index:
        seen.index_damage.extend(index.damage())
        known_catalogs = (*_catalogs(catalogs, seen), *_accepted(index, accepted, seen))
        releases: list[ReleaseFact] = []
        claims: dict[str, _Claims] = {}
        elsewhere = _elsewhere(seen.rows(index.holdings))
        for one in seen.rows(index.releases) or ():
            fact, release = _release(catalogs, accepted, one)
            if fact.is_trust_problem and one.manifest in elsewhere:
                continue  # another machine's, which pins its publisher, and audits it
            releases.append(fact)
            if release is not None:
                _add_claims(claims, release, fact)
        known = seen.rows(index.blobs)
        blobs = None if known is None else {blob.b3: blob for blob in known}
        partials = seen.rows(index.partials) or ()
        if blobs is None:
            seen.unchecked.append((str(home.blobs), "the index can't say what should be there"))
        return Facts(
            catalogs=known_catalogs,
            releases=tuple(releases),
            blobs=tuple(
                _blob(index, claimed, blobs.get(b3), seen) for b3, claimed in claims.items() if claimed.good is not None
            )
            if blobs is not None
            else (),
            locations=tuple(_locations((blobs or {}).values(), claims, read_blocks=read_blocks, on_event=on_event)),
            leftovers=tuple(_leftovers(home, blobs, seen)),
            lost_partials=tuple(b3 for b3 in partials if _is_gone(home.partials / b3_hex(b3), seen)),
            index_damage=tuple(seen.index_damage),
            unchecked=tuple(seen.unchecked),
        )


def _elsewhere(holdings: Holdings | None) -> frozenset[str]:
    """The manifests of releases of which nothing is here: other machines that share the database have them."""
    if holdings is None:
        return frozenset()
    here = {*holdings.locations, *holdings.partials}
    return frozenset(
        one.manifest
        for one in holdings.releases
        if one.is_held_elsewhere and all(file.b3 not in here for file in one.files)
    )


def _release(
    catalogs: KnownCatalogs, accepted: AcceptedCatalogs, stored: StoredRelease
) -> tuple[ReleaseFact, Release | None]:
    """The fact, and the release as its manifest has it: only where the fact has no problem is it the publisher's."""
    name = stored.manifest[:15] + "…"
    claimed: Release | None = None
    try:
        claimed = parse_manifest(stored.envelope.payload)
        name = f"{claimed.publisher_name}/{claimed.model}:{claimed.tag}"
        # of publishers that only publish at this machine's registry no pin is known, but their catalog is
        proven = None if catalogs.trust.find(claimed.identity) is not None else accepted.reopen(stored)
        if proven is not None:
            return ReleaseFact(name=name, manifest=proven.release.digest, problem=None), proven.release
        release = catalogs.reopen(stored).release
    except SamaraError as error:
        trust = isinstance(error, TrustError)
        return ReleaseFact(name=name, manifest=stored.manifest, problem=str(error), is_trust_problem=trust), claimed
    if release.digest != stored.manifest:
        problem = f"the index files it under {stored.manifest}, it is {release.digest}"
        return ReleaseFact(name=name, manifest=stored.manifest, problem=problem), release
    fact = ReleaseFact(
        name=name,
        manifest=stored.manifest,
        problem=None,
        withdrawn=catalogs.retraction(release),
        newer=catalogs.newer(release),
    )
    return fact, release


def _accepted(index: Index, accepted: AcceptedCatalogs, seen: _Seen) -> Iterator[CatalogFact]:
    """Publishers of this machine's registry: whether their catalogs still hold, and what they signed twice."""
    for owner in seen.rows(index.listings.owners) or ():
        problem = None
        try:
            accepted.of(owner.identity)
        except SamaraError as error:
            problem = str(error)
        twice = seen.rows(partial(index.listings.equivocations, owner.identity)) or ()
        evidence = tuple(f"version {one.version} in the index" for one in twice)
        if problem is not None or evidence:
            yield CatalogFact(alias=owner.slug, problem=problem, evidence=evidence, is_trusted=False)


def _catalogs(catalogs: KnownCatalogs, seen: _Seen) -> Iterator[CatalogFact]:
    trust = catalogs.trust
    try:
        pins = trust.list()
    except SamaraError as error:
        seen.unchecked.append((str(trust.folder), str(error)))
        return
    now = datetime.now(UTC)
    for pin in pins:
        client = CatalogClient(trust, pin.identity)
        problem, accepted = client.damage(), 0
        expired: tuple[str, ...] = ()
        try:
            accepted = len(client.seen().accepted)
            state = catalogs.of(pin.identity)
            expired = () if state is None else state.catalog.expired_roles(now)
        except SamaraError as error:
            problem = problem or str(error)
        yield CatalogFact(
            alias=pin.alias,
            problem=problem,
            expired=expired,
            accepted_stale=accepted,
            evidence=tuple(str(path) for path in client.evidence()),
        )


def _add_claims(claims: dict[str, _Claims], release: Release, fact: ReleaseFact) -> None:
    for file in release.files:
        before = claims.get(file.b3) or _Claims(good=None, shapes=frozenset())
        good = before.good or ((file, fact.name) if fact.problem is None else None)
        claims[file.b3] = _Claims(good=good, shapes=before.shapes | {(file.layout, file.blocks)})


def _blob(index: Index, claims: _Claims, blob: BlobRecord | None, seen: _Seen) -> BlobFact:
    assert claims.good is not None
    file, name = claims.good
    matches = True
    if blob is not None:
        # the index has the blocks of whichever release came first; one that doesn't hold is a finding of its own
        blocks = seen.rows(lambda: index.blocks(file.b3))
        matches = blocks is None or (blob.layout, blocks) in claims.shapes
    return BlobFact(
        b3=file.b3,
        name=name,
        is_known=blob is not None,
        blocks_match=matches,
        locations=0 if blob is None else len(blob.locations),
    )


def _locations(
    blobs: Iterable[BlobRecord], claims: dict[str, _Claims], *, read_blocks: bool, on_event: OnEvent
) -> Iterator[LocationFact]:
    for blob in blobs:
        good = claims[blob.b3].good if blob.b3 in claims else None
        for place in blob.locations:
            if not blob.is_released and not place.in_store:
                continue  # others' file, merely found: nothing is claimed of it, and blocks from it are proven anew
            yield _location(place, blob.b3, good[0] if good else None, read_blocks=read_blocks, on_event=on_event)


def _location(
    place: Location, b3: str, file: ReleaseFile | None, *, read_blocks: bool, on_event: OnEvent
) -> LocationFact:  # fmt: skip
    stamp: Stamp | None = None
    bad: tuple[str, ...] | None = None
    exists, whole, unreadable, read_only = True, True, None, True
    try:
        stamp = stamp_at(place.path)
        exists = stamp is not None
        if exists:
            with io_errors(place.path):
                read_only = not place.path.stat().st_mode & 0o222
            if file is None:
                unreadable = "no release with a good signature says what its blocks should be"
            elif read_blocks:
                with io_errors(place.path):
                    checked = recheck(place.path, file, on_event=on_event)
                bad, whole = tuple(str(block) for block in checked.bad), checked.whole_matches
    except SamaraError as error:
        unreadable = str(error)
    return LocationFact(
        b3=b3,
        path=str(place.path),
        in_store=place.in_store,
        exists=exists,
        stamp_matches=stamp == place.stamp,
        is_read_only=read_only,
        bad_blocks=bad,
        whole_matches=whole,
        unreadable=unreadable,
    )


def _leftovers(home: Home, blobs: dict[str, BlobRecord] | None, seen: _Seen) -> Iterator[LeftoverFact]:
    claimed = {str(place.path) for blob in (blobs or {}).values() for place in blob.locations}
    for path in _files(home.blobs, seen):
        if path.name.startswith(TEMPORARY_PREFIX):
            yield _leftover("temporary", path, seen)
        elif blobs is not None and str(path) not in claimed:
            yield _leftover("blob", path, seen)
    for folder in _entries(home.partials, seen):
        kind = "temporary" if folder.name.startswith(TEMPORARY_PREFIX) else "partial"
        size = _size(folder, seen) + sum(_size(path, seen) for path in _files(folder, seen))
        yield LeftoverFact(kind=kind, path=str(folder), size=size)
    for path in _files(home.models, seen):
        if path.name.startswith(TEMPORARY_PREFIX):
            yield _leftover("temporary", path, seen)
        elif path.is_symlink() and _is_gone(path, seen):
            yield _leftover("view", path, seen)
    for path in _entries(home.root, seen):
        if path.name.startswith(TEMPORARY_PREFIX):
            yield _leftover("temporary", path, seen)


def _leftover(kind: str, path: Path, seen: _Seen) -> LeftoverFact:
    return LeftoverFact(kind=kind, path=str(path), size=_size(path, seen))


def _size(path: Path, seen: _Seen) -> int:
    try:
        found = path.lstat()
    except OSError as error:
        seen.missed(path, error)
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _is_gone(path: Path, seen: _Seen) -> bool:
    """Whether there surely is nothing at `path`, a link's target included."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        seen.missed(path, error)
    return False


def _files(folder: Path, seen: _Seen) -> Iterator[Path]:
    def missed(error: OSError) -> None:
        seen.missed(Path(error.filename or folder), error)

    for base, _folders, names in os.walk(folder, onerror=missed):
        yield from (Path(base, name) for name in sorted(names))


def _entries(folder: Path, seen: _Seen) -> tuple[Path, ...]:
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError as error:
        seen.missed(folder, error)
        return ()
