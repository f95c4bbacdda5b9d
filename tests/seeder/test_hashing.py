"""One read gives every hash: held against the plainest possible computation of each, at every awkward size."""

from __future__ import annotations

import _thread
import errno
import hashlib
import os
import signal
import threading
import tracemalloc
from collections.abc import Callable
from io import FileIO
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from samara.schemas.bittorrent import LEAF, piece_length_for
from samara.schemas.errors import IntegrityError, NotFoundError, SamaraError, UsageError
from samara.schemas.stamps import Stamp
from samara.seeder import hashing, source_file
from samara.seeder.hashing import hash_file
from samara.seeder.source_file import open_source

KIB, MIB = 1 << 10, 1 << 20
BORDERS = [1, LEAF, 2 * LEAF, 3 * LEAF, 64 * KIB, 256 * KIB, 512 * KIB, 768 * KIB, MIB, 2 * MIB, 3 * MIB]
SMALL = LEAF  # chunk size that makes even little files long


def sizes() -> st.SearchStrategy[int]:
    near = st.builds(lambda border, off: max(1, border + off), st.sampled_from(BORDERS), st.integers(-2, 2))
    return st.one_of(near, st.integers(1, 3 * MIB))


def make(path: Path, size: int, seed: int = 0) -> bytes:
    data = Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


def cut(size: int, borders: list[int]) -> list[int]:
    edges = sorted({0, size, *(border for border in borders if 0 < border < size)})
    return [b - a for a, b in pairwise(edges)]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree(leaves: list[bytes], height: int) -> bytes:
    """BEP 52's node over 2**height leaves, those that aren't there being zeros."""
    if height == 0:
        return leaves[0] if leaves else bytes(32)
    half = 1 << (height - 1)
    return sha256(tree(leaves[:half], height - 1) + tree(leaves[half:], height - 1))


def layer_and_root(data: bytes) -> tuple[bytes, bytes]:
    leaves = [sha256(data[at : at + LEAF]) for at in range(0, len(data), LEAF)]
    whole_height = (len(leaves) - 1).bit_length()
    per_piece = piece_length_for(len(data)) // LEAF
    if len(leaves) <= per_piece:
        root = tree(leaves, whole_height)
        return root, root
    height = (per_piece - 1).bit_length()
    layer = b"".join(tree(leaves[at : at + per_piece], height) for at in range(0, len(leaves), per_piece))
    return layer, tree(leaves, max(height, whole_height))


def check_against_plain_hashes(path: Path, data: bytes, cuts: list[int], hashes: hashing.FileHashes) -> None:
    step = piece_length_for(len(data))
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    layer, root = layer_and_root(data)
    blocks = []
    at = 0
    for size in cuts:
        blocks.append((size, blake3(data[at : at + size]).digest()))
        at += size
    assert hashes.size == len(data)
    assert hashes.b3 == blake3(data).digest()
    assert hashes.sha256 == sha256(data)
    assert hashes.blocks == tuple(blocks)
    assert hashes.torrent.size == len(data)
    assert hashes.torrent.piece_length == step
    assert hashes.torrent.v1_pieces == b"".join(hashlib.sha1(piece).digest() for piece in pieces)
    assert hashes.torrent.v2_layer == layer
    assert hashes.torrent.pieces_root == root
    assert hashes.stamp == Stamp.of(path.stat())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=sizes(),
    borders=st.lists(st.integers(1, 3 * MIB), max_size=40),
    chunk=st.sampled_from([SMALL, 64 * KIB, MIB]),
    threads=st.integers(1, 6),
)
@example(size=1, borders=[], chunk=MIB, threads=2)
@example(size=3 * MIB + 1, borders=[1, 2, 3, MIB - 1, MIB, MIB + 1, 3 * MIB], chunk=MIB, threads=2)
def test_every_hash_is_what_its_definition_says(
    tmp_path: Path, size: int, borders: list[int], chunk: int, threads: int
) -> None:
    path = tmp_path / "blob"
    data = make(path, size)
    cuts = cut(size, borders)
    check_against_plain_hashes(path, data, cuts, hash_file(path, cuts, threads=threads, chunk=chunk))


def test_many_tiny_blocks_in_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    data = make(path, 20_000)
    cuts = [1] * 16_000 + [4_000]
    check_against_plain_hashes(path, data, cuts, hash_file(path, cuts))


def test_one_block_longer_than_everything_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    size = 3 * hashing.RING * SMALL + 7
    data = make(path, size)
    check_against_plain_hashes(path, data, [size], hash_file(path, [size], chunk=SMALL))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    size = 96 * MIB
    with path.open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        hash_file(path, [4 * MIB] * (size // (4 * MIB)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def test_progress_grows_to_the_size_and_is_told_in_the_calling_thread(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    size = 40 * SMALL + 5
    make(path, size)
    told: list[tuple[int, threading.Thread]] = []
    hash_file(path, [size], chunk=SMALL, on_progress=lambda done: told.append((done, threading.current_thread())))
    done = [count for count, _ in told]
    assert done == sorted(set(done))
    assert done[-1] == size
    assert {thread for _, thread in told} == {threading.current_thread()}


# --- a file that doesn't hold still ---------------------------------------------------------------------------------


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"!")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def delete(path: Path) -> None:
    path.unlink()


class Once:
    """Does something to the file the first time progress is told, while most of it is still unread."""

    def __init__(self, act: Callable[[Path], None], path: Path) -> None:
        self.act = act
        self.path = path
        self.done = False

    def __call__(self, _bytes: int) -> None:
        if not self.done:
            self.done = True
            self.act(self.path)


# Windows lets nobody replace, delete or rename an open file, so that can't happen there.
CHANGES = [append, truncate, empty, overwrite, *([replace, delete] if os.name == "posix" else [])]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, change: Callable[[Path], None], threads: int) -> None:
    path = tmp_path / "blob"
    size = 64 * SMALL
    make(path, size)
    os.utime(path, ns=(10**18, 10**18))  # long ago, so that any write shows
    with pytest.raises(IntegrityError, match="changed while it was being read") as caught:
        hash_file(path, [size], chunk=SMALL, threads=threads, on_progress=Once(change, path))
    assert caught.value.expected and caught.value.actual and caught.value.next_step
    assert no_workers()


