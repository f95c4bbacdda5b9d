"""Taking a bundle in: everything is proven first, offline, then made visible in the crash order.

One read from front to end in constant memory. Documents first: who made each release and what it is worth here
(`bundle_trust`). Then blobs, every block and the whole against the signed manifest, those that are here already too;
the others are written beside the store, on its disk. Only when the last byte was right: blobs → trust → index → names.

A kill leaves what a later import sweeps: staged blobs in one folder, or blobs in the store without a row in the index,
which are read again and used. SHA-256 is not computed: it would take three times as long as all else, and BLAKE3 says
the same of the same bytes; `samara audit` is deeper.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from samara.fetcher.bundle_lanes import Lanes, Proof, Staged
from samara.fetcher.bundle_stream import BundleReader
from samara.fetcher.bundle_trust import Judged, Standing, Verdict, Vouched, judge, remember
from samara.fetcher.partial import Partial
from samara.fetcher.plan import RESERVE
from samara.fetcher.recheck import recheck
from samara.registry.durable import TEMPORARY_PREFIX, fsync_folder, io_errors
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.progress import reporting
from samara.registry.store import commit_blob, free_bytes, link_view, seal, stamp_at, whole_copy
from samara.schemas.bundle import Kind, Member
from samara.schemas.digests import b3_hex
from samara.schemas.errors import DiskFullError, IntegrityError, StoreError
from samara.schemas.events import CheckProgress, FileReady, OnEvent, Reached, ignore
from samara.schemas.manifest import Release, ReleaseFile

STAGING = TEMPORARY_PREFIX + "import"  # below SAMARA_HOME: on the store's disk, and no leftover that audit overlooks
_LOCK = "import.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedFile:
    """One file, whole and verified, and where it lies."""

    path: str
    blob: str
    size: int
    location: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedRelease:
    """One release that is here now. `reference`: what to call it on this machine."""

    reference: str
    identity: str
    manifest: str
    version: int
    standing: Standing
    files: tuple[ImportedFile, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What an import did. Bytes of blobs: all of the bundle's, and those that were not here yet."""

    releases: tuple[ImportedRelease, ...]
    publishers: tuple[Vouched, ...]
    bytes_total: int
    bytes_written: int
    seconds: float


def import_bundle(
    home: Home, path: Path, *, now: datetime, allow_stale: bool = False, on_event: OnEvent = ignore
) -> Imported:
    """Verify the bundle at `path` as of `now`, and take in every release it has, or none.

    `allow_stale`: accept catalogs that have expired; that is recorded. Raises NotFoundError, UsageError, MalformedError
    and IntegrityError (the bundle), TrustError, DiskFullError or StoreError; then nothing of it is visible.
    """
    started = time.monotonic()
    home.prepare()
    with _alone(home) as staging, BundleReader(path) as reader:
        small = [member for member in reader.index.members if member.kind is not Kind.BLOB]
        documents = {member: reader.document(member) for member in small}
        verdict = judge(
            home, reader.index, documents, str(path), now=now, allow_stale=allow_stale, on_event=on_event
        )  # fmt: skip
        documents.clear()
        with Index.open(home) as index:
            work = _Import(home, index, verdict, staging, on_event)
            work.take_in(reader)
            work.commit(str(path), now=now)
            return work.result(started)


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[Path]:
    """The empty folder to stage blobs in, this process's alone; gone afterwards with all that is left in it."""
    from filelock import FileLock, Timeout

    lock = FileLock(home.root / _LOCK, timeout=0)
    with io_errors(home.root / _LOCK):
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"another bundle is being imported into {home.root}", next_step="run it again when that has ended"
            ) from None
    staging = home.root / STAGING
    try:
        _clear(staging)
        with io_errors(staging):
            staging.mkdir()
        yield staging
    finally:
        _clear(staging)
        lock.release()


def _clear(staging: Path) -> None:
    if staging.is_symlink() or staging.is_file():
        staging.unlink()
    shutil.rmtree(staging, ignore_errors=True)


