"""Before a transfer asks anybody: bring what is here already into its partial, and record it.

Looks once, when a partial has no record yet, and again whenever files to adopt are named or were adopted since. Crash
order as everywhere: copied bytes → fdatasync → record. Killed before the record, the next run finds the copies by
hashing pieces.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from samara.fetcher.blocks import BlockChecker
from samara.fetcher.partial import Claims, Partial, Recovered, recover
from samara.fetcher.reuse import (
    Place,
    candidates_at_same_offset,
    candidates_in_index,
    copy_blocks,
    copy_remains,
    gaps,
    inside,
    plan_copies,
)
from samara.registry.durable import io_errors, sync_data
from samara.registry.home import Home
from samara.registry.positioned import extents, read_at
from samara.registry.progress import reporting
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.digests import b3_hex
from samara.schemas.errors import NotFoundError, SamaraError
from samara.schemas.events import OnEvent, ReuseProgress, Warned
from samara.schemas.gguf_constants import MAGIC
from samara.schemas.manifest import Block, ReleaseFile, blocks_of
from samara.schemas.ranges import PieceMap
from samara.seeder.gguf_facts import describe
from samara.seeder.source_file import open_source

if TYPE_CHECKING:
    from samara.registry.index import Index

SMALLEST = 64 << 10  # bytes: files below that are quicker fetched than searched
SAMPLES = 4  # blocks looked at before a file is taken for a half download of the same bytes

OpenIndex = Callable[[], "Index | None"]
MayUse = Callable[[str | None, Path], bool]


def anything(_b3: str | None, _path: Path) -> bool:
    """Every file here may be copied from: what is gathered is for this machine's own."""
    return True


def gather(
    home: Home,
    partial: Partial,
    file: ReleaseFile,
    torrent: ParsedTorrent,
    *,
    index: OpenIndex,
    adopt: Sequence[Path] = (),
    may_use: MayUse = anything,
    on_event: OnEvent,
) -> None:
    """Copy every block of `file` that lies anywhere here into `partial`, and record what is proven.

    Only for whoever holds the partial's lock. `adopt`: files and folders of others, which are only read. `may_use`:
    whether blocks may be taken from a file of the index, or another transfer (of the blob b3), at a path: whoever gives
    what is gathered to strangers says so. Raises DiskFullError or StoreError; what was copied until then is kept.
    """
    if (
        partial.load(pieces=file.piece_count, blocks=len(file.blocks)) is not None
        and not adopt
        and not partial.has_news()
    ):
        return
    _bring(home, partial, file, torrent, index, adopt, may_use, on_event)
    partial.forget_news()


def _bring(
    home: Home,
    partial: Partial,
    file: ReleaseFile,
    torrent: ParsedTorrent,
    index: OpenIndex,
    adopt: Sequence[Path],
    may_use: MayUse,
    on_event: OnEvent,
) -> None:
    found = recover(partial, torrent.hashes, len(file.blocks))
    piece_map = PieceMap([block.size for block in file.blocks], torrent.hashes.piece_length)
    here = found.blocks | piece_map.blocks_covered(found.pieces)
    missing = [file.blocks[number] for number in here.missing()]
    if not missing:
        return
    holding = {number for piece in found.pieces for number in piece_map.blocks_touching(piece)}
    adopted = list(files_in(adopt, home))
    same: list[Path] = []
    places = _places(_where_known(home, file, missing, index, adopted, same, may_use, on_event))
    with contextlib.ExitStack() as stack:
        copies = _Copies(partial, file, holding, stack, on_event)
        copies.copy(missing, places)
        lacking = [block for block in missing if block.index not in copies.proven]
        if lacking:  # only now: what was copied from its own place need not be looked for in the same file
            copies.copy(lacking, _places(_by_layouts(adopted, lacking, copies.read, on_event)))
        lacking = [block for block in lacking if block.index not in copies.proven]
        for path in same:
            copy_remains(path, gaps(lacking, found.pieces, torrent.hashes.piece_length), copies.target)
        if copies.is_nothing:
            return
        with io_errors(partial.data):
            sync_data(copies.target)
    partial.save(_claims(found, copies.proven, piece_map))


class _Copies:
    """What is copied into one partial, whose data is made and opened when the first block comes."""

    def __init__(
        self,
        partial: Partial,
        file: ReleaseFile,
        holding: Container[int],
        stack: contextlib.ExitStack,
        on_event: OnEvent,
    ) -> None:
        self.proven: set[int] = set()
        self.read: set[tuple[Path, int, int]] = set()  # (path, offset, size) of what is known of files
        self._partial = partial
        self._file = file
        self._holding = holding
        self._stack = stack
        self._on_event = on_event
        self._fd: int | None = None

    @property
    def target(self) -> int:
        """The descriptor of the data."""
        if self._fd is None:
            self._fd = self._partial.open_data()
            self._stack.callback(os.close, self._fd)
        return self._fd

    @property
    def is_nothing(self) -> bool:
        """Whether the data was never needed."""
        return self._fd is None

    def copy(self, blocks: Sequence[Block], places: Mapping[bytes, Sequence[Place]]) -> None:
        """Those of `blocks` for which there is a place."""
        copies = plan_copies(blocks, places)
        if copies:
            report = reporting(
                ReuseProgress, self._file.path, sum(copy.block.size for copy in copies), self._on_event
            )  # fmt: skip
            came = copy_blocks(copies, self.target, holding=self._holding, on_progress=report)
            self.proven.update(came)
            self.read.update((place.path, place.offset, place.size) for place in came.values())


