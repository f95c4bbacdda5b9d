"""Torrents of blobs: the same as libtorrent would make, and nothing else gets through."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import libtorrent as lt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samara.schemas.bittorrent import (
    LEAF,
    MAX_PIECE,
    TorrentHashes,
    bdecode,
    bencode,
    blob_file_name,
    info_bytes,
    infohashes,
    piece_count,
    piece_length_for,
)
from samara.schemas.errors import MalformedError, SamaraError, UsageError
from samara.seeder import torrent
from samara.seeder.hashing import hash_file
from samara.seeder.torrent import build_torrent, torrent_info

MIB = 1 << 20
HEX = "ab" * 32


def made_by_libtorrent(path: Path) -> bytes:
    """libtorrent's own hybrid torrent of a file, hashed by its own code."""
    entry = lt.create_file_entry(path.name, path.stat().st_size)
    creator = lt.create_torrent([entry], piece_length_for(path.stat().st_size))
    lt.set_piece_hashes(creator, str(path.parent))
    return lt.bencode(creator.generate())


def hashes_of(data: bytes, path: Path) -> TorrentHashes:
    path.write_bytes(data)
    return hash_file(path, [len(data)]).torrent


def tiny() -> bytes:
    leaf = hashlib.sha256(b"hello").digest()
    hashes = TorrentHashes(
        size=5, piece_length=1 << 18, pieces_root=leaf, v1_pieces=hashlib.sha1(b"hello").digest(), v2_layer=leaf
    )
    return build_torrent(HEX, gguf=False, hashes=hashes).data


@pytest.mark.parametrize(
    "size",
    [
        1, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF, MIB // 4 - 1, MIB // 4, MIB // 4 + 1, MIB // 4 + LEAF, MIB // 2,
        MIB - 1, MIB, MIB + 1, 3 * MIB + 5, 5 * MIB // 2, 9 * MIB + LEAF + 1,
    ],
)  # fmt: skip
def test_it_is_the_torrent_libtorrent_makes_of_the_same_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / blob_file_name(HEX, gguf=True)
    hashes = hashes_of(Random(size).randbytes(size), path)
    built = build_torrent(HEX, gguf=True, hashes=hashes)
    theirs = made_by_libtorrent(path)
    assert (built.v1, built.v2) == infohashes(info_bytes(theirs))
    top = bdecode(theirs)
    assert isinstance(top, dict)
    layers = top.get(b"piece layers", {})
    assert layers == ({hashes.pieces_root: hashes.v2_layer} if size > hashes.piece_length else {})


def test_the_same_bytes_give_the_same_torrent_whatever_the_file_is_called(tmp_path: Path) -> None:
    data = Random(1).randbytes(MIB)
    one = build_torrent(HEX, gguf=True, hashes=hashes_of(data, tmp_path / "one.gguf"))
    assert build_torrent(HEX, gguf=True, hashes=hashes_of(data, tmp_path / "two")) == one


def test_libtorrent_reads_what_we_built(tmp_path: Path) -> None:
    data = Random(2).randbytes(MIB + 1)
    built = build_torrent(HEX, gguf=False, hashes=hashes_of(data, tmp_path / "blob"))
    info = torrent_info(built.data)
    assert (str(info.info_hashes().v1), str(info.info_hashes().v2)) == (built.v1, built.v2)
    assert (info.name(), info.total_size(), info.num_pieces()) == (f"{HEX}.bin", MIB + 1, 5)


def test_nothing_but_info_and_piece_layers_reaches_libtorrent(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tiny()
    top = bdecode(ours)
    assert isinstance(top, dict)
    foreign = bencode(
        {**top, b"announce": "http://tracker.example/", b"url-list": ["http://mirror.example/"], b"comment": "hi"}
    )  # fmt: skip
    seen: list[bytes] = []

    class Spy:
        @staticmethod
        def torrent_info(data: bytes) -> lt.torrent_info:
            seen.append(data)
            return lt.torrent_info(data)

    monkeypatch.setattr(torrent, "lt", Spy)
    torrent_info(foreign)
    assert seen == [ours]


def test_hashes_that_are_not_one_files_are_refused() -> None:
    layer = bytes(64)
    wrong_root = TorrentHashes(
        size=MIB // 2, piece_length=MIB // 4, pieces_root=bytes(32), v1_pieces=bytes(40), v2_layer=layer
    )
    with pytest.raises(MalformedError, match="pieces root"):
        build_torrent(HEX, gguf=False, hashes=wrong_root)


def test_a_file_too_large_for_one_torrent_is_refused_in_time() -> None:
    size = 3 * 10**12
    count = piece_count(size, MAX_PIECE)
    hashes = TorrentHashes(
        size=size,
        piece_length=piece_length_for(size),
        pieces_root=bytes(32),
        v1_pieces=bytes(20 * count),
        v2_layer=bytes(32 * count),
    )
    with pytest.raises(UsageError, match="too large for one torrent"):
        build_torrent(HEX, gguf=False, hashes=hashes)


def test_what_libtorrent_refuses_becomes_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny()

    class Grumpy:
        @staticmethod
        def torrent_info(_data: bytes) -> lt.torrent_info:
            raise RuntimeError("no")

    monkeypatch.setattr(torrent, "lt", Grumpy)
    with pytest.raises(MalformedError, match="libtorrent refuses"):
        torrent_info(data)


def test_another_reading_of_the_torrent_becomes_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny()
    top = bdecode(data)
    assert isinstance(top, dict) and isinstance(top[b"info"], dict)
    other = lt.torrent_info(bencode({b"info": {**top[b"info"], b"x": 1}}))

    class Other:
        @staticmethod
        def torrent_info(_data: bytes) -> lt.torrent_info:
            return other

    monkeypatch.setattr(torrent, "lt", Other)
    with pytest.raises(MalformedError, match="reads the torrent differently"):
        torrent_info(data)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(SamaraError):
        torrent_info(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_torrent_is_refused_or_still_one_of_ours(data: st.DataObject) -> None:
    good = bytearray(tiny())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        info = torrent_info(bytes(good))
    except SamaraError:
        return
    assert info.num_files() == 1
