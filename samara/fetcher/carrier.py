"""What a transfer needs of whatever brings its bytes: peers (`samara.seeder.swarm.Swarm`) or mirrors alone
(`samara.fetcher.mirrors.direct.Direct`). An interface, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from samara.seeder.swarm_events import SourceBytes, SwarmEvent, TorrentStatus


class Carrier(Protocol):
    """Torrents in, events out; the methods are described at `Swarm`."""

    @property
    def has_peers(self) -> bool: ...

    def __contains__(self, name: object) -> bool: ...

    def add_fetch(
        self,
        torrent: bytes,
        path: Path,
        have: Sequence[bool],
        *,
        leaves: Mapping[int, Sequence[bool]] = MappingProxyType({}),
        first: range = range(0),
        in_order: bool = False,
    ) -> str: ...

    def begin(self, name: str, peers: Iterable[tuple[str, int]]) -> dict[str, str]: ...

    def unfinished(self, name: str) -> Mapping[int, Sequence[bool]]: ...

    def remove(self, name: str) -> None: ...

    def flush(self, name: str) -> None: ...

    def poll(self, timeout: float) -> tuple[SwarmEvent, ...]: ...

    def pieces(self, name: str) -> tuple[int, ...]: ...

    def status(self, name: str) -> TorrentStatus: ...

    def sources(self, name: str) -> tuple[SourceBytes, ...]: ...

    def add_piece(self, name: str, piece: int, data: bytes) -> None: ...

    def hold_back(self, name: str, pieces: Iterable[int]) -> None: ...

    def ask_for(self, name: str, pieces: Iterable[int]) -> None: ...

    def in_progress(self, name: str) -> frozenset[int]: ...

    def allow_utp(self) -> None: ...

    def pause(self) -> None: ...

    def go_on(self) -> None: ...

    def limit(self, *, up: int | None = None, down: int | None = None) -> None: ...