def test_a_file_that_changed_since_it_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    make(path, 100)
    with pytest.raises(IntegrityError, match="expected 99 bytes, got 100"):
        hash_file(path, [99])


def test_an_open_file_is_hashed_from_its_start_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    data = make(path, 5 * SMALL)
    with open_source(path) as file:
        file.read(100)
        hashes = hash_file("only a name", [len(data)], fd=file.fileno(), chunk=SMALL)
        assert file.seek(0) == 0
        assert file.read() == data
    check_against_plain_hashes(path, data, [len(data)], hashes)


def test_an_open_file_that_changes_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    make(path, 64 * SMALL)
    with open_source(path) as file, pytest.raises(IntegrityError, match="changed"):
        hash_file(path, [64 * SMALL], fd=file.fileno(), chunk=SMALL, on_progress=Once(append, path))


# --- what isn't a file ----------------------------------------------------------------------------------------------


def refusal(path: Path | str) -> SamaraError:
    with pytest.raises(SamaraError) as caught:
        hash_file(path, [1])
    with pytest.raises(type(caught.value)):
        open_source(path)
    assert os.fspath(path)[:20] in str(caught.value) or "\0" in os.fspath(path)
    return caught.value


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path / "nobody"), NotFoundError)
    (tmp_path / "file").write_bytes(b"x")
    assert isinstance(refusal(tmp_path / "file" / "below"), NotFoundError | UsageError)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path), UsageError)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert isinstance(refusal(tmp_path / "empty"), UsageError)


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    assert isinstance(refusal(os.devnull), UsageError)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert isinstance(refusal(tmp_path / "pipe"), UsageError)


def test_an_impossible_name_is_refused(tmp_path: Path) -> None:
    assert isinstance(refusal("a\0b"), UsageError)
    assert isinstance(refusal("n" * 5000), SamaraError)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_args: object, **_kwargs: object) -> FileIO:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    (tmp_path / "secret").write_bytes(b"x")
    monkeypatch.setattr(source_file, "FileIO", refuse)  # tests may run as root, who may read everything
    error = refusal(tmp_path / "secret")
    assert isinstance(error, UsageError)
    assert error.next_step is not None and "permissions" in error.next_step


def test_blocks_and_chunks_that_make_no_sense_are_a_bug_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    make(path, 3)
    for cuts in ([3, 0], [4, -1]):
        with pytest.raises(ValueError, match="at least one byte"):
            hash_file(path, cuts)
    for chunk in (LEAF // 2, 3 * LEAF):
        with pytest.raises(ValueError, match="powers of two"):
            hash_file(path, [3], chunk=chunk)


# --- trouble on the way ---------------------------------------------------------------------------------------------


def no_workers() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("hash-")]


def test_a_disk_that_fails_is_named_with_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FileIO):
        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
            if self.tell() >= 20 * SMALL:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer) or 0

    path = tmp_path / "blob"
    make(path, 64 * SMALL)
    monkeypatch.setattr(source_file, "FileIO", Failing)
    with pytest.raises(IntegrityError, match=rf"byte {20 * SMALL} of {64 * SMALL} \(Input/output error\)"):
        hash_file(path, [64 * SMALL], chunk=SMALL)
    assert no_workers()


def test_short_reads_are_only_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(FileIO):
        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
            return super().readinto(buffer[:1000]) or 0

    path = tmp_path / "blob"
    data = make(path, 10 * SMALL + 1)
    monkeypatch.setattr(source_file, "FileIO", Short)
    check_against_plain_hashes(path, data, [len(data)], hash_file(path, [len(data)], chunk=SMALL))


def test_ctrl_c_stops_at_once_and_leaves_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    make(path, 64 * SMALL)
    told: list[int] = []

    def interrupt(done: int) -> None:
        told.append(done)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        hash_file(path, [64 * SMALL], chunk=SMALL, on_progress=interrupt)
    assert len(told) == 1
    assert no_workers()


def test_ctrl_c_while_all_wait_for_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "blob"
    make(path, 64 * SMALL)
    interrupted = threading.Event()
    plain = hashing._node

    def interrupt_first(level: bytes) -> bytes:
        if not interrupted.is_set():
            interrupted.set()
            _thread.interrupt_main()
        return plain(level)

    monkeypatch.setattr(hashing, "_node", interrupt_first)
    with pytest.raises(KeyboardInterrupt):
        hash_file(path, [64 * SMALL], chunk=SMALL, threads=2)
    assert no_workers()


def test_a_failing_worker_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(level: bytes) -> bytes:
        raise MemoryError("no room")

    path = tmp_path / "blob"
    make(path, 64 * SMALL)
    monkeypatch.setattr(hashing, "_node", fail)
    with pytest.raises(MemoryError, match="no room"):
        hash_file(path, [64 * SMALL], chunk=SMALL, threads=3)
    assert no_workers()


def test_a_failing_listener_is_not_hidden(tmp_path: Path) -> None:
    def fail(done: int) -> None:
        raise RuntimeError("listener")

    path = tmp_path / "blob"
    make(path, 64 * SMALL)
    with pytest.raises(RuntimeError, match="listener"):
        hash_file(path, [64 * SMALL], chunk=SMALL, on_progress=fail)
    assert no_workers()
