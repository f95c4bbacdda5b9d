"""Looking at the store for `ls`, `du`, `rm` and `prune`: facts for `samara.fetcher.housekeeping`. Changes nothing.

Bytes are what the disk gives to a file (`st_blocks`), each file counted once however many names it has. What shares its
extents with others (a reflink) counts whole: no portable call tells.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from samara.fetcher.housekeeping import BlobFact, Facts, PartialFact, ReleaseFact, StrayFact, ViewFact
from samara.registry.durable import TEMPORARY_PREFIX, io_error
from samara.registry.holdings import HeldRelease, Holdings
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.scratch import is_held
from samara.registry.sweep import partial_touched, temporaries, touched
from samara.registry.trust.known import KnownCatalogs
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3_hex, b3_raw, b3_text
from samara.schemas.errors import UsageError
from samara.schemas.references import URI_SCHEME, parse_reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """One release the index holds and what is known of it. `short`: by alias and tag; `reference`: what names just this
    one. `withdrawn`: why its publisher took it back; `newer`: the version that its name means by now.
    """

    held: HeldRelease
    alias: str
    short: str
    reference: str
    means_now: str | None
    withdrawn: str | None
    newer: int | None
    is_own: bool
    tags: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A release that a known catalog lists and the index doesn't hold."""

    reference: str
    manifest: str
    version: int
    withdrawn: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entries:
    """A known catalog for many questions: its entries by model, and why manifests were withdrawn."""

    by_model: Mapping[str, tuple[CatalogEntry, ...]]
    withdrawn: Mapping[str, str]

    @classmethod
    def of(cls, entries: Iterable[CatalogEntry]) -> Entries:
        """Sorted out."""
        by_model: dict[str, list[CatalogEntry]] = {}
        withdrawn: dict[str, str] = {}
        for entry in entries:
            by_model.setdefault(entry.model, []).append(entry)
            withdrawn.update((one.manifest, one.reason) for one in entry.withdrawn)
            if entry.retracted is not None:
                withdrawn[entry.manifest] = entry.retracted
        return cls(by_model={model: tuple(found) for model, found in by_model.items()}, withdrawn=withdrawn)


class Publishers:
    """Aliases and catalogs of publishers, each read once. Asks nobody."""

    def __init__(self, home: Home) -> None:
        self._catalogs = KnownCatalogs(home)
        self._aliases = {pin.identity: pin.alias for pin in self._catalogs.trust.list()}
        self._entries: dict[str, Entries | None] = {}
        self._own: dict[str, bool] = {}

    @property
    def aliases(self) -> Mapping[str, str]:
        """identity → alias of every pinned publisher."""
        return self._aliases

    def identity(self, alias: str) -> str | None:
        """The publisher pinned under that name."""
        return next((identity for identity, name in self._aliases.items() if name == alias), None)

    def is_own(self, identity: str) -> bool:
        """Whether its keys lie here."""
        if identity not in self._own:
            self._own[identity] = self._catalogs.publisher(identity) is not None
        return self._own[identity]

    def catalog(self, identity: str) -> Entries | None:
        """Its newest known catalog; None where none is known."""
        if identity not in self._entries:
            state = self._catalogs.of(identity)
            self._entries[identity] = None if state is None else Entries.of(state.catalog.entries.values())
        return self._entries[identity]


def known_releases(publishers: Publishers, held: Iterable[HeldRelease]) -> tuple[Known, ...]:
    """What is known of each release, in the order given."""
    releases = tuple(held)
    newest: dict[tuple[str, str, str], HeldRelease] = {}
    for one in releases:
        name = (one.identity, one.model, one.tag)
        if name not in newest or one.version >= newest[name].version:
            newest[name] = one
    return tuple(_known(publishers, one, newest[one.identity, one.model, one.tag].manifest) for one in releases)


