"""`repair`: find what is wrong in a release's files, or in one file, and replace exactly that.

    read every block → copy the file aside → good blocks from anywhere here → fetch the pieces that are left → prove the
    whole → fdatasync → rename over the old name

The damaged file is never written to (`samara.fetcher.in_place`). Bringing bytes is pull's own machinery, with its
crash order: what a repair that was killed, or found nobody, has brought is there for the next one.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.arrivals import Arrivals
from samara.fetcher.blocks import whole_digest
from samara.fetcher.control import Control
from samara.fetcher.fetching import Fetching
from samara.fetcher.gather import gather
from samara.fetcher.held import Resolved, open_index, resolve_reference
from samara.fetcher.in_place import copy_aside, put_over, require_replaceable
from samara.fetcher.later import LaterIndex
from samara.fetcher.options import PullOptions
from samara.fetcher.partial import Partial, sweep_removed
from samara.fetcher.recheck import CheckedFile, recheck
from samara.fetcher.recording import recorded
from samara.fetcher.session import Session
from samara.fetcher.transfer import Transfer
from samara.registry.durable import write_durably
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import commit_blob, link_view, seal, stamp_at
from samara.registry.trust.known import KnownCatalogs
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.digests import b3_hex, b3_text
from samara.schemas.errors import IntegrityError, NotFoundError, SamaraError, StoreError, UsageError
from samara.schemas.events import Note, OnEvent, SourceRejected, WaitingForOther, Warned, ignore
from samara.schemas.manifest import ReleaseFile
from samara.schemas.references import looks_like_reference, parse_reference
from samara.schemas.stamps import Stamp
from samara.seeder.source_file import open_source

_VIEWS = (
    "views"  # in the partial's folder: names below models/ that the damaged blob has, until the mended one has them
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairedFile:
    """One file that was read, and what was done about it. Bytes: `fetched` over the network, `reused` from here."""

    checked: CheckedFile
    fetched: int = 0
    reused: int = 0

    @property
    def was_wrong(self) -> bool:
        """Whether it had to be mended; it is whole now."""
        return not self.checked.ok


@dataclass(frozen=True, kw_only=True, slots=True)
class Repaired:
    """What a repair did: every file is whole now."""

    files: tuple[RepairedFile, ...]
    rejected: tuple[SourceRejected, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A file that should hold a blob of a release."""

    resolved: Resolved
    file: ReleaseFile
    path: Path
    in_store: bool


def repair(
    home: Home,
    target: str,
    options: PullOptions | None = None,
    *,
    meant: str | None = None,
    on_event: OnEvent = ignore,
) -> Repaired:
    """Make every file of a reference that is here, in the store and in place, or one file at a path, whole again.

    `meant`: the reference of the release whose file the one at the path should be; needed where that isn't recorded.
    Of `options` those that say whom to ask are used, and `adopt`. Raises NotFoundError, NetworkError (nobody has what
    is missing), IntegrityError, TrustError, DiskFullError, StoreError (a folder that can't be written to).
    """
    started = time.monotonic()
    options = options or PullOptions()
    open_index(home, meant or target).close()  # says so where there is none
    sweep_removed(home)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(Session(home, options, on_event=on_event))
        index = stack.enter_context(LaterIndex(home))
        stack.enter_context(recorded(lambda: (meant or target,), index, session, options, on_event))
        files: list[RepairedFile] = []
        rejected: list[SourceRejected] = []
        troubles: list[SamaraError] = []
        for place in _places(home, index.get(), target, meant, on_event):
            mending = _Mending(home, index, place, options, session, on_event, started)
            try:
                files.append(mending.run_one())
            except (StoreError, IntegrityError) as error:  # this file's; another may still be mended
                troubles.append(error)
            rejected += mending.rejected
        for trouble in troubles[1:]:
            on_event(Warned(message=str(trouble)))
        if troubles:
            raise troubles[0]
    return Repaired(
        files=tuple(files), rejected=tuple(dict.fromkeys(rejected)), seconds=time.monotonic() - started
    )  # fmt: skip


# -- what to look at -----------------------------------------------------------------------------------------------


def _places(home: Home, index: Index, target: str, meant: str | None, on_event: OnEvent) -> tuple[_Place, ...]:
    if meant is None and looks_like_reference(target) and not os.path.lexists(target):
        resolved = resolve_reference(home, index, parse_reference(target), on_event=on_event)
        return _of_release(home, index, resolved, on_event)
    path = Path(target).absolute()
    if not path.is_file() or path.stat().st_size:
        open_source(path).close()  # says what is wrong with the path
    if meant is not None:
        resolved = resolve_reference(home, index, parse_reference(meant), on_event=on_event)
        file = _meant(resolved, path)
    else:
        resolved, file = _recorded(home, index, path)
    if path.resolve().is_relative_to(home.root.resolve()):
        return (_Place(resolved=resolved, file=file, path=home.blob(file.b3_hex), in_store=True),)
    return (_Place(resolved=resolved, file=file, path=path, in_store=False),)


