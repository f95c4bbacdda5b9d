"""Writing a bundle: releases that are whole here, with all that proves them, into one file for a machine without a net.

Streams in constant memory. Every blob is held against its digest while it is read, and the file appears under its name
only when all of it is written and durable: whatever ends the export, there is a whole bundle or none. What a kill left
beside it is swept by the next export into that folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import zstandard
from blake3 import blake3

from samara.fetcher.blocks import cores
from samara.fetcher.bundle_stream import is_bundle
from samara.fetcher.held import Resolved, open_index, resolve_reference
from samara.fetcher.steady import SteadyFile
from samara.registry.durable import TEMPORARY_PREFIX, io_errors, publish_name
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.progress import reporting
from samara.registry.source_date import publishing_time
from samara.registry.store import free_bytes, whole_copy
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.files import time_text
from samara.registry.trust.known import KnownCatalogs
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.bundle import (
    INDEX_NAME,
    MAX_RELEASES,
    SUFFIX,
    TAR_END,
    BundledRelease,
    BundleIndex,
    Kind,
    Member,
    make_index,
    pack_index,
    pack_roots,
    tar_header,
    tar_padding,
)
from samara.schemas.digests import b3_text
from samara.schemas.errors import IntegrityError, NotFoundError, StoreError, TrustError, UsageError
from samara.schemas.events import CheckProgress, Note, OnEvent, Warned, ignore
from samara.schemas.manifest import ReleaseFile
from samara.schemas.metadata_bundle import pack_metadata
from samara.schemas.references import parse_reference
from samara.schemas.release_file import pack_release_object
from samara.seeder.source_file import open_source

_LEVEL = 1  # model bytes hardly compress; more would only cost time
_CHUNK = 4 << 20
_ASIDE = TEMPORARY_PREFIX + "bundle-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export wrote. `size`: bytes of the file, `content`: of what is in it."""

    path: Path
    size: int
    content: int
    index: BundleIndex
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """One release to export, and the tags by which it was asked for: none if only by its digest."""

    resolved: Resolved
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A blob, where it lies whole, and what its release calls it."""

    file: ReleaseFile
    path: Path


def export_bundle(
    home: Home, references: Sequence[str], target: Path, *, now: datetime | None = None, on_event: OnEvent = ignore
) -> Exported:
    """Write the releases that `references` name, whole and verified here, into the bundle `target`.

    `now` stamps it (SOURCE_DATE_EPOCH, then the clock, when None). The same releases give the same bytes, as long as
    the catalog and the version of zstandard are the same. A bundle of that name is replaced, anything else is not.

    Raises UsageError, NotFoundError (a release or file is not here), TrustError, IntegrityError (a blob changed),
    DiskFullError or StoreError; then there is no file.
    """
    started = time.monotonic()
    created = time_text(publishing_time(now))
    _check_target(home, target)
    asked = _resolve(home, references)
    known = KnownCatalogs(home)
    states = {identity: known.of(identity) for identity in _identities(asked)}
    for one in asked:
        _check_current(one, states[one.resolved.release.identity])
    _say_what_is_known(asked, states, datetime.now(UTC) if now is None else now, on_event)
    documents = dict(_documents(asked, states))
    with open_index(home, references[0]) as index:
        blobs = _find_blobs(index, asked)
    listed = make_index(
        created,
        (_bundled(one) for one in asked),
        [*documents, *(Member(kind=Kind.BLOB, key=b3, size=source.file.size) for b3, source in blobs.items())],
    )
    _warn_of_little_room(listed, target, on_event)
    with _aside(target) as (aside, file):
        with SteadyFile(file.fileno(), aside) as out:
            _write(out, listed, documents, blobs, on_event)
            out.sync()
        with io_errors(target):
            size = os.fstat(file.fileno()).st_size
            if os.name == "nt":  # there nothing that is open can be renamed
                file.close()
            publish_name(aside, target)
    return Exported(
        path=target, size=size, content=listed.tar_size, index=listed, seconds=time.monotonic() - started
    )  # fmt: skip


# -- what goes in ------------------------------------------------------------------------------------------------------


def _check_target(home: Home, target: Path) -> None:
    """Before anything is read: the bundle has a folder, and replaces nothing but another bundle."""
    if not target.name.endswith(SUFFIX):
        raise UsageError(f"{target} is no name for a bundle", expected=f"one that ends in {SUFFIX}")
    if not target.parent.is_dir():
        raise NotFoundError(f"the folder {target.parent} for the bundle doesn't exist")
    if target.resolve().is_relative_to(home.root.resolve()):
        raise UsageError(f"{target} lies inside the store", next_step="choose another folder for the bundle")
    if os.path.lexists(target) and not (target.is_file() and is_bundle(target)):
        raise UsageError(f"{target} exists and is no bundle", next_step="choose another name")


def _resolve(home: Home, references: Sequence[str]) -> tuple[_Asked, ...]:
    """The releases asked for, each once."""
    if not 1 <= len(references) <= MAX_RELEASES:
        raise UsageError("name the releases to export", expected=f"1…{MAX_RELEASES}", actual=len(references))
    found: dict[str, _Asked] = {}
    for text in references:
        reference = parse_reference(text)
        with open_index(home, text) as index:
            resolved = resolve_reference(home, index, reference)
        before = found.get(resolved.release.digest)
        tags = (*(() if before is None else before.tags), *(() if reference.tag is None else (reference.tag,)))
        found[resolved.release.digest] = _Asked(resolved=resolved, tags=tags)
    return tuple(found.values())


def _identities(asked: Sequence[_Asked]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.resolved.release.identity for one in asked))


def _check_current(one: _Asked, state: CatalogState | None) -> None:
    """What was asked for by its tag must be what the catalog says of that tag, as far as it is known here."""
    if state is None or not one.tags:
        return
    release = one.resolved.release
    pinned = f"samara bundle export {one.resolved.alias}/{release.model}@{release.digest} FILE{SUFFIX}"
    reason = state.catalog.retraction(release.digest)
    if reason is not None:
        raise TrustError(
            f"{one.resolved.reference} was withdrawn by its publisher: {reason}",
            next_step=f"to export it all the same, knowingly: {pinned}",
        )
    for tag in one.tags:
        entry = state.catalog.find(release.model, tag)
        if entry is None or entry.manifest != release.digest:
            name = f"{one.resolved.alias}/{release.model}:{tag}"
            raise NotFoundError(
                f"what is here as {name} is not what its publisher's catalog says", actual=release.digest,
                expected="nothing of that name" if entry is None else entry.manifest,
                next_step=f"samara pull {name} — or export what is here: {pinned}",
            )  # fmt: skip


def _say_what_is_known(
    asked: Sequence[_Asked], states: Mapping[str, CatalogState | None], now: datetime, on_event: OnEvent
) -> None:
    aliases = {one.resolved.release.identity: one.resolved.alias for one in asked}
    for identity, state in states.items():
        if state is None:
            on_event(
                Note(message=f"no catalog of {aliases[identity]} is known here: whoever imports can't check freshness")
            )
        elif state.catalog.expires <= now:
            on_event(
                Warned(message=f"the catalog of {aliases[identity]} has expired: importing needs --allow-stale")
            )  # fmt: skip


def _documents(
    asked: Sequence[_Asked], states: Mapping[str, CatalogState | None]
) -> Iterator[tuple[Member, bytes]]:  # fmt: skip
    for one in asked:
        release = one.resolved.release
        data = pack_release_object(one.resolved.verified.bundle)
        if len(data) > MAX_SMALL_FILE:
            raise UsageError(
                f"{one.resolved.reference} has too many files for a bundle", expected=f"≤ {MAX_SMALL_FILE} bytes",
                actual=len(data), next_step="carry its .samara file and its files by themselves",
            )  # fmt: skip
        yield Member(kind=Kind.RELEASE, key=release.digest, size=len(data)), data
        state = states[release.identity]
        kind = Kind.ROOTS if state is None else Kind.METADATA
        vouched = pack_roots(one.resolved.verified.chain.roots) if state is None else pack_metadata(state.bundle)
        yield Member(kind=kind, key=release.identity, size=len(vouched)), vouched


def _bundled(one: _Asked) -> BundledRelease:
    release = one.resolved.release
    return BundledRelease(
        identity=release.identity, model=release.model, tag=release.tag, manifest=release.digest, pinned=not one.tags
    )


def _find_blobs(index: Index, asked: Sequence[_Asked]) -> dict[str, _Source]:
    """Where each blob lies; what travels inline needs none."""
    found: dict[str, _Source] = {}
    for one in asked:
        for file in one.resolved.release.files:
            if file.inline is not None or file.b3 in found:
                continue
            blob = index.blob(file.b3)
            place = None if blob is None else whole_copy(blob)
            if place is None:
                raise NotFoundError(
                    f"{file.path} of {one.resolved.reference} is not here whole and verified",
                    next_step=f"samara pull {one.resolved.reference} — or, if it changed: samara verify",
                )
            found[file.b3] = _Source(file=file, path=place.path)
    return found


def _warn_of_little_room(listed: BundleIndex, target: Path, on_event: OnEvent) -> None:
    free = free_bytes(target.absolute().parent)
    if listed.tar_size > free:  # only a warning: some models do compress
        on_event(Warned(message=f"{target.parent} has {free:,} bytes free, the bundle may need {listed.tar_size:,}"))


# -- the file ----------------------------------------------------------------------------------------------------------


def _write(
    out: SteadyFile,
    listed: BundleIndex,
    documents: Mapping[Member, bytes],
    blobs: Mapping[str, _Source],
    on_event: OnEvent,
) -> None:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bundle") as hashing:
        pack = _Pack(out)
        pack.add_file(INDEX_NAME, pack_index(listed))
        for member in listed.members:
            if member.kind is Kind.BLOB:
                _add_blob(pack, member, blobs[member.key], hashing, on_event)
            else:
                pack.add_file(member.name, documents[member])
        pack.finish()


def _add_blob(
    pack: _Pack, member: Member, source: _Source, hashing: ThreadPoolExecutor, on_event: OnEvent
) -> None:  # fmt: skip
    """Read a blob once: into the bundle, and beside that into its digest."""
    report = reporting(CheckProgress, source.file.path, member.size, on_event)
    hasher = blake3()
    buffers = (memoryview(bytearray(_CHUNK)), memoryview(bytearray(_CHUNK)))
    hashed: list[Future[object]] = []
    done = 0
    pack.add(tar_header(member.name, member.size))
    with open_source(source.path) as file, io_errors(source.path):
        while done < member.size:
            if len(hashed) == len(buffers):
                hashed.pop(0).result()
            view = buffers[(done // _CHUNK) % len(buffers)]
            part = view[: _read(file, view[: member.size - done])]
            if not part:
                break
            hashed.append(hashing.submit(hasher.update, part))
            pack.add(part)
            done += len(part)
            report(done)
        more = file.read(1)
    for one in hashed:
        one.result()
    actual = b3_text(hasher.digest())
    if actual != member.key or more:
        raise IntegrityError(
            f"{source.path} changed since it was verified", expected=member.key,
            actual="more bytes" if more else actual, next_step="see: samara verify",
        )  # fmt: skip
    pack.add(bytes(tar_padding(member.size)))


def _read(file: FileIO, view: memoryview) -> int:
    """Fill `view` from the file; fewer bytes only where it ends."""
    at = 0
    while at < len(view) and (got := file.readinto(view[at:])):
        at += got
    return at


class _Pack:
    """The tar on its way through zstd into the file."""

    def __init__(self, out: SteadyFile) -> None:
        # how many threads there are changes the output as little as how the input is cut; that there are any does
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, threads=cores())
        self._zstd = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._out = out

    def add_file(self, name: str, data: bytes) -> None:
        self.add(tar_header(name, len(data)) + data + bytes(tar_padding(len(data))))

    def add(self, data: bytes | memoryview) -> None:
        self._out.write(self._zstd.compress(data))

    def finish(self) -> None:
        self.add(TAR_END)
        self._out.write(self._zstd.flush())


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[tuple[Path, FileIO]]:
    """A new file beside `target`, open for writing; gone afterwards unless it was renamed."""
    folder = target.absolute().parent
    with io_errors(folder):
        _sweep(folder)
        aside = folder / (_ASIDE + secrets.token_hex(8))
        file = FileIO(aside, "xb")
    try:
        with file:
            if not _lock(file) or not aside.exists():  # another export took it for a dead one's, in that one moment
                raise StoreError(f"another export is writing into {folder}", next_step="run it again")
            yield aside, file
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _sweep(folder: Path) -> None:
    """Remove what killed exports left in a folder. A living one holds a lock on its file, which dies with it."""
    for left in folder.glob(_ASIDE + "*"):
        with contextlib.suppress(OSError), FileIO(left, "rb+") as file:
            if _lock(file):
                left.unlink()


def _lock(file: FileIO) -> bool:
    """Whether the file is nobody else's now. Windows needs no lock: there nobody can remove a file that is open."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