def _known(publishers: Publishers, held: HeldRelease, newest: str) -> Known:
    catalog = publishers.catalog(held.identity)
    alias = publishers.aliases.get(held.identity)
    head = f"{alias or URI_SCHEME + held.identity}/{held.model}"
    mine = () if catalog is None else catalog.by_model.get(held.model, ())
    listed = next((entry for entry in mine if entry.tag == held.tag), None)
    tags = frozenset(entry.tag for entry in mine if entry.manifest == held.manifest and entry.retracted is None)
    is_newest = newest == held.manifest
    # without a catalog a name means the newest that is here; a catalog knows better
    means = sorted(tags, key=lambda tag: (tag != held.tag, tag)) if catalog is not None else [held.tag] * is_newest
    names_it = held.tag in tags or (is_newest and (listed is None or listed.manifest == held.manifest))
    shown = held.tag if names_it or not tags else means[0]
    names_it = names_it or bool(tags)
    return Known(
        held=held,
        alias=alias or held.publisher_name,
        short=f"{head}:{shown}",
        reference=f"{head}:{shown}" if names_it else f"{head}@{held.manifest}",
        means_now=f"{head}:{means[0]}" if means else None,
        withdrawn=None if catalog is None else catalog.withdrawn.get(held.manifest),
        newer=listed.version if listed is not None and listed.version > held.version else None,
        is_own=publishers.is_own(held.identity),
        tags=tags | {held.tag},
    )


def listed_elsewhere(publishers: Publishers, held: Iterable[HeldRelease]) -> Iterator[Listed]:
    """What known catalogs list and the index doesn't hold."""
    here = {one.manifest for one in held}
    for identity, alias in sorted(publishers.aliases.items(), key=lambda item: item[1]):
        catalog = publishers.catalog(identity)
        for entry in () if catalog is None else chain.from_iterable(catalog.by_model.values()):
            if entry.manifest not in here:
                yield Listed(
                    reference=f"{alias}/{entry.model}:{entry.tag}",
                    manifest=entry.manifest,
                    version=entry.version,
                    withdrawn=entry.retracted,
                )


def select(known: Iterable[Known], publishers: Publishers, wanted: str) -> tuple[Known, ...]:
    """The one release that a reference means here, in a tuple; nothing if none. Works on unpinned publishers too."""
    parsed = parse_reference(wanted)
    identity = parsed.publisher if parsed.by_identity else publishers.identity(parsed.publisher)
    if identity is None:
        return ()
    mine = [one for one in known if (one.held.identity, one.held.model) == (identity, parsed.model)]
    if parsed.manifest is not None:
        return tuple(one for one in mine if one.held.manifest == parsed.manifest)
    catalog = publishers.catalog(identity)
    entries = () if catalog is None else catalog.by_model.get(parsed.model, ())
    listed = next((entry.manifest for entry in entries if entry.tag == parsed.tag), None)
    meant = [one for one in mine if one.held.manifest == listed]
    older = sorted((one for one in mine if one.held.tag == parsed.tag), key=lambda one: one.held.version)
    return tuple(meant or older[-1:])


def survey(home: Home, index: Index | None, publishers: Publishers) -> Facts:
    """Everything that takes room in the store, and what needs it. Raises StoreError where one can't look."""
    holdings = Holdings(locations={}) if index is None else index.holdings()
    blobs, inodes = _blobs(home)
    views = tuple(_views(home, inodes))
    partials = tuple(_partials(home))
    here = {*blobs, *holdings.locations, *holdings.partials, *(partial.b3 for partial in partials)}
    linked: dict[str, int] = {}
    for view in views:
        if view.b3 is not None and not Path(view.path).is_symlink():
            linked[view.b3] = linked.get(view.b3, 0) + 1
    return Facts(
        releases=tuple(_release_fact(one, here) for one in known_releases(publishers, holdings.releases)),
        blobs=tuple(
            BlobFact(
                b3=b3,
                path=str(path),
                bytes=disk_bytes(found),
                changed=max(found.st_mtime, found.st_ctime),
                links_elsewhere=max(0, found.st_nlink - 1 - linked.get(b3, 0)),
            )
            for b3, (path, found) in blobs.items()
        ),
        partials=partials,
        views=views,
        strays=(*_temporaries(home), *_empty_folders(home)),
        sizes={file.b3: file.size for one in holdings.releases for file in one.files},
        lost_partials=tuple(sorted(holdings.partials - {partial.b3 for partial in partials})),
    )


def disk_bytes(found: os.stat_result) -> int:
    """Bytes of disk that a file takes."""
    blocks = getattr(found, "st_blocks", None)  # Windows has none
    return found.st_size if blocks is None else int(blocks) * 512


