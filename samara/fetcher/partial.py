"""One blob on its way: the folder partial/<b3>/ with `data`, `record` and `lock`, and what may be claimed of it.

The record says which pieces are durable and which blocks were proven; it is written only after fdatasync of the bytes
it claims, aside and renamed, and carries its own digest. Everything it doesn't claim is found again after a kill by
looking at which parts of the file hold data and hashing those pieces. So losing the record costs a check, never bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from samara.fetcher.blocks import cores
from samara.registry.durable import TEMPORARY_PREFIX, fsync_folder, io_errors, make_folder, write_durably
from samara.registry.home import Home
from samara.registry.positioned import extents, read_into
from samara.schemas.bittorrent import LEAF, TorrentHashes, piece_count
from samara.schemas.digests import b3
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, StoreError
from samara.schemas.ranges import Bitmap

if TYPE_CHECKING:
    from filelock import BaseFileLock

FORMAT = "samara-partial-1"
LOCK_LOOK = 0.2  # seconds between looks at whether a lock is still needed
_MAX_RECORD = 1 << 20
_CHUNK = 1 << 20  # bytes hashed at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a record says of the data beside it: durable pieces, and blocks whose BLAKE3 was checked."""

    pieces: Bitmap
    blocks: Bitmap


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovered:
    """What a partial really holds. `checked` bytes had to be hashed because no record claimed them.

    `begun`: of pieces that are there in part, which leaves (16 KiB) have data. Nothing proves those: whoever uses them
    must be ready for wrong ones.
    """

    pieces: Bitmap
    blocks: Bitmap
    checked: int
    begun: Mapping[int, Sequence[bool]] = field(default_factory=dict)


