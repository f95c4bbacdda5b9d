"""`audit`, second half: looking. Collects facts about the whole store; judges and repairs nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from samara.fetcher.audit import BlobFact, Facts, LeftoverFact, LocationFact, ReleaseFact
from samara.fetcher.recheck import recheck
from samara.fetcher.resolve import reopen
from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.records import BlobRecord, Location, StoredRelease
from samara.registry.store import stamp_at
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import NotFoundError, SamaraError, TrustError
from samara.schemas.events import OnEvent, ignore
from samara.schemas.manifest import Release, ReleaseFile, parse_manifest


def collect(home: Home, *, read_blocks: bool = True, on_event: OnEvent = ignore) -> Facts:
    """Look at everything under SAMARA_HOME. Raises NotFoundError where there is no index, StoreError if it can't be
    read; whatever else can't be looked at becomes an `unchecked` fact.
    """
    index = Index.open_existing(home)
    if index is None:
        raise NotFoundError(f"there is nothing to audit at {home.root}", next_step="publish or pull something first")
    with index:
        damage = index.damage()
        releases: list[ReleaseFact] = []
        files: dict[str, tuple[ReleaseFile, str]] = {}
        for stored in index.releases():
            fact, release = _release(home, index, stored)
            releases.append(fact)
            for file in release.files if release is not None else ():
                files.setdefault(file.b3, (file, fact.name))
        blobs = {blob.b3: blob for blob in index.blobs()}
        return Facts(
            index_damage=damage,
            releases=tuple(releases),
            blobs=tuple(_blob(index, file, name, blobs.get(b3)) for b3, (file, name) in files.items()),
            locations=tuple(_locations(blobs.values(), files, read_blocks=read_blocks, on_event=on_event)),
            leftovers=tuple(_leftovers(home, blobs)),
        )


def _release(home: Home, index: Index, stored: StoredRelease) -> tuple[ReleaseFact, Release | None]:
    """The release is given back only if its signature holds: nothing else may say what blocks should be."""
    name = stored.manifest[:15] + "…"
    try:
        claimed = parse_manifest(stored.envelope.payload)
        name = f"{claimed.publisher_name}/{claimed.model}:{claimed.tag}"
        release = reopen(index, stored, TrustFolder(home.trust)).release
    except SamaraError as error:
        trust = isinstance(error, TrustError)
        return ReleaseFact(name=name, manifest=stored.manifest, problem=str(error), is_trust_problem=trust), None
    if release.digest != stored.manifest:
        problem = f"the index files it under {stored.manifest}, it is {release.digest}"
        return ReleaseFact(name=name, manifest=stored.manifest, problem=problem), None
    return ReleaseFact(name=name, manifest=stored.manifest, problem=None), release


def _blob(index: Index, file: ReleaseFile, name: str, blob: BlobRecord | None) -> BlobFact:
    return BlobFact(
        b3=file.b3,
        name=name,
        is_known=blob is not None,
        blocks_match=blob is None or blob.layout != file.layout or index.blocks(file.b3) == file.blocks,
        locations=0 if blob is None else len(blob.locations),
    )


def _locations(
    blobs: Iterable[BlobRecord], files: dict[str, tuple[ReleaseFile, str]], *, read_blocks: bool, on_event: OnEvent
) -> Iterator[LocationFact]:
    for blob in blobs:
        for place in blob.locations:
            file = files.get(blob.b3)
            yield _location(place, blob.b3, file[0] if file else None, read_blocks=read_blocks, on_event=on_event)


def _location(
    place: Location, b3: str, file: ReleaseFile | None, *, read_blocks: bool, on_event: OnEvent
) -> LocationFact:  # fmt: skip
    stamp = stamp_at(place.path)
    bad: tuple[str, ...] | None = None
    whole, unreadable, read_only = True, None, True
    if stamp is not None:
        with contextlib.suppress(OSError):
            read_only = not place.path.stat().st_mode & 0o222
        if file is None:
            unreadable = "no release with a good signature says what its blocks should be"
        elif read_blocks:
            try:
                checked = recheck(place.path, file, on_event=on_event)
                bad, whole = tuple(str(block) for block in checked.bad), checked.whole_matches
            except SamaraError as error:
                unreadable = str(error)
    return LocationFact(
        b3=b3,
        path=str(place.path),
        in_store=place.in_store,
        exists=stamp is not None,
        stamp_matches=stamp == place.stamp,
        is_read_only=read_only,
        bad_blocks=bad,
        whole_matches=whole,
        unreadable=unreadable,
    )


def _leftovers(home: Home, blobs: dict[str, BlobRecord]) -> Iterator[LeftoverFact]:
    claimed = {str(place.path) for blob in blobs.values() for place in blob.locations}
    for path in _files(home.blobs):
        if path.name.startswith(TEMPORARY_PREFIX):
            yield _leftover("temporary", path)
        elif str(path) not in claimed:
            yield _leftover("blob", path)
    for folder in _entries(home.partials):
        size = sum(_size(path) for path in _files(folder))
        yield LeftoverFact(kind="partial", path=str(folder), size=size)
    for path in _files(home.models):
        if path.name.startswith(TEMPORARY_PREFIX):
            yield _leftover("temporary", path)
        elif path.is_symlink() and not path.exists():
            yield _leftover("view", path)
    for path in _entries(home.root):
        if path.name.startswith(TEMPORARY_PREFIX):
            yield _leftover("temporary", path)


def _leftover(kind: str, path: Path) -> LeftoverFact:
    return LeftoverFact(kind=kind, path=str(path), size=_size(path))


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _files(folder: Path) -> Iterator[Path]:
    for base, _folders, names in os.walk(folder):
        yield from (Path(base, name) for name in sorted(names))


def _entries(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.iterdir())) if folder.is_dir() else ()