def tree_bytes(folder: Path) -> int:
    """Bytes of disk that the files below a folder take; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in _files(folder):
        found = _look(path)
        if found is not None and stat.S_ISREG(found.st_mode):
            seen[found.st_dev, found.st_ino] = disk_bytes(found)
    return sum(seen.values())


def _release_fact(one: Known, here: Collection[str]) -> ReleaseFact:
    """`here`: every blob (b3 text) of which anything is known here."""
    held = one.held
    return ReleaseFact(
        manifest=held.manifest,
        reference=one.reference,
        name=(held.identity, held.model, held.tag),
        version=held.version,
        added_at=held.added_at,
        blobs=frozenset(file.b3 for file in held.files),
        names={f"{one.alias}/{held.model}/{tag}/{file.path}": file.b3 for tag in one.tags for file in held.files},
        means_now=one.means_now,
        is_own=one.is_own,
        is_listed=held.is_listed,
        is_elsewhere=held.is_held_elsewhere and all(file.b3 not in here for file in held.files),
    )


def _blobs(home: Home) -> tuple[dict[str, tuple[Path, os.stat_result]], dict[tuple[int, int], str]]:
    blobs: dict[str, tuple[Path, os.stat_result]] = {}
    inodes: dict[tuple[int, int], str] = {}
    for path in _files(home.blobs):
        b3 = _b3_of(path.name)
        found = _look(path)
        if b3 is not None and path == home.blob(path.name) and found is not None and stat.S_ISREG(found.st_mode):
            blobs[b3] = path, found
            inodes[found.st_dev, found.st_ino] = b3
    return blobs, inodes


def _views(home: Home, inodes: Mapping[tuple[int, int], str]) -> Iterator[ViewFact]:
    for path in _files(home.models):
        found = _look(path)
        if path.name.startswith(TEMPORARY_PREFIX) or found is None:
            continue
        is_link = stat.S_ISLNK(found.st_mode)
        shown = _look(path, follow=True) if is_link else found
        b3 = None if shown is None else inodes.get((shown.st_dev, shown.st_ino))
        yield ViewFact(
            name=path.relative_to(home.models).as_posix(),
            path=str(path),
            b3=b3,
            bytes=0 if is_link or b3 is not None else disk_bytes(found),
            size=0 if shown is None else shown.st_size,
            changed=max(found.st_mtime, found.st_ctime),
        )


def _partials(home: Home) -> Iterator[PartialFact]:
    for folder in _entries(home.partials):
        b3 = _b3_of(folder.name)
        if b3 is not None and folder.is_dir() and not folder.is_symlink():
            yield PartialFact(
                b3=b3,
                path=str(folder),
                bytes=tree_bytes(folder),
                touched=partial_touched(folder),
                is_held=is_held(folder),
            )


def _temporaries(home: Home) -> Iterator[StrayFact]:
    for path in temporaries(home):
        found = _look(path)
        if found is not None:
            size = tree_bytes(path) if stat.S_ISDIR(found.st_mode) else disk_bytes(found)
            yield StrayFact(kind="temporary", path=str(path), bytes=size, touched=touched(path))


def _empty_folders(home: Home) -> Iterator[StrayFact]:
    """Folders below blobs/ and models/ in which there is no file, however deep."""
    for room in (home.blobs, home.models):
        full: set[str] = set()
        for base, folders, names in os.walk(room, topdown=False):
            is_temporary = Path(base).name.startswith(TEMPORARY_PREFIX)  # goes by itself, if it goes
            if names or is_temporary or any(os.path.join(base, name) in full for name in folders):  # noqa: PTH118
                full.add(base)
            elif Path(base) != room:
                found = _look(Path(base))
                if found is not None:
                    yield StrayFact(kind="folder", path=base, bytes=0, touched=found.st_mtime)


def _b3_of(name: str) -> str | None:
    try:
        return b3_text(b3_raw("b3:" + name))
    except UsageError:
        return None


def _look(path: Path, *, follow: bool = False) -> os.stat_result | None:
    try:
        return path.stat() if follow else path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise io_error(error, path) from None


def _files(folder: Path) -> Iterator[Path]:
    """Every name below a folder that is no folder. Raises StoreError for what can't be listed: it may be anything."""

    def refused(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise io_error(error, Path(error.filename or folder))

    for base, folders, names in os.walk(folder, onerror=refused):
        yield from (Path(base, name) for name in sorted(names))
        yield from (path for name in sorted(folders) if (path := Path(base, name)).is_symlink())


def _entries(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(folder.iterdir()))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise io_error(error, folder) from None


def partial_bytes(home: Home, b3: str) -> int:
    """Bytes of a blob that a transfer has written so far."""
    found = _look(home.partials / b3_hex(b3) / "data")
    return 0 if found is None else min(disk_bytes(found), found.st_size)