class Partial:
    """The folder of one transfer. Names its files; every method is safe to call after a kill at any point.

    `torrent` is the v2 infohash by which the bytes come: what was recorded of the pieces of another torrent, by a
    manifest that lied about this blob, says nothing here.
    """

    def __init__(self, home: Home, b3_hex: str, torrent: str = "") -> None:
        self.folder = home.partials / b3_hex
        self.data = self.folder / "data"
        self.blob = "b3:" + b3_hex
        self._torrent = torrent
        self._record = self.folder / "record"
        self._lock = self.folder / "lock"
        self._news = self.folder / "news"

    @contextlib.contextmanager
    def locked(self, *, on_wait: Callable[[], None], give_up: Callable[[], bool]) -> Iterator[bool]:
        """Hold the transfer's lock. Yields False, without it, as soon as `give_up` says it isn't needed any more.

        The lock dies with its process. `on_wait` is called once if another process holds it.
        """
        from filelock import FileLock

        waited = False
        while True:
            self._make()
            lock = FileLock(self._lock, timeout=LOCK_LOOK)
            with io_errors(self._lock):
                acquired = _acquire(lock)
            if not acquired:
                if not waited:
                    on_wait()
                    waited = True
                if give_up():
                    yield False
                    return
                continue
            if self._lock.exists():  # else the holder before us finished and removed the folder: take the new one
                break
            lock.release()
        try:
            yield True
        finally:
            lock.release()

    def _make(self) -> None:
        make_folder(self.folder.parent)
        with io_errors(self.folder), contextlib.suppress(FileExistsError):  # it may come and go with another's transfer
            if self.folder.is_symlink():
                self.folder.unlink()
            self.folder.mkdir()
            fsync_folder(self.folder.parent)

    def load(self, *, pieces: int, blocks: int) -> Claims | None:
        """The record's claims; None where there is no record, or a damaged or foreign one."""
        try:
            with self._record.open("rb") as file:
                return _parse(file.read(_MAX_RECORD + 1), self.blob, self._torrent, pieces, blocks)
        except (OSError, MalformedError):
            return None

    def save(self, claims: Claims) -> None:
        """Write the record durably. Call it only when the claimed bytes are durable."""
        body: dict[str, object] = {
            "format": FORMAT,
            "blob": self.blob,
            "torrent": self._torrent,
            "pieces": base64.b64encode(claims.pieces.to_bytes()).decode(),
            "blocks": base64.b64encode(claims.blocks.to_bytes()).decode(),
        }
        write_durably(self._record, canonical_json({**body, "check": b3(canonical_json(body))}))

    def tidy(self, size: int) -> None:
        """Remove what isn't ours to write into, such as a link or a pipe, and what lies beyond the blob's end."""
        with io_errors(self.folder):
            for path in (self.data, self._record):
                with contextlib.suppress(FileNotFoundError):
                    found = path.lstat()
                    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                        shutil.rmtree(path) if stat.S_ISDIR(found.st_mode) else path.unlink()
                    elif path == self.data and found.st_size > size:
                        os.truncate(path, size)

    def open_data(self) -> int:
        """A descriptor of `data`, made if needed, to read and write. Never follows a link."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        with io_errors(self.data):
            return os.open(self.data, flags, 0o644)

    def forget(self) -> None:
        """Nothing of what was fetched can be used: the next pull starts from zero. Open descriptors stay usable."""
        with io_errors(self.folder):
            self._record.unlink(missing_ok=True)
            self.data.unlink(missing_ok=True)

    def tell_news(self) -> None:
        """Files were adopted since this transfer began: it looks once more. Nothing if it has ended."""
        with io_errors(self._news), contextlib.suppress(FileNotFoundError):
            self._news.touch()

    def has_news(self) -> bool:
        """Whether files were adopted since this transfer looked for what is here."""
        return self._news.exists()

    def forget_news(self) -> None:
        """It has looked. Only for whoever holds the lock."""
        with io_errors(self._news):
            self._news.unlink(missing_ok=True)

    def allocated(self) -> int:
        """Bytes of disk that `data` already takes."""
        try:
            found = self.data.stat()
        except OSError:
            return 0
        return getattr(found, "st_blocks", found.st_size // 512) * 512

    def remove(self) -> None:
        """Delete the folder: the blob is committed, or the transfer is not wanted any more."""
        # aside first: whoever waits for the lock must find no folder, never one that is being emptied under its hands
        aside = self.folder.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
        with io_errors(self.folder):
            try:
                self.folder.rename(aside)
            except FileNotFoundError:
                return
            except PermissionError:  # Windows moves no folder in which a file is open, such as our lock
                aside = self.folder
            shutil.rmtree(aside, ignore_errors=True)
            fsync_folder(self.folder.parent)


def sweep_removed(home: Home) -> None:
    """Finish what a process was killed in the middle of: removing a partial."""
    for aside in home.partials.glob(TEMPORARY_PREFIX + "*"):
        shutil.rmtree(aside, ignore_errors=True)


def recover(partial: Partial, hashes: TorrentHashes, blocks: int) -> Recovered:
    """What of the blob is in `partial` and provably right: claimed pieces, and unclaimed ones that pass BEP 3's SHA-1.

    A claim is dropped where the file has no data (a shorter file, a hole): libtorrent would believe it blindly.
    """
    partial.tidy(hashes.size)
    count = piece_count(hashes.size, hashes.piece_length)
    nothing = Recovered(pieces=Bitmap.empty(count), blocks=Bitmap.empty(blocks), checked=0)
    try:
        fd = os.open(partial.data, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return nothing
    except OSError as error:
        raise StoreError(f"can't read {partial.data} ({error.strerror})", next_step="check its permissions") from None
    try:
        with io_errors(partial.data):
            present, begun = _pieces_with_data(fd, hashes)
            claims = partial.load(pieces=count, blocks=blocks)
            claimed = present & claims.pieces if claims is not None else Bitmap.empty(count)
            doubtful = present - claimed
            proven = _check_pieces(fd, hashes, doubtful)
    finally:
        os.close(fd)
    kept = claims.blocks if claims is not None and claimed == claims.pieces else Bitmap.empty(blocks)
    return Recovered(
        pieces=claimed | proven, blocks=kept, checked=len(doubtful) * hashes.piece_length, begun=begun
    )  # fmt: skip


def _acquire(lock: BaseFileLock) -> bool:
    from filelock import Timeout  # an OSError, so it must not get out among them

    try:
        lock.acquire()
    except (Timeout, FileNotFoundError, FileExistsError):  # the latter two: the holder removed the folder just now
        return False
    return True


def _parse(data: bytes, blob: str, torrent: str, pieces: int, blocks: int) -> Claims:
    value = strict_json(data, "resume record")
    if not isinstance(value, dict):
        raise MalformedError("resume record is not an object")
    check = value.pop("check", None)
    about = (value.get("format"), value.get("blob"), value.get("torrent"))
    if about != (FORMAT, blob, torrent) or check != b3(canonical_json(value)):
        raise MalformedError("resume record is damaged, another blob's or another torrent's")
    try:
        return Claims(
            pieces=Bitmap.from_bytes(base64.b64decode(value["pieces"], validate=True), pieces),
            blocks=Bitmap.from_bytes(base64.b64decode(value["blocks"], validate=True), blocks),
        )
    except (KeyError, TypeError, ValueError):
        raise MalformedError("resume record is damaged") from None


def _pieces_with_data(fd: int, hashes: TorrentHashes) -> tuple[Bitmap, dict[int, list[bool]]]:
    """The pieces without a hole, and of those that have one the leaves without."""
    count, length = piece_count(hashes.size, hashes.piece_length), hashes.piece_length
    found: list[int] = []
    begun: dict[int, list[bool]] = {}
    for start, end in extents(fd):
        first = -(-start // length)
        last = count if end >= hashes.size else end // length
        found.extend(range(first, last))
        for piece in {start // length, min(end, hashes.size - 1) // length} - set(range(first, last)):
            leaves = begun.setdefault(piece, [False] * -(-min(length, hashes.size - piece * length) // LEAF))
            for leaf in range(len(leaves)):
                at = piece * length + leaf * LEAF
                leaves[leaf] |= start <= at and min(at + LEAF, hashes.size) <= end
    return Bitmap.of(count, found), {piece: leaves for piece, leaves in begun.items() if any(leaves)}


def _check_pieces(fd: int, hashes: TorrentHashes, doubtful: Bitmap) -> Bitmap:
    count = piece_count(hashes.size, hashes.piece_length)
    stop = threading.Event()
    buffers = threading.local()  # a new one for each piece would cost more than the hashing

    def right(piece: int) -> bool:
        if stop.is_set():
            return False
        offset = piece * hashes.piece_length
        length = min(hashes.piece_length, hashes.size - offset)
        if not hasattr(buffers, "buffer"):
            buffers.buffer = bytearray(min(_CHUNK, hashes.piece_length))
        view, hasher, done = memoryview(buffers.buffer), hashlib.sha1(usedforsecurity=False), 0
        while done < length:
            got = read_into(fd, view[: length - done], offset + done)
            if got == 0:
                return False
            hasher.update(view[:got])
            done += got
        return hasher.digest() == hashes.v1_pieces[20 * piece : 20 * piece + 20]

    pieces = list(doubtful)
    with ThreadPoolExecutor(max_workers=cores(), thread_name_prefix="resume") as pool:
        try:
            return Bitmap.of(count, [p for p, ok in zip(pieces, pool.map(right, pieces), strict=True) if ok])
        except BaseException:
            stop.set()  # Ctrl-C need not wait for gigabytes of hashing
            raise
