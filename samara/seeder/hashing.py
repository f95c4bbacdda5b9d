"""One read of one file gives every hash a release needs, with all cores.

`hash_file` reads the file once, in order, into a ring of buffers; worker threads take from each buffer the five jobs
that give BLAKE3 whole, BLAKE3 per block, SHA-256 whole, SHA-1 per v1 piece (BEP 3) and SHA-256 per 16 KiB leaf
(BEP 52). Four of the jobs are chains, run chunk after chunk by whichever worker is free, so blocks and pieces may lie
across chunks as they like; leaves never do, so their chunks are hashed in any order. The SHA-256 chain is the longest
and goes first: it alone bounds the speed once there are four cores. Memory is the ring, whatever the file's size.

The file must hold still: its stamp is compared before and after, and a file that ends early is refused. A writer that
leaves size, modification time and inode as they were can't be noticed here; whoever verifies the blocks will.

Does not decide where blocks begin (`samara.schemas` does, from the header) and writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import repeat
from typing import Protocol

from blake3 import blake3

from samara.schemas.bittorrent import LEAF, TorrentHashes, piece_length_for, pieces_root_of_layer, zero_piece_node
from samara.schemas.errors import IntegrityError
from samara.schemas.stamps import Stamp
from samara.seeder.source_file import changed, open_source, require_same, stamp_of

CHUNK = 1 << 20  # bytes; what one job takes at a time: long beside a lock, short beside a second-level cache
RING = 12  # chunks in memory: how far the fastest chain may run ahead of the slowest
MOST_THREADS = 6  # more can't help: the SHA-256 chain is more than a quarter of all work


@dataclass(frozen=True, kw_only=True, slots=True)
class FileHashes:
    """Every hash of one file, raw bytes, and the stamp it bore while it was read.

    `blocks`: (size, BLAKE3 digest) in file order; their sizes add up to `size`.
    """

    size: int
    b3: bytes
    sha256: bytes
    blocks: tuple[tuple[int, bytes], ...]
    torrent: TorrentHashes
    stamp: Stamp


def hash_file(
    path: str | os.PathLike[str],
    cuts: Sequence[int],
    *,
    on_progress: Callable[[int], None] | None = None,
    threads: int | None = None,
    fd: int | None = None,
    chunk: int = CHUNK,
) -> FileHashes:
    """Read `path` once and hash it for a manifest and a torrent.

    `cuts` are the sizes of the blocks in bytes; they add up to the file's size. `on_progress` is called in the calling
    thread with the bytes fully hashed so far. `threads` hash while the calling thread reads; one per core by default.
    With `fd`, that open file is read (it stays open, its position moves), and `path` only names it in messages;
    whether the name still means the same file is then the caller's to check. `chunk` is a power of two ≥ 16 KiB.

    Raises NotFoundError if there is no such file, UsageError for what isn't a readable file with bytes in it, and
    IntegrityError if it changes meanwhile, isn't as long as `cuts`, or the disk can't read it.
    """
    name = os.fspath(path)
    if min(cuts, default=1) < 1 or chunk < LEAF or chunk.bit_count() != 1:
        raise ValueError("blocks have at least one byte; chunks are powers of two from 16 KiB")
    where = name if fd is None else fd
    before = stamp_of(name, where)
    with open_source(path) if fd is None else FileIO(fd, closefd=False) as file:
        file.seek(0)
        opened = stamp_of(name, file.fileno())
        size = opened.size
        if size != sum(cuts):
            raise changed(name, expected=f"{sum(cuts)} bytes", actual=size)
        one_pass = _Pass(name, file, size, cuts, chunk=chunk, on_progress=on_progress)
        one_pass.run(_cores() if threads is None else threads)
        require_same(name, opened, file.fileno())
    require_same(name, before, where)
    return one_pass.result(before)


# --- the pass -----------------------------------------------------------------------------------------------------


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


class _CutHashes:
    """Digests of consecutive stretches of a stream, fed in order in pieces that know nothing of the stretches."""

    def __init__(self, new: Callable[..., _Hash], sizes: Iterable[int]) -> None:
        self._new = new
        self._sizes: Iterator[int] = iter(sizes)
        self._state: _Hash | None = None
        self._left = 0
        self.digests: list[bytes] = []

    def update(self, data: memoryview) -> None:
        at = 0
        while at < len(data):
            if self._state is None:
                self._left = next(self._sizes)
                if self._left <= len(data) - at:
                    self.digests.append(self._new(data[at : at + self._left]).digest())
                    at += self._left
                    continue
                self._state = self._new()
            part = data[at : at + self._left]
            self._state.update(part)
            at += len(part)
            self._left -= len(part)
            if self._left == 0:
                self.finish()

    def finish(self) -> None:
        """The stream has ended: what was begun is whole."""
        if self._state is not None:
            self.digests.append(self._state.digest())
            self._state = None


class _Tree:
    """The v2 Merkle tree: nodes of chunks, made in any order, joined in order into the piece layer (BEP 52)."""

    def __init__(self, size: int, piece_length: int, chunk: int) -> None:
        self._piece_length = piece_length
        self._one_piece = size <= piece_length
        leaves = -(-size // LEAF)
        # A file of one piece has a tree just high enough for its own leaves; otherwise every piece's is full height.
        span = LEAF << (leaves - 1).bit_length() if self._one_piece else piece_length
        self._unit = min(chunk, span)
        self._units_per_piece = span // self._unit
        self._pending: list[bytes] = []
        self._layer: list[bytes] = []

    def nodes(self, data: memoryview) -> list[bytes]:
        """One node for each `unit` of one chunk; missing leaves are zero. Runs in a worker."""
        leaves = [data[i : i + LEAF] for i in range(0, len(data), LEAF)]
        digests = b"".join([state.digest() for state in map(hashlib.sha256, leaves)])
        width = self._unit // LEAF * 32
        return [_node(digests[i : i + width].ljust(width, b"\0")) for i in range(0, len(digests), width)]

    def join(self, nodes: list[bytes]) -> None:
        """Take the nodes of the next chunk, in file order."""
        self._pending += nodes
        whole = len(self._pending) // self._units_per_piece * self._units_per_piece
        for i in range(0, whole, self._units_per_piece):
            self._layer.append(_node(b"".join(self._pending[i : i + self._units_per_piece])))
        del self._pending[:whole]

    def finish(self) -> tuple[bytes, bytes]:
        """(piece layer, pieces root)."""
        if self._pending:
            self.join([zero_piece_node(self._unit)] * (self._units_per_piece - len(self._pending)))
        layer = b"".join(self._layer)
        return layer, layer if self._one_piece else pieces_root_of_layer(layer, self._piece_length)


def _node(level: bytes) -> bytes:
    """Root of the tree over 2ⁿ nodes of 32 bytes."""
    while len(level) > 32:
        level = b"".join([hashlib.sha256(level[i : i + 64]).digest() for i in range(0, len(level), 64)])
    return level


class _Job:
    """One kind of hash: `at` is the next chunk it takes; a chain takes one at a time."""

    def __init__(self, run: Callable[[int, memoryview], object], *, chain: bool) -> None:
        self.run = run
        self.chain = chain
        self.at = 0
        self.busy = False


class _Pass:
    """The ring, the five jobs and the threads between them.

    The calling thread fills chunk after chunk and retires them in order; workers take (job, chunk) pairs. All counters
    are guarded by one lock. A worker that finishes a job looks for the next itself, so sleepers need waking only for a
    new chunk.
    """

    def __init__(
        self,
        name: str,
        file: FileIO,
        size: int,
        cuts: Sequence[int],
        *,
        chunk: int,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._name, self._file, self._size, self._cuts, self._chunk = name, file, size, tuple(cuts), chunk
        self._on_progress = on_progress
        self._piece_length = piece_length_for(size)
        self._sha256 = hashlib.sha256()
        self._b3 = blake3()
        self._pieces = _CutHashes(_sha1, repeat(self._piece_length))
        self._blocks = _CutHashes(blake3, self._cuts)
        self._tree = _Tree(size, self._piece_length, chunk)
        self._jobs = (
            _Job(lambda _slot, data: self._sha256.update(data), chain=True),
            _Job(lambda _slot, data: self._pieces.update(data), chain=True),
            _Job(self._leaves, chain=False),
            _Job(lambda _slot, data: self._b3.update(data), chain=True),
            _Job(lambda _slot, data: self._blocks.update(data), chain=True),
        )
        self._chunks = -(-size // chunk)
        slots = min(RING, self._chunks)
        self._buffers = [memoryview(bytearray(min(chunk, size))) for _ in range(slots)]
        self._views = list(self._buffers)  # the filled part of each buffer
        self._nodes: list[list[bytes]] = [[] for _ in range(slots)]
        self._left = [0] * slots  # jobs still to be done with a slot's chunk
        self._filled = 0
        self._retired = 0
        self._stopped = False
        self._error: BaseException | None = None
        lock = threading.Lock()
        self._work = threading.Condition(lock)  # workers wait here for a chunk
        self._room = threading.Condition(lock)  # the calling thread waits here for a chunk to be done with

    def run(self, threads: int) -> None:
        """Read and hash everything; whatever happens, no worker outlives this call."""
        count = max(1, min(threads, len(self._jobs) * self._chunks))
        workers = [threading.Thread(target=self._worker, name=f"hash-{i}", daemon=True) for i in range(count)]
        started: list[threading.Thread] = []
        try:
            for worker in workers:
                worker.start()
                started.append(worker)
            for number in range(self._chunks):
                self._retire(until=number - len(self._buffers) + 1)
                self._fill(number)
            self._retire(until=self._chunks)
        finally:
            with self._work:
                self._stopped = True
                self._work.notify_all()
            for worker in started:
                worker.join()

    def result(self, stamp: Stamp) -> FileHashes:
        """All digests; call after `run`."""
        self._pieces.finish()
        layer, root = self._tree.finish()
        return FileHashes(
            size=self._size,
            b3=self._b3.digest(),
            sha256=self._sha256.digest(),
            blocks=tuple(zip(self._cuts, self._blocks.digests, strict=True)),
            torrent=TorrentHashes(
                size=self._size,
                piece_length=self._piece_length,
                pieces_root=root,
                v1_pieces=b"".join(self._pieces.digests),
                v2_layer=layer,
            ),
            stamp=stamp,
        )

    def _fill(self, number: int) -> None:
        slot = number % len(self._buffers)
        offset = number * self._chunk
        view = self._buffers[slot][: min(self._chunk, self._size - offset)]
        got = 0
        while got < len(view):
            try:
                read = self._file.readinto(view[got:])
            except OSError as error:
                raise IntegrityError(
                    f"{self._name} can't be read at byte {offset + got} of {self._size} ({error.strerror})",
                    next_step="check the disk it lies on",
                ) from error
            if not read:
                raise changed(self._name, expected=f"{self._size} bytes", actual=offset + got)
            got += read
        with self._work:
            self._views[slot] = view
            self._left[slot] = len(self._jobs)
            self._filled = number + 1
            self._work.notify_all()

    def _retire(self, *, until: int) -> None:
        """Wait until the first `until` chunks are done with; take what others are done with meanwhile."""
        while True:
            with self._room:
                # A bare wait can't be interrupted on Windows, so it is asked for in slices.
                while not (self._error or self._retired >= until or self._is_done(self._retired)):
                    self._room.wait(0.5)
                if self._error is not None:
                    raise self._error
                done = []
                while self._is_done(self._retired):
                    done.append(self._nodes[self._retired % len(self._nodes)])
                    self._retired += 1
                enough = self._retired >= until
            for nodes in done:
                self._tree.join(nodes)
            if done and self._on_progress is not None:
                self._on_progress(min(self._retired * self._chunk, self._size))
            if enough:
                return

    def _is_done(self, number: int) -> bool:
        return number < self._filled and self._left[number % len(self._left)] == 0

    def _worker(self) -> None:
        finished: tuple[_Job, int] | None = None
        while True:
            with self._work:
                if finished is not None:
                    self._finish(*finished)
                while (claim := self._claim()) is None:
                    if self._stopped:
                        return
                    self._work.wait()
                job, number = claim
                slot = number % len(self._buffers)
                view = self._views[slot]
            try:
                job.run(slot, view)
            except BaseException as error:  # raised again in the calling thread
                with self._work:
                    self._error = error
                    self._stopped = True
                    self._work.notify_all()
                    self._room.notify()
                return
            finished = claim

    def _claim(self) -> tuple[_Job, int] | None:
        """The SHA-256 chain if it is free, else whichever job lags most. Called with the lock."""
        if self._stopped:
            return None
        best: _Job | None = None
        for job in self._jobs:
            if job.at < self._filled and not job.busy:
                if best is None or job.at < best.at:
                    best = job
                if best is self._jobs[0]:
                    break
        if best is None:
            return None
        number = best.at
        best.at += 1
        best.busy = best.chain
        return best, number

    def _finish(self, job: _Job, number: int) -> None:
        job.busy = False
        slot = number % len(self._left)
        self._left[slot] -= 1
        if self._left[slot] == 0:
            self._room.notify()

    def _leaves(self, slot: int, data: memoryview) -> None:
        self._nodes[slot] = self._tree.nodes(data)


def _sha1(data: memoryview | bytes = b"") -> _Hash:
    return hashlib.sha1(data, usedforsecurity=False)


def _cores() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MOST_THREADS)
