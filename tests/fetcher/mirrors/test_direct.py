"""Mirrors' pieces straight into the file: answered as the swarm answers; what the disk refuses is claimed by nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_kit import PIECE, Rig, blob, full_disk, serving

from samara.fetcher.mirrors.direct import Direct
from samara.schemas.errors import DiskFullError, NotFoundError, StoreError
from samara.seeder.swarm_events import Downloading, Finished, Flushed, PieceFinished


def test_it_answers_as_the_swarm_does(tmp_path: Path) -> None:
    wanted = blob(tmp_path, 3 * PIECE + 100)
    path = tmp_path / "file"
    path.touch()
    direct = Direct(lambda _seconds: None)
    name = direct.add_fetch(wanted.torrent, path, [False, True, False, False])
    assert name == wanted.name
    assert name in direct
    assert direct.poll(0) == (Downloading(torrent=name),)
    assert direct.pieces(name) == (1,)
    for piece in (3, 0):
        start, end = wanted.proof.span(piece)
        direct.add_piece(name, piece, wanted.data[start:end])
    direct.flush(name)
    assert direct.poll(0) == (
        PieceFinished(torrent=name, piece=3),
        PieceFinished(torrent=name, piece=0),
        Flushed(torrent=name),
    )
    start, end = wanted.proof.span(2)
    direct.add_piece(name, 2, wanted.data[start:end])
    assert direct.poll(0) == (PieceFinished(torrent=name, piece=2), Finished(torrent=name))
    assert direct.pieces(name) == (0, 1, 2, 3)
    direct.remove(name)
    assert name not in direct
    direct.add_piece(name, 0, b"late")  # from a worker that hadn't heard
    assert direct.poll(0) == ()
    data = path.read_bytes()
    assert data[:PIECE] + data[2 * PIECE :] == wanted.data[:PIECE] + wanted.data[2 * PIECE :]


def test_it_waits_only_while_nothing_has_happened(tmp_path: Path) -> None:
    waited: list[float] = []
    wanted = blob(tmp_path, PIECE)
    (tmp_path / "file").touch()
    direct = Direct(waited.append)
    direct.poll(0.5)
    direct.add_fetch(wanted.torrent, tmp_path / "file", [False])
    direct.poll(0.7)
    assert waited == [0.5]
    direct.close()


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    wanted = blob(tmp_path, PIECE)
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to(tmp_path / "theirs")
    direct = Direct(lambda _seconds: None)
    with pytest.raises((StoreError, NotFoundError)):
        direct.add_fetch(wanted.torrent, tmp_path / "file", [False])
    assert wanted.name not in direct


def test_a_full_disk_is_an_error_and_what_was_written_stays(tmp_path: Path) -> None:
    """And nothing that has come is lost for whoever goes on once there is room."""
    wanted = blob(tmp_path, 16 * PIECE)
    with serving(wanted.data) as one, Rig(tmp_path, wanted) as rig:
        rig.add(one.url, have=frozenset({0}))
        with full_disk(rig.path, 5 * PIECE + PIECE // 2):
            for _ in range(3):  # again and again, as long as the disk is full
                with pytest.raises((DiskFullError, StoreError)):
                    rig.run()
        assert rig.have < set(range(5)) | {5}
        for piece in rig.have:
            start, end = wanted.proof.span(piece)
            assert rig.path.read_bytes()[start:end] == wanted.data[start:end]
        rig.run()
        assert rig.received <= 15 * PIECE + 8 * PIECE, "each piece that the disk refused once more, at most"
