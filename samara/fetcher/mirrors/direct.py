"""Takes the swarm's place where no peers are wanted: mirrors' pieces, proven already, go straight into the file.

Written bytes can be read at once, so what the swarm answers after a flush is answered here at the next poll.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from samara.registry.durable import io_errors
from samara.registry.positioned import write_at
from samara.schemas.bittorrent import parse_blob_torrent
from samara.seeder.swarm_events import (
    Downloading,
    Finished,
    Flushed,
    PieceFinished,
    SourceBytes,
    SwarmEvent,
    TorrentStatus,
)


@dataclass(kw_only=True, slots=True)
class _File:
    fd: int
    path: Path
    piece_length: int
    count: int
    lacks: set[int]


class Direct:
    """The part of `samara.seeder.swarm.Swarm` that a transfer needs. `wait`: until a mirror has something to say."""

    has_peers = False

    def __init__(self, wait: Callable[[float], None]) -> None:
        self._wait = wait
        self._files: dict[str, _File] = {}
        self._events: list[SwarmEvent] = []

    def close(self) -> None:
        """Close every file."""
        for name in list(self._files):
            self.remove(name)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def add_fetch(
        self,
        torrent: bytes,
        path: Path,
        have: Sequence[bool],
        *,
        leaves: Mapping[int, Sequence[bool]] = MappingProxyType({}),
        first: range = range(0),
        in_order: bool = False,
    ) -> str:
        """Write pieces into the file at `path`, which exists. Mirrors are asked for whole pieces."""
        del leaves, first, in_order
        parsed = parse_blob_torrent(torrent)
        with io_errors(path):
            fd = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0))
        lacks = {piece for piece, there in enumerate(have) if not there}
        self._files[parsed.v2] = _File(
            fd=fd, path=path, piece_length=parsed.hashes.piece_length, count=len(have), lacks=lacks
        )  # fmt: skip
        self._events.append(Downloading(torrent=parsed.v2))
        return parsed.v2

    def add_piece(self, name: str, piece: int, data: bytes) -> None:
        """Write a proven piece, answered by PieceFinished. Raises DiskFullError or StoreError."""
        file = self._files.get(name)
        if file is None:
            return
        with io_errors(file.path):
            write_at(file.fd, data, piece * file.piece_length)
        file.lacks.discard(piece)
        self._events.append(PieceFinished(torrent=name, piece=piece))
        if not file.lacks:
            self._events.append(Finished(torrent=name))

    def flush(self, name: str) -> None:
        """What was written can be read already."""
        self._events.append(Flushed(torrent=name))

    def poll(self, timeout: float) -> tuple[SwarmEvent, ...]:
        """What has happened; waits for mirrors up to `timeout` seconds if nothing has."""
        if not self._events:
            self._wait(timeout)
        events, self._events = self._events, []
        return tuple(events)

    def remove(self, name: str) -> None:
        """Let go of one file."""
        file = self._files.pop(name, None)
        if file is not None:
            os.close(file.fd)

    def begin(self, _name: str, _peers: Iterable[tuple[str, int]]) -> dict[str, str]:
        """Nobody is told of anybody."""
        return {}

    def unfinished(self, _name: str) -> Mapping[int, Sequence[bool]]:
        """Pieces come whole."""
        return {}

    def pieces(self, name: str) -> tuple[int, ...]:
        """The pieces that are in the file."""
        file = self._files[name]
        return tuple(piece for piece in range(file.count) if piece not in file.lacks)

    def status(self, _name: str) -> TorrentStatus:
        """No peers."""
        return TorrentStatus(peers=0, down_rate=0, up_rate=0, downloaded=0, uploaded=0, wasted=0)

    def sources(self, _name: str) -> tuple[SourceBytes, ...]:
        """No peers."""
        return ()

    def hold_back(self, _name: str, _pieces: Iterable[int]) -> None:
        """There are no peers to hold back."""

    def ask_for(self, _name: str, _pieces: Iterable[int]) -> None:
        """There are no peers to ask."""

    def hurry(self, _name: str, _pieces: Sequence[int]) -> None:
        """There are no peers to hurry."""

    def in_progress(self, _name: str) -> frozenset[int]:
        """Peers are at nothing."""
        return frozenset()

    def listen_anew(self) -> None:
        """Nobody calls."""

    def forgive(self, _address: str) -> None:
        """Nobody was banned."""

    def allow_utp(self) -> None:
        """There are no peers to reach."""

    def pause(self) -> None:
        """There are no connections to let go of."""

    def go_on(self) -> None:
        """After `pause`."""

    def limit(self, *, up: int | None = None, down: int | None = None) -> None:
        """There is nothing to cap."""