def _of_release(home: Home, index: Index, resolved: Resolved, on_event: OnEvent) -> tuple[_Place, ...]:
    found: dict[Path, _Place] = {}
    for file in resolved.release.files:
        blob = index.blob(file.b3)
        here = [(home.blob(file.b3_hex), True)]
        here += [(place.path, False) for place in (() if blob is None else blob.locations) if not place.in_store]
        here = [(path, in_store) for path, in_store in here if stamp_at(path) is not None]
        if not here:
            on_event(Note(message=f"{file.path} is not here"))
        for path, in_store in here:
            found.setdefault(path, _Place(resolved=resolved, file=file, path=path, in_store=in_store))
    if not found:
        raise NotFoundError(
            f"no file of {resolved.reference} is here",
            next_step=f"samara pull {resolved.reference}; for a damaged copy elsewhere:"
            f" samara repair PATH --as {resolved.reference}",
        )
    return tuple(found.values())


def _meant(resolved: Resolved, path: Path) -> ReleaseFile:
    """The file of a release that the one at `path` should be: by its name, its size, or because there is only one."""
    files = resolved.release.files
    size = path.stat().st_size
    for fit in (
        [file for file in files if Path(file.path).name == path.name],
        [file for file in files if file.size == size],
        list(files),
    ):
        if len({file.b3 for file in fit}) == 1:
            return fit[0]
    raise UsageError(
        f"{path} could be several files of {resolved.reference}", next_step="give it the name that it has there"
    )


def _recorded(home: Home, index: Index, path: Path) -> tuple[Resolved, ReleaseFile]:
    """What the file at `path` is recorded as. Never by its size alone: it might be another version, and whole."""
    real = path.resolve()
    known = index.location_at(path) or index.location_at(real)
    candidates = [] if known is None else [known[0]]
    if real.is_relative_to(home.root.resolve()):
        for blob in index.blobs():
            name = b3_hex(blob.b3)
            stored = home.blob(name)
            if blob.is_released and (path.name == name or (stored.exists() and stored.samefile(real))):
                candidates.append(blob.b3)
    refused: SamaraError | None = None
    catalogs = KnownCatalogs(home)
    for b3 in candidates:
        for stored_release in index.releases_of_blob(b3):
            try:
                verified = catalogs.reopen(stored_release)
            except SamaraError as error:  # one publisher's bad release says nothing of another's
                refused = error
                continue
            release = verified.release
            resolved = Resolved(verified=verified, alias=verified.pin.alias, tag=release.tag, says="")
            return resolved, next(file for file in release.files if file.b3 == b3)
    if refused is not None:
        raise refused
    raise NotFoundError(
        f"{path} is not recorded as a file of any release", next_step=f"say which: samara repair {path} --as REF"
    )


# -- mending -------------------------------------------------------------------------------------------------------


