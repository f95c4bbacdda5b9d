"""`adopt`: look once at files that lie here for other reasons, and remember what they hold. Modifies none of them.

Other programs' caches, half downloads and older versions are full of blocks that a later pull needs. Each file is read
once and recorded where it lies: as a location of a blob that a release names, if it is one (then it is seeded, and
never fetched), else as a blob of no release with its blocks. What is recorded are hints: a pull proves every block that
it copies, so a file may change or go away at any time.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from samara.fetcher.gather import SMALLEST
from samara.fetcher.partial import Partial
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.progress import reporting
from samara.schemas.digests import b3_hex, b3_text, sha256_text
from samara.schemas.errors import IntegrityError, MalformedError, NotFoundError, UsageError, cannot_read
from samara.schemas.events import HashProgress, OnEvent, ignore
from samara.schemas.layouts import Layout, gguf_blocks
from samara.schemas.manifest import blocks_of
from samara.schemas.stamps import Stamp
from samara.seeder.gguf_facts import describe, read_gguf
from samara.seeder.hashing import FileHashes, hash_file
from samara.seeder.source_file import open_source

_WHOLE = 1 << 50  # bytes: what the file that a half download will become is at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file or folder that was not read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One file and the blob in it. `is_known`: a release known here names it; `is_new`: it was read just now."""

    path: Path
    blob: str
    size: int
    is_known: bool
    is_new: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """What an adoption found. `small`: files below 64 KiB, which were passed over; `seconds` it took."""

    found: tuple[Found, ...]
    skipped: tuple[Skipped, ...]
    small: int
    seconds: float

    @property
    def size(self) -> int:
        """Bytes of all files found."""
        return sum(found.size for found in self.found)


def adopt(home: Home, paths: Sequence[Path], *, on_event: OnEvent = ignore) -> Adopted:
    """Look at these files and at all files below these folders, and record what they hold.

    What was recorded stays recorded whatever ends it. A file whose stamp is as recorded is not read again. Raises
    NotFoundError for a path where there is nothing, StoreError or DiskFullError for an index that can't be written; a
    file that can't be read, or changes meanwhile, is only skipped.
    """
    started = time.monotonic()
    scan = _Scan(home)
    for path in paths:
        if not os.path.lexists(path):
            raise NotFoundError(f"{path} doesn't exist", next_step="check the path")
    files = sorted(file for path in paths for file in scan.below(path))
    found: list[Found] = []
    with Index.open(home) as index:
        for file, stamp in files:
            try:
                found.append(_look_at(index, file, stamp, on_event))
            except (NotFoundError, UsageError, IntegrityError) as error:  # the file's fault; the index raises others
                scan.skip(file, str(error))
        if any(one.is_new for one in found):
            for blob in index.partials():  # transfers that began before look once more
                Partial(home, b3_hex(blob)).tell_news()
    return Adopted(
        found=tuple(found), skipped=tuple(scan.skipped), small=scan.small, seconds=time.monotonic() - started
    )


def forget(home: Home, paths: Sequence[Path]) -> tuple[Path, ...]:
    """Forget what is recorded of these files and of files below these folders; the paths that were forgotten.

    The files need not exist any more. Copies in the store are never forgotten by this. Raises StoreError.
    """
    index = Index.open_existing(home)
    if index is None:
        return ()
    with index:
        asked = dict.fromkeys(name for path in paths for name in (path.absolute(), path.resolve()))
        found = dict.fromkeys(place for path in asked for place in index.places_below(path))
        for place in found:
            index.drop_location(place)
    return tuple(found)


class _Scan:
    """A walk over what people pointed to: each file once, whatever names and links lead to it."""

    def __init__(self, home: Home) -> None:
        self.skipped: list[Skipped] = []
        self.small = 0
        self._store = home.root.resolve()
        self._seen: set[tuple[int, int]] = set()

    def below(self, path: Path) -> Iterator[tuple[Path, Stamp]]:
        """The file at `path`, or the files below the folder there. Links to files are followed, to folders not."""
        if not path.is_dir():
            yield from self._file(path)
            return
        for base, folders, names in os.walk(path.resolve(), onerror=self._missed):
            if self._is_ours(Path(base)):
                folders.clear()
                self.skip(Path(base), "the store itself")
                continue
            folders.sort()
            for name in sorted(names):
                yield from self._file(Path(base, name))

    def skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(path=path, reason=reason))

    def _file(self, path: Path) -> Iterator[tuple[Path, Stamp]]:
        try:
            real = path.resolve(strict=True)
            found = real.stat()
        except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
            self.skip(path, str(cannot_read(path, error)) if isinstance(error, OSError) else "a circle of links")
            return
        if not stat.S_ISREG(found.st_mode):
            if not stat.S_ISDIR(found.st_mode):
                self.skip(path, "not a regular file")
        elif self._is_ours(real):
            self.skip(path, "lies in the store")
        elif found.st_size < SMALLEST:
            self.small += 1
        elif (found.st_dev, found.st_ino) not in self._seen:
            self._seen.add((found.st_dev, found.st_ino))
            yield real, Stamp.of(found)

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self._store)

    def _missed(self, error: OSError) -> None:
        path = Path(error.filename)
        self.skip(path, str(cannot_read(path, error)))


def _look_at(index: Index, path: Path, stamp: Stamp, on_event: OnEvent) -> Found:
    """Read one file, unless it is as it was recorded, and record what it holds."""
    recorded = index.location_at(path)
    if recorded is not None and recorded[1].stamp == stamp:
        blob = index.blob(recorded[0])
        assert blob is not None
        return Found(path=path, blob=blob.b3, size=stamp.size, is_known=blob.is_released, is_new=False)
    layout, hashes = _read(path, on_event)
    b3 = b3_text(hashes.b3)
    index.add_found_blob(b3, sha256_text(hashes.sha256), hashes.size, layout, blocks_of(list(hashes.blocks)))
    index.set_location(b3, path, hashes.stamp, in_store=False, verified_at=time.time())
    blob = index.blob(b3)
    return Found(path=path, blob=b3, size=hashes.size, is_known=blob is not None and blob.is_released, is_new=True)


def _read(path: Path, on_event: OnEvent) -> tuple[str, FileHashes]:
    with open_source(path) as opened:
        size = os.fstat(opened.fileno()).st_size
        try:
            layout, cuts = _cuts(cast(BinaryIO, opened), size)
        except OSError as error:
            raise cannot_read(path, error) from None
        report = reporting(HashProgress, path.name, size, on_event)
        return layout, hash_file(path, cuts, fd=opened.fileno(), on_progress=report)


def _cuts(file: BinaryIO, size: int) -> tuple[str, tuple[int, ...]]:
    """Layout and block sizes. A GGUF that ends early is cut as the whole one would be, as far as it goes."""
    shape = describe(file, size)
    if shape.warning is None:
        return shape.layout, shape.block_sizes
    try:
        header, _facts = read_gguf(file, _WHOLE)
    except MalformedError:
        return shape.layout, shape.block_sizes
    end = max((tensor.end for tensor in header.tensors), default=0)
    if end <= size or header.data_at > size:
        return shape.layout, shape.block_sizes
    blocks = blocks_of([(cut, b"") for cut in gguf_blocks(header, end)])
    return Layout.GGUF, tuple(min(block.end, size) - block.offset for block in blocks if block.offset < size)