def files_in(paths: Iterable[Path], home: Home) -> Iterator[Path]:
    """The regular files at these paths and below folders among them, largest first; nothing of our own store.

    Raises NotFoundError for a path where there is nothing.
    """
    found: dict[tuple[int, int], tuple[int, Path]] = {}
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path} doesn't exist", next_step="check the path")
        for file in [path] if path.is_file() else path.rglob("*"):
            try:
                stat = file.stat()
                ours = file.resolve().is_relative_to(home.root.resolve())
            except OSError:
                continue
            if file.is_file() and stat.st_size >= SMALLEST and not ours:
                found.setdefault((stat.st_dev, stat.st_ino), (stat.st_size, file))
    yield from (path for _, path in sorted(found.values(), key=lambda item: -item[0]))


def _places(found: Iterable[Mapping[bytes, Sequence[Place]]]) -> dict[bytes, list[Place]]:
    places: dict[bytes, list[Place]] = {}
    for some in found:
        for digest, there in some.items():
            places.setdefault(digest, []).extend(there)
    return places


def _where_known(
    home: Home,
    file: ReleaseFile,
    missing: Sequence[Block],
    index: OpenIndex,
    adopted: Sequence[Path],
    same: list[Path],
    may_use: MayUse,
    on_event: OnEvent,
) -> Iterator[dict[bytes, list[Place]]]:
    """Places that need no reading: of the index, of other transfers, and of half downloads, which go to `same`."""
    opened = index()
    if opened is not None:
        yield _allowed(candidates_in_index(opened, missing), may_use)
        yield from _in_partials(home, file, opened, may_use)
    for path in adopted:
        with _warning(path, on_event):
            found = _same_file(path, missing)
            if found:
                same.append(path)
            yield found


def _by_layouts(
    adopted: Sequence[Path], lacking: Sequence[Block], known: Container[tuple[Path, int, int]], on_event: OnEvent
) -> Iterator[dict[bytes, list[Place]]]:
    wanted = {block.digest for block in lacking}
    for path in adopted:
        with _warning(path, on_event):
            yield _by_layout(path, wanted, known)


@contextlib.contextmanager
def _warning(path: Path, on_event: OnEvent) -> Iterator[None]:
    """Whatever is wrong with a file of others is told, and no reason to stop."""
    try:
        yield
    except (OSError, SamaraError) as error:
        on_event(Warned(message=f"can't look for blocks in {path}: {error}"))


def _allowed(found: dict[bytes, list[Place]], may_use: MayUse) -> dict[bytes, list[Place]]:
    paths = {place.path for places in found.values() for place in places}
    good = {path for path in paths if may_use(None, path)}
    return {digest: [place for place in places if place.path in good] for digest, places in found.items()}


def _in_partials(
    home: Home, file: ReleaseFile, index: Index, may_use: MayUse
) -> Iterator[dict[bytes, list[Place]]]:  # fmt: skip
    """Blocks of other blobs' transfers: what is not there yet, or not right, fails its check."""
    for blob in index.partials():
        data = Partial(home, b3_hex(blob)).data
        if blob != file.b3 and data.is_file() and may_use(blob, data):
            yield candidates_at_same_offset(data, index.blocks(blob))


def _same_file(path: Path, missing: Sequence[Block]) -> dict[bytes, list[Place]]:
    """Of a half download of the very file. A few blocks are looked at first: most files are something else."""
    found = candidates_at_same_offset(path, missing)
    there = [block for block in missing if block.digest in found]
    step = max(1, len(there) // SAMPLES)
    with path.open("rb", buffering=0) as opened:
        for block in there[::step][: SAMPLES + 1]:
            if blake3(read_at(opened.fileno(), block.size, block.offset)).digest() == block.digest:
                return found
    return {}


def _by_layout(
    path: Path, wanted: Container[bytes], known: Container[tuple[Path, int, int]]
) -> dict[bytes, list[Place]]:
    """Of another version of a GGUF file: cut as its own header says, each block by its digest, wherever it lies.

    `known`: (path, offset, size) of what need not be looked at.
    """
    found: dict[bytes, list[Place]] = {}
    with open_source(path) as opened:
        fd = opened.fileno()
        if read_at(fd, len(MAGIC), 0) != MAGIC:
            return found
        cut = blocks_of([(length, b"") for length in describe(opened, os.fstat(fd).st_size).block_sizes])
        there = [block for block in inside(cut, list(extents(fd))) if (path, block.offset, block.size) not in known]
        with BlockChecker(fd) as checker:
            for block, digest in zip(there, checker.digests(there), strict=True):
                if digest is not None and digest in wanted:
                    found.setdefault(digest, []).append(Place(path=path, offset=block.offset, size=block.size))
    return found


def _claims(found: Recovered, proven: Iterable[int], piece_map: PieceMap) -> Claims:
    blocks = found.blocks.with_bits(proven)
    covered = blocks | piece_map.blocks_covered(found.pieces)
    return Claims(pieces=found.pieces | piece_map.pieces_covered(covered), blocks=blocks)