class _Mending:
    """One file: looked at, and mended by the means of a pull."""

    def __init__(
        self,
        home: Home,
        index: LaterIndex,
        place: _Place,
        options: PullOptions,
        session: Session,
        on_event: OnEvent,
        started: float,
    ) -> None:
        self._home = home
        self._index = index.get()
        self._place = place
        self._options = options
        self._session = session
        self._on_event = on_event
        self._arrivals = Arrivals(home, index, on_event)
        control = Control(home, (place.resolved.reference,), options, session.bucket, on_event)
        self._fetching = Fetching(home, index, options, session, control, on_event, started=started)

    @property
    def rejected(self) -> tuple[SourceRejected, ...]:
        return tuple(item for transfer in self._fetching.transfers for item in transfer.blame.rejected)

    def run_one(self) -> RepairedFile:
        """Read the file; where something is wrong, mend it."""
        place, file = self._place, self._place.file
        real = place.path.resolve()
        seen = stamp_at(real)
        if seen is None:
            raise NotFoundError(f"{place.path} is gone", next_step=f"samara pull {place.resolved.reference}")
        checked = recheck(real, file, on_event=self._on_event, name=file.path)
        if checked.ok:
            if stamp_at(real) != seen:
                raise IntegrityError(f"{place.path} changed while it was read", next_step="run the same command again")
            if place.in_store:
                seal(real)
            self._arrived(file, place.path)
            self._arrivals.sweep(file)
            return RepairedFile(checked=checked)
        self._on_event(Note(message=f"{place.path}: {what_is_wrong(checked)}"))
        if not place.in_store:
            require_replaceable(real, file.size, self._home.root)
        views = tuple(_views(self._home, real)) if place.in_store else ()
        names = real.stat().st_nlink
        self._mend(real, seen, views)
        others = names - 1 - len(views)
        if others > 0:
            self._on_event(
                Note(message=f"{others} other name{'' if others == 1 else 's'} of the damaged file keep its old bytes")
            )
        fetched = sum(transfer.ledger.downloaded for transfer in self._fetching.transfers)
        reused = sum(transfer.progress.reused for transfer in self._fetching.transfers)
        return RepairedFile(checked=checked, fetched=fetched, reused=reused)

    def _mend(self, real: Path, seen: Stamp, views: tuple[Path, ...]) -> None:
        file = self._place.file
        torrent = self._place.resolved.verified.torrents.get(file.b3)
        partial = Partial(self._home, file.b3_hex, "" if torrent is None else torrent.v2)
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                partial.locked(
                    on_wait=lambda: self._on_event(WaitingForOther(path=file.path)), give_up=lambda: False
                )
            )  # fmt: skip
            if views:
                write_durably(partial.folder / _VIEWS, b"\0".join(map(os.fsencode, views)))
            publish = self._publisher(real, seen)
            if file.inline is not None:
                write_durably(partial.data, file.inline)
                publish(partial.data)
                self._arrived(file, self._place.path)
                self._arrivals.end_partial(file)
                return
            assert torrent is not None
            self._begin(partial, real, torrent)
            transfer = self._fetching.prepare(file, torrent, partial, publish=publish)
            stack.callback(transfer.close)
            self._fetching.require_sources(transfer.progress.pieces_missing, [file])
            self._fetching.run([transfer], on_done=self._mended)

    def _mended(self, transfer: Transfer) -> None:
        assert transfer.location is not None
        self._arrived(transfer.file, transfer.location)
        transfer.close()
        self._arrivals.end_partial(transfer.file)

    def _begin(self, partial: Partial, real: Path, torrent: ParsedTorrent) -> None:
        """Bring into the partial what is good in the damaged file, then blocks from anywhere else here."""
        file = self._place.file
        adopt = self._options.adopt
        if not partial.data.exists():
            copy_aside(real, partial.data, file.size)
        elif self._place.in_store:
            partial.tell_news()  # another transfer's: let it look at this file, and at all others
        else:
            adopt = (*adopt, real)
        self._index.doubt_location(self._place.path)
        gather(
            self._home, partial, file, torrent, index=lambda: self._index, adopt=adopt, on_event=self._on_event
        )  # fmt: skip
        manifest = self._place.resolved.release.digest
        self._index.start_partial(file.b3, manifest, now=time.time())

    def _publisher(self, real: Path, seen: Stamp) -> Callable[[Path], Path]:
        """How the mended bytes get the damaged file's name."""
        place = self._place

        def into_store(data: Path) -> Path:
            return commit_blob(self._home, place.file.b3_hex, data)

        def in_place(data: Path) -> Path:
            put_over(data, real, seen, is_whole=lambda fd: b3_text(whole_digest(fd)) == place.file.b3)
            return place.path

        return into_store if place.in_store else in_place

    def _arrived(self, file: ReleaseFile, path: Path) -> None:
        # a kill after the rename left them with the damaged file: noted before it, they are found here again
        for view in _noted_views(Partial(self._home, file.b3_hex)):
            link_view(self._home, path, view)
        stamp = stamp_at(path)
        assert stamp is not None
        self._index.set_location(file.b3, path, stamp, in_store=self._place.in_store, verified_at=time.time())


def what_is_wrong(checked: CheckedFile) -> str:
    """What a check found, in a few words."""
    actual = checked.location.stat().st_size
    if checked.bad:
        said = f"{len(checked.bad)} of {checked.blocks} blocks are wrong"
    else:
        said = "each block is right, the whole is not"
    return said if actual == checked.size else f"{said}; {actual:,} bytes instead of {checked.size:,}"


def _noted_views(partial: Partial) -> tuple[Path, ...]:
    try:
        names = (partial.folder / _VIEWS).read_bytes().split(b"\0")
    except FileNotFoundError:
        return ()
    return tuple(Path(os.fsdecode(name)) for name in names)


def _views(home: Home, blob: Path) -> Iterator[Path]:
    """The other names of a blob's file below models/, relative to that. Links to its name need nothing."""
    wanted = blob.stat()
    for base, _folders, names in os.walk(home.models):
        for name in names:
            with contextlib.suppress(OSError):
                found = Path(base, name).lstat()
                if stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    yield Path(base, name).relative_to(home.models)