class _Import:
    """One bundle on its way in."""

    def __init__(self, home: Home, index: Index, verdict: Verdict, staging: Path, on_event: OnEvent) -> None:
        self._home = home
        self._index = index
        self._verdict = verdict
        self._staging = staging
        self._on_event = on_event
        self._files = {file.b3: file for one in verdict.releases for file in one.release.files}
        self._here: dict[str, Path] = {}
        self._staged: dict[str, Path] = {}
        self._releases: list[ImportedRelease] = []
        self._total = 0
        self._written = 0

    # -- proving -------------------------------------------------------------------------------------------------

    def take_in(self, reader: BundleReader) -> None:
        """Read every blob against its manifest; stage those that are not here. Nothing is visible after this."""
        members = reader.index.of(Kind.BLOB)
        self._total = sum(member.size for member in members)
        for member in members:
            self._look_for(self._files[member.key])
        self._require_room([member for member in members if member.key not in self._here])
        with Lanes() as lanes:
            for member in members:
                self._take(reader, member, lanes)
        reader.finish()
        for b3, file in self._files.items():
            if file.inline is not None and b3 not in self._staged:
                self._look_for(file)
                if b3 not in self._here:
                    self._stage_inline(file, file.inline)
        with io_errors(self._staging):
            fsync_folder(self._staging)

    def _look_for(self, file: ReleaseFile) -> None:
        """Note where the whole blob lies, if it does."""
        blob = self._index.blob(file.b3)
        place = None if blob is None else whole_copy(blob)
        path = self._home.blob(file.b3_hex)
        if place is not None:
            self._here[file.b3] = place.path
        elif _is_regular(path) and recheck(path, file, on_event=self._on_event, name=file.path).ok:
            self._here[file.b3] = path  # killed between its rename and its record

    def _require_room(self, missing: Sequence[Member]) -> None:
        needed = sum(member.size for member in missing)
        free = free_bytes(self._home.root)
        if needed and needed + RESERVE > free:
            raise DiskFullError(
                f"not enough room at {self._home.root}", expected=f"{needed + RESERVE:,} bytes free",
                actual=f"{free:,}", next_step="free some space, or set SAMARA_HOME to a larger disk",
            )  # fmt: skip

    def _take(self, reader: BundleReader, member: Member, lanes: Lanes) -> None:
        file = self._files[member.key]
        report = reporting(CheckProgress, file.path, member.size, self._on_event)
        proof = Proof(file, reader.path)
        jobs: list[Callable[[memoryview], object]] = [proof.whole.update, proof.blocks]
        with contextlib.ExitStack() as stack:
            if member.key not in self._here:
                target = stack.enter_context(Staged(self._staging / b3_hex(member.key)))
                jobs.append(target.write)
                self._staged[member.key] = target.path
                self._written += member.size
            done = 0
            stack.callback(lanes.wait)  # whatever happens: nobody writes any more when the file is closed
            for part in reader.stream(member, lanes.buffers()):
                lanes.run(part, jobs)
                done += len(part)
                report(done)
            lanes.finish()
            proof.check()

    def _stage_inline(self, file: ReleaseFile, data: bytes) -> None:
        with Staged(self._staging / file.b3_hex) as target:  # the manifest was read only as these bytes fit it
            target.write(memoryview(data))
        self._staged[file.b3] = target.path

    # -- making it visible ---------------------------------------------------------------------------------------

    def commit(self, source: str, *, now: datetime) -> None:
        """Blobs, then trust, then the index, then names. Everything was proven; a kill anywhere leaves a beginning."""
        self._reach("blobs")
        for b3, staged in self._staged.items():
            self._here[b3] = commit_blob(self._home, b3_hex(b3), staged)
        for b3, path in self._here.items():
            if path == self._home.blob(b3_hex(b3)):
                seal(path)  # a kill may have come before that
        self._reach("trust")
        remember(self._home, self._verdict.publishers, source, now=now)
        self._reach("index")
        for one in self._verdict.releases:
            torrents = {b3: torrent.canonical for b3, torrent in one.verified.torrents.items()}
            self._index.add_release(one.release, one.verified.envelope, torrents, now=now.timestamp())
        for file in self._files.values():
            self._record(file, now.timestamp())
        self._reach("names")
        for one in self._verdict.releases:
            self._show(one)
        self._reach("end")

    def _record(self, file: ReleaseFile, now: float) -> None:
        path = self._here[file.b3]
        if path == self._home.blob(file.b3_hex):
            stamp = stamp_at(path)
            if stamp is None:
                raise StoreError(f"{path} was removed while it was imported", next_step="run it again")
            self._index.set_location(file.b3, path, stamp, in_store=True, verified_at=now)
        else:
            known = self._index.location_at(path)
            if known is None or known[0] != file.b3 or stamp_at(path) != known[1].stamp:
                raise IntegrityError(f"{path} changed while the bundle was imported", next_step="run it again")
        self._end_partial(file)

    def _end_partial(self, file: ReleaseFile) -> None:
        """The blob is here: a pull of it that was interrupted has nothing left to do."""
        partial = Partial(self._home, file.b3_hex)
        if partial.folder.exists():
            with partial.locked(on_wait=lambda: None, give_up=lambda: True) as ours:
                if ours:
                    self._index.end_partial(file.b3)
                    partial.remove()

    def _show(self, one: Judged) -> None:
        """Give the release's files their names under the tags that mean it, and to nothing else."""
        release, alias = one.release, one.verified.pin.alias
        tags = one.tags
        if one.standing is Standing.UNCHECKED and self._is_newest(release):
            tags = (release.tag,)
        found = []
        for file in release.files:
            blob = shown = self._here[file.b3]
            if blob == self._home.blob(file.b3_hex):
                views = [link_view(self._home, blob, Path(alias, release.model, tag, file.path)) for tag in tags]
                shown = views[0] if views else blob
            self._on_event(FileReady(path=file.path, blob=file.b3, location=str(shown)))
            found.append(ImportedFile(path=file.path, blob=file.b3, size=file.size, location=shown))
        self._releases.append(
            ImportedRelease(
                reference=one.reference,
                identity=release.identity,
                manifest=release.digest,
                version=release.version,
                standing=one.standing,
                files=tuple(found),
            )
        )

    def _is_newest(self, release: Release) -> bool:
        """Whether this machine knows no newer release of that name: without a catalog nothing else tells."""
        newest = self._index.release(release.identity, release.model, release.tag)
        return newest is not None and newest.manifest == release.digest

    def _reach(self, point: str) -> None:
        self._on_event(Reached(point=f"import-{point}"))

    def result(self, started: float) -> Imported:
        """What was done."""
        return Imported(
            releases=tuple(self._releases),
            publishers=self._verdict.publishers,
            bytes_total=self._total,
            bytes_written=self._written,
            seconds=time.monotonic() - started,
        )


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
