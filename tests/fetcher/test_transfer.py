"""One transfer by itself, over a carrier that writes what it is given: what it counts, and what it claims."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import pytest
from support.world import MIB, PIECE, Shelf, one_blob

from samara.fetcher import data_file
from samara.fetcher.mirrors.direct import Direct
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.partial import Partial
from samara.fetcher.threads import Threads
from samara.fetcher.transfer import State, Transfer
from samara.registry.home import Home
from samara.schemas.bittorrent import parse_blob_torrent
from samara.schemas.errors import StoreError
from samara.schemas.events import ignore
from samara.seeder.swarm_events import TorrentStatus


class Metered(Direct):
    """Has peers, of whom the test says how much they gave. As libtorrent's, its counter ends with the torrent."""

    def __init__(self) -> None:
        super().__init__(lambda _seconds: None)
        self.downloaded = 0

    def status(self, _name: str) -> TorrentStatus:
        return replace(super().status(_name), peers=1, downloaded=self.downloaded)

    def remove(self, name: str) -> None:
        super().remove(name)
        self.downloaded = 0


@pytest.fixture(scope="module")
def shelved(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return one_blob(tmp_path_factory.mktemp("shelf"), 2 * MIB)


@pytest.fixture
def partial(tmp_path: Path, shelved: Shelf) -> Partial:
    made = Partial(Home(tmp_path), shelved.only.b3_hex)
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def carrier() -> Iterator[Metered]:
    made = Metered()
    yield made
    made.close()


@pytest.fixture
def transfer(tmp_path: Path, shelved: Shelf, partial: Partial) -> Iterator[Transfer]:
    def no_client() -> None:
        raise AssertionError("there are no mirrors to ask")

    torrent = parse_blob_torrent(shelved.torrent)
    with Threads() as threads, MirrorPool(no_client) as pool:  # type: ignore[arg-type]
        made = Transfer(
            Home(tmp_path), shelved.only, torrent, partial, pool=pool, threads=threads, mirrors=(),
            checkpoint_seconds=0.0, on_event=ignore,
        )  # fmt: skip
        yield made
        made.close()


def bring(carrier: Metered, transfer: Transfer, shelved: Shelf, piece: int) -> None:
    """A piece comes, and the transfer hears of it."""
    data = shelved.source.read_bytes()
    carrier.add_piece(transfer.name, piece, data[piece * PIECE : (piece + 1) * PIECE])
    heard(carrier, transfer)


def heard(carrier: Metered, transfer: Transfer) -> None:
    for happened in carrier.poll(0.0):
        transfer.handle(carrier, happened)


def test_what_peers_gave_is_counted_when_they_are_called_anew(carrier: Metered, transfer: Transfer) -> None:
    """Their counter ends with the old torrent, maybe a moment after the last look at it."""
    transfer.start(carrier, 0.0)
    carrier.downloaded = PIECE
    transfer.tick(carrier, 1.0)
    carrier.downloaded = 4 * PIECE
    transfer.call_anew(carrier, 1.1)
    assert carrier.downloaded == 0
    carrier.downloaded = 2 * PIECE
    transfer.tick(carrier, 2.0)
    assert transfer.ledger.from_peers == 6 * PIECE


def test_after_a_disk_that_did_not_keep_it_nothing_more_is_claimed(
    carrier: Metered, transfer: Transfer, shelved: Shelf, partial: Partial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk tells once that it lost what was written; the next fdatasync succeeds, and means nothing."""

    def fails(_fd: int) -> None:
        monkeypatch.undo()
        raise OSError(errno.EIO, "Input/output error")

    transfer.start(carrier, 0.0)
    bring(carrier, transfer, shelved, 3)
    monkeypatch.setattr(data_file, "sync_data", fails)
    transfer.tick(carrier, 1.0)  # a checkpoint is due
    heard(carrier, transfer)
    assert transfer._saving is not None
    wait([transfer._saving])
    assert not transfer.begin_last_flush(carrier), "the process ends before anybody has looked at what came of it"
    assert partial.load(pieces=shelved.only.piece_count, blocks=len(shelved.only.blocks)) is None
    with pytest.raises(StoreError, match="Input/output error"):
        transfer.tick(carrier, 1.1)


def test_what_came_is_claimed_when_it_ends_early(
    carrier: Metered, transfer: Transfer, shelved: Shelf, partial: Partial
) -> None:
    transfer.start(carrier, 0.0)
    for piece in (1, 5):
        bring(carrier, transfer, shelved, piece)
    assert transfer.begin_last_flush(carrier)
    transfer.finish_last_flush()
    claims = partial.load(pieces=shelved.only.piece_count, blocks=len(shelved.only.blocks))
    assert claims is not None
    assert set(claims.pieces) == {1, 5}
    assert transfer.state is State.FETCHING
