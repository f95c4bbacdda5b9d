"""Small files on their way into a session: known by infohash alone, refused before a byte of them is asked for.

Not for use by itself: `samara.seeder.swarm.Swarm` owns one. The order: the info dict comes from a peer (BEP 9) and must
hash to the infohash; name, size and shape are checked; only then is the one piece asked for; it is read once it is
flushed, and must hash to the infohash again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import libtorrent as lt

from samara.schemas.bittorrent import small_torrent
from samara.schemas.errors import MalformedError
from samara.seeder.swarm_events import DiskFailed, SmallGone, SmallReady, SmallRefused, SwarmEvent
from samara.seeder.torrent import MAX_SMALL_INFO_BYTES, SmallInfo, parse_small_info

SETTINGS = {"max_metadata_size": MAX_SMALL_INFO_BYTES}
_NORMAL_PRIORITY = 4

Peers = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to accept under an infohash (64 hex digits). Sizes in bytes; None: any."""

    v2: str
    folder: Path
    max_size: int
    exact_size: int | None
    file_name: str | None

    def check(self, info: bytes) -> SmallInfo:
        """The info dict, if it is that of the file wanted. Raises MalformedError."""
        found = parse_small_info(info)
        if found.v2 != self.v2:
            raise MalformedError("info dict of another torrent", expected=self.v2, actual=found.v2)
        if self.file_name is not None and found.name != self.file_name:
            raise MalformedError("file has another name", expected=self.file_name, actual=found.name)
        if self.exact_size is not None and found.size != self.exact_size:
            raise MalformedError(f"{found.name} has another size", expected=self.exact_size, actual=found.size)
        if found.size > self.max_size:
            raise MalformedError(f"{found.name} is too large", expected=f"≤ {self.max_size} bytes", actual=found.size)
        return found


class _State(Enum):
    NAMED = "only its infohash is known"
    FETCHING = "its info dict was checked and its piece asked for"
    FLUSHING = "its piece has come"
    OVER = "ready, refused or failed"


@dataclass(kw_only=True, slots=True)
class _Fetch:
    wanted: Wanted
    handle: Any
    state: _State = _State.NAMED
    info: SmallInfo | None = None


class SmallFetches:
    """The small files on their way. `peers_of`: who a torrent is connected to."""

    def __init__(self, peers_of: Callable[[str], Peers]) -> None:
        self._peers_of = peers_of
        self._fetches: dict[str, _Fetch] = {}
        self._leaving: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._fetches

    def parameters(self, wanted: Wanted, *, find: bool) -> Any:
        """What to give libtorrent: an infohash without trackers or sources; without `find` it looks for nobody."""
        parameters = lt.add_torrent_params()
        parameters.info_hashes = lt.info_hash_t(lt.sha256_hash(bytes.fromhex(wanted.v2)))
        parameters.save_path = os.fspath(wanted.folder)
        parameters.storage_mode = lt.storage_mode_t.storage_mode_sparse
        parameters.flags &= ~lt.torrent_flags.auto_managed
        # paused, until it has been told of peers: resuming it connects to them at once, not at the next whole second
        parameters.flags |= (
            lt.torrent_flags.paused
            | lt.torrent_flags.default_dont_download
            | lt.torrent_flags.disable_dht  # it would announce itself, to be in others' way when it has gone again
            | lt.torrent_flags.override_trackers
            | lt.torrent_flags.override_web_seeds
        )
        if not find:
            parameters.flags |= lt.torrent_flags.disable_lsd | lt.torrent_flags.disable_pex
        return parameters

    def added(self, wanted: Wanted, handle: Any) -> None:
        """libtorrent has taken it."""
        self._fetches[wanted.v2] = _Fetch(wanted=wanted, handle=handle)

    def meet(self, prefix: str, peers: Sequence[tuple[str, int]]) -> None:
        """The DHT knows these peers of an infohash that begins so."""
        for name, fetch in self._fetches.items():
            if name.startswith(prefix) and fetch.state is not _State.OVER:
                alone = not fetch.handle.get_peer_info()
                if alone:
                    fetch.handle.pause()
                for peer in peers:
                    fetch.handle.connect_peer(peer)
                if alone:
                    fetch.handle.resume()

    def remove(self, name: str, session: Any) -> bool:
        """Stop, and delete what came; answered by SmallGone. Whether there was such a fetch."""
        fetch = self._fetches.pop(name, None)
        if fetch is None:
            return False
        self._leaving.add(name)
        session.remove_torrent(fetch.handle, lt.session.delete_files)
        return True

    def close(self) -> None:
        """Let go of the session."""
        self._fetches.clear()

    def translate(self, name: str, kind: str, alert: Any) -> Iterator[SwarmEvent] | None:
        """The events of an alert about a small file; None when it says what it says of any torrent."""
        if kind in {"torrent_deleted_alert", "torrent_delete_failed_alert"}:
            return self._gone(str(alert.info_hashes.v2))
        fetch = self._fetches.get(name)
        if fetch is None:
            return iter(()) if name in self._leaving else None
        if kind in {"metadata_received_alert", "torrent_finished_alert", "state_changed_alert"}:
            return self._step(fetch)
        if kind == "cache_flushed_alert":
            return self._read(fetch)
        return iter(()) if kind == "piece_finished_alert" else None

    def look_again(self) -> Iterator[SwarmEvent]:
        """Alerts were lost: what was missed?"""
        for fetch in list(self._fetches.values()):
            yield from self._step(fetch)
            if fetch.state is _State.FLUSHING:
                fetch.handle.flush_cache()

    def _step(self, fetch: _Fetch) -> Iterator[SwarmEvent]:
        if fetch.state is _State.NAMED and (torrent := fetch.handle.torrent_file()) is not None:
            try:
                fetch.info = fetch.wanted.check(bytes(torrent.info_section()))
            except MalformedError as error:
                fetch.state = _State.OVER
                fetch.handle.pause()
                yield SmallRefused(torrent=fetch.wanted.v2, reason=str(error))
                return
            fetch.state = _State.FETCHING
            fetch.handle.prioritize_files([_NORMAL_PRIORITY])
        elif fetch.state is _State.FETCHING and fetch.handle.status().is_seeding:
            # while nothing is wanted libtorrent calls a torrent finished too
            fetch.state = _State.FLUSHING
            fetch.handle.flush_cache()

    def _read(self, fetch: _Fetch) -> Iterator[SwarmEvent]:
        if fetch.state is not _State.FLUSHING or fetch.info is None:
            return
        fetch.state = _State.OVER
        name = fetch.wanted.v2
        path = fetch.wanted.folder / fetch.info.name
        try:
            with path.open("rb") as file:
                data = file.read(fetch.info.size + 1)
        except OSError as error:
            yield DiskFailed(torrent=name, errno=error.errno or 0, message=f"can't read {path} ({error.strerror})")
            return
        if len(data) != fetch.info.size or small_torrent(fetch.info.name, data).v2 != name:
            yield DiskFailed(torrent=name, errno=0, message=f"{path} doesn't hold what was written to it")
            return
        yield SmallReady(torrent=name, name=fetch.info.name, data=data, peers=self._peers_of(name))

    def _gone(self, name: str) -> Iterator[SwarmEvent]:
        if name in self._leaving:
            self._leaving.discard(name)
            yield SmallGone(torrent=name)
