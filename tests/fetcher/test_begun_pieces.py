"""What a killed process had begun of a piece: gone on with if right, and nobody's fault if wrong (ADR 0013)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.pulls import Pull, options, pulled
from support.swarms import seeding
from support.world import MIB, PIECE, Shelf, assert_pulled, one_blob, partial_data, trusting_home

from samara.fetcher.partial import Partial, recover
from samara.registry.home import Home
from samara.schemas.bittorrent import LEAF, parse_blob_torrent
from samara.schemas.events import SourceRejected

SIZE = 4 * MIB
BEGUN = 5 * LEAF
RATE = 4_000_000  # bytes per second: on loopback as much as the whole blob may be on its way


@pytest.fixture
def shelved(tmp_path: Path) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE)


def leave_begun(home: Home, shelved: Shelf, *, pieces: list[int], wrong: bool = False) -> None:
    """A partial without a record, as a kill leaves it: of these pieces the first leaves are there."""
    data = partial_data(home, shelved.only)
    data.parent.mkdir(parents=True)
    source = shelved.source.read_bytes()
    with data.open("wb") as file:
        file.truncate(SIZE)
        for piece in pieces:
            begun = source[piece * PIECE : piece * PIECE + BEGUN]
            file.seek(piece * PIECE)
            file.write(bytes(byte ^ 1 for byte in begun) if wrong else begun)
        file.flush()
        os.fsync(file.fileno())


def test_leaves_with_data_are_found(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    leave_begun(home, shelved, pieces=[1, 3])
    torrent = parse_blob_torrent(shelved.torrent)
    found = recover(Partial(home, shelved.only.b3_hex, torrent.v2), torrent.hashes, len(shelved.only.blocks))
    assert {piece: sum(leaves) for piece, leaves in found.begun.items()} == {1: 5, 3: 5}
    assert len(found.pieces) == 0


def test_what_was_begun_does_not_come_again(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    leave_begun(home, shelved, pieces=[0, 2, 7])
    with seeding(shelved) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint))
    assert done.bytes_reused == 3 * BEGUN
    assert done.bytes_from_peers == SIZE - 3 * BEGUN
    assert_pulled(home, shelved)


def test_wrong_beginnings_cost_themselves_and_no_peer(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    leave_begun(home, shelved, pieces=[0, 2, 7], wrong=True)
    with seeding(shelved, up=RATE) as peer:
        pull = Pull(home, shelved.file, options(peer.endpoint))
        done = pull.result()
    assert pull.of(SourceRejected) == []
    assert done.rejected == ()
    # what is on its way when the first of them fails comes again
    assert done.bytes_from_peers <= SIZE + 8 * PIECE
    assert_pulled(home, shelved)
