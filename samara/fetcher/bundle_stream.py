"""Reading a bundle from front to end, once, in constant memory. Proves nothing but the format; writes nothing.

The reader knows from `samara-bundle.json` what every later byte but the members' contents must be, and compares. So it
needs no tar parser, and there is nothing in a header that could ask for memory or for a name. zstd is bounded by its
window and by asking for exactly what is expected next.

Legal order: `document` or `stream` once for each member of `index`, in order, then `finish`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from io import FileIO
from pathlib import Path
from typing import IO, Self, cast

import zstandard

from samara.schemas.bundle import (
    MAX_WINDOW,
    TAR_BLOCK,
    TAR_END,
    BundleIndex,
    Member,
    index_size,
    tar_header,
    tar_padding,
    unpack_index,
)
from samara.schemas.errors import MalformedError, NotFoundError, UsageError, cannot_read
from samara.schemas.release_file import ZSTD_MAGIC
from samara.seeder.source_file import open_source

_READ = 256 << 10  # compressed bytes taken from the disk at once


class BundleReader:
    """One bundle, open. Use as a context manager. `index`: its list of members.

    Raises NotFoundError or UsageError for what can't be read, MalformedError for what isn't exactly a bundle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_source(path)
        try:
            self._check_magic()
            self._source = _Source(self._file)
            self._zstd = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
                cast("IO[bytes]", self._source), read_size=_READ
            )
            size = index_size(self._take(TAR_BLOCK))
            self.index: BundleIndex = unpack_index(self._take(size))
            self._expect(bytes(tar_padding(size)), "the bytes that fill up its list")
        except BaseException:
            self._file.close()
            raise
        self._coming = iter(self.index.members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def document(self, member: Member) -> bytes:
        """The content of the next member, a small one."""
        return bytes(b"".join(self.stream(member, iter([memoryview(bytearray(member.size))]))))

    def stream(self, member: Member, buffers: Iterator[memoryview]) -> Iterator[memoryview]:
        """The content of the next member, in order, each part in the next buffer that `buffers` gives."""
        if next(self._coming, None) != member:
            raise RuntimeError(f"{member.name} does not come next")
        self._expect(tar_header(member.name, member.size), f"the header of {member.name}")
        left = member.size
        while left:
            part = next(buffers)[:left]
            self._fill(part)
            left -= len(part)
            yield part
        self._expect(bytes(tar_padding(member.size)), f"the bytes that fill up {member.name}")

    def finish(self) -> None:
        """Hold what follows the last member against the format: two empty blocks, then nothing at all."""
        if next(self._coming, None) is not None:
            raise RuntimeError("there are members left")
        self._expect(TAR_END, "its end")
        frame = self._source.frame
        if self._read(memoryview(bytearray(1))) or frame.goes_on or (frame.ended and self._file.read(1)):
            raise MalformedError(f"{self.path} goes on after its end", next_step="get it again")
        if not frame.ended:
            raise self._ends_early()

    def _check_magic(self) -> None:
        if self._file.read(len(ZSTD_MAGIC)) != ZSTD_MAGIC:
            raise MalformedError(f"{self.path} is not a bundle", expected="zstd data", next_step="check the name")
        self._file.seek(0)

    def _take(self, size: int) -> bytes:
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def _expect(self, wanted: bytes, what: str) -> None:
        if self._take(len(wanted)) != wanted:
            raise MalformedError(
                f"{self.path} has something else where {what} should be",
                expected="a file made by samara bundle export",
                next_step="get it again",
            )

    def _fill(self, view: memoryview) -> None:
        at = 0
        while at < len(view):
            got = self._read(view[at:])
            if got == 0:
                raise self._ends_early()
            at += got

    def _read(self, view: memoryview) -> int:
        try:
            return int(self._zstd.readinto(view))
        except zstandard.ZstdError as error:
            if self._source.frame.goes_on:  # zstd took it for another frame
                return 0
            raise MalformedError(f"{self.path} is damaged ({error})", next_step="get it again") from None
        except OSError as error:
            raise cannot_read(self.path, error) from None

    def _ends_early(self) -> MalformedError:
        return MalformedError(f"{self.path} ends early", next_step="get it again")


def is_bundle(path: Path) -> bool:
    """Whether the file at `path` begins as a bundle does. Raises UsageError if it can't be read."""
    try:
        with BundleReader(path):
            return True
    except (MalformedError, NotFoundError):
        return False
    except UsageError:
        if path.is_file() and path.stat().st_size == 0:
            return False
        raise


class _Source:
    """The file for zstd's reader, which tells nobody how much of its input it used."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.frame = _Frame()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.frame.feed(data)
        return data


class _Frame:
    """Where a zstd frame ends, by the lengths of its blocks as they come past. Decodes nothing."""

    def __init__(self) -> None:
        self._steps = _steps()
        self._skip, self._want = next(self._steps)
        self._seen = b""
        self.ended = False
        self.goes_on = False  # something came after the end

    def feed(self, data: bytes) -> None:
        """The next bytes of the file."""
        at = 0
        while at < len(data) and not self.ended:
            skipped = min(self._skip, len(data) - at)
            self._skip -= skipped
            at += skipped
            if self._skip == 0:
                part = data[at : at + self._want - len(self._seen)]
                self._seen += part
                at += len(part)
                self._step()
        self.goes_on = self.goes_on or at < len(data)

    def _step(self) -> None:
        while not self.ended and self._skip == 0 and len(self._seen) == self._want:
            try:
                self._skip, self._want = self._steps.send(self._seen)
            except StopIteration:
                self.ended = True
            self._seen = b""


def _steps() -> Generator[tuple[int, int], bytes, None]:
    """(bytes to pass over, bytes to look at then), over and over until the end of a zstd frame (RFC 8878 §3.1.1)."""
    (descriptor,) = yield len(ZSTD_MAGIC), 1
    is_single_segment = bool(descriptor & 0x20)
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    content_size = (1 if is_single_segment else 0, 2, 4, 8)[descriptor >> 6]
    checksum = 4 if descriptor & 4 else 0
    skip, last = (0 if is_single_segment else 1) + dictionary + content_size, False
    while not last:
        header = int.from_bytes((yield skip, 3), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        skip = 1 if kind == 1 else size  # a run of one byte has only that byte
    yield skip + checksum, 0
