"""One libtorrent session behind a small interface: torrents in, frozen events out.

With its two parts `swarm_dht` and `swarm_small` the only file that knows libtorrent's sessions, handles and alerts. It
decides nothing about models: what to fetch, what to trust and when to stop is `samara.fetcher`'s and
`samara.seeder.seed`'s business. Not thread-safe: one thread calls it, other threads get the events which that thread
hands on.

What libtorrent says and what it means (each of these was seen to bite):
- a finished piece is not yet in the file: read it only after `flush` and the Flushed event, or retry on a mismatch;
- `have` is believed absolutely: claim only what was checked;
- alerts die at the next pop: they are copied into events at once.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import libtorrent as lt

from samara.registry.trust.beacons import public_of_seed
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.endpoints import format_endpoint, parse_endpoint
from samara.schemas.errors import MalformedError, NetworkError, UsageError
from samara.seeder.mirrors import MirrorBook
from samara.seeder.swarm_dht import Dht, dht_settings, listen_for, resolve_nodes
from samara.seeder.swarm_events import (
    WRONG_BYTES,
    DiskFailed,
    Downloading,
    EventsLost,
    Finished,
    Flushed,
    ListenFailed,
    ListeningOn,
    MirrorFailed,
    PeerBanned,
    PeerLost,
    PieceFailed,
    PieceFinished,
    SourceBytes,
    SwarmEvent,
    TorrentStatus,
)
from samara.seeder.swarm_options import SwarmOptions
from samara.seeder.swarm_small import SETTINGS as SMALL_FILE_SETTINGS
from samara.seeder.swarm_small import SmallFetches, Wanted
from samara.seeder.torrent import small_torrent_info, torrent_info

_USER_AGENT = "samara"
_ALERTS = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.storage
    | lt.alert_category.peer
    | lt.alert_category.connect
    | lt.alert_category.dht_operation
    | lt.alert_category.piece_progress
)

_DHT_ALERTS = frozenset({"session_stats_alert", "dht_mutable_item_alert", "dht_put_alert"})

HANDFUL = 0.01  # seconds between two looks at what has happened


class Swarm:
    """One session. Use as a context manager. Raises UsageError for a DHT node whose name has no address.

    `finds_peers`: whether it can find peers that nobody told it of.
    """

    def __init__(self, options: SwarmOptions) -> None:
        profile = options.profile
        nodes = resolve_nodes(options.dht_nodes, _addresses)
        parameters = lt.session_params()
        settings: Any = {"alert_queue_size": 20_000, **profile.settings, **SMALL_FILE_SETTINGS}
        settings.update(dht_settings(nodes, enabled=options.dht))
        settings["dht_read_only"] = options.dht_read_only
        settings.update(
            {
                "alert_mask": _ALERTS,
                "allow_multiple_connections_per_ip": True,  # a whole lab may sit behind one address
                "announce_to_all_tiers": True,
                "announce_to_all_trackers": True,
                "close_redundant_connections": False,
                "connection_speed": 100,
                "download_rate_limit": options.download_limit,
                "enable_lsd": options.lan,
                "enable_natpmp": options.port_mapping,
                "enable_upnp": options.port_mapping,
                "handshake_timeout": 10,
                "listen_interfaces": ",".join(listen_for(options.listen, nodes)),
                "listen_system_port_fallback": False,  # a taken port is an error, not a reason to take another
                "max_retry_port_bind": 0,
                "min_reconnect_time": 2,
                "peer_connect_timeout": 7,
                "ssrf_mitigation": False,  # it breaks mirrors on one's own network, which a pinned publisher may name
                "stop_tracker_timeout": 1,
                "unchoke_slots_limit": -1,
                "upload_rate_limit": options.upload_limit,
                "user_agent": _USER_AGENT,
            }
        )
        parameters.settings = settings
        if profile.posix_disk:
            parameters.disk_io_constructor = "posix_disk_io_constructor"
        self._session: Any = lt.session(parameters)
        self._chosen = frozenset(text for text in options.listen if parse_endpoint(text)[1] != 0)
        self._handles: dict[str, Any] = {}
        self._polled_at = 0.0
        self.finds_peers = options.dht or options.lan
        self._mirrors = MirrorBook(_known_addresses)
        self._small = SmallFetches(self.peers)
        self._dht = Dht(self._session, nodes, enabled=options.dht, alerts=_ALERTS)
        if options.upload_limit or options.download_limit:
            self._cap_local_peers_too()

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything; returns when libtorrent's threads have ended."""
        self._handles.clear()
        self._dht.close()
        self._small.close()
        self._session = None

    # -- torrents ------------------------------------------------------------------------------------------------

    def add_seed(self, torrent: bytes, path: Path, *, check_first: bool) -> str:
        """Give the whole file at `path`, in place, to its swarm. Returns the torrent's name here (v2 infohash).

        The file is never written to: if it turns out not to be whole, that is told by Downloading or PieceFailed.
        With `check_first` each piece is hashed before it is first given (libtorrent's seed mode), which costs as much
        processor time as giving it; without, the file must have been verified lately.
        """
        parameters = _parameters(torrent, path.parent, path.name)
        # else libtorrent would mend the file from other peers, in place, as soon as it finds a piece wrong
        parameters.flags |= lt.torrent_flags.upload_mode
        if check_first:
            parameters.flags |= lt.torrent_flags.seed_mode
        else:
            parameters.have_pieces = [True] * parameters.ti.num_pieces()
        return self._add(parameters)

    def add_fetch(
        self,
        torrent: bytes,
        path: Path,
        have: Sequence[bool],
        *,
        leaves: Mapping[int, Sequence[bool]] = MappingProxyType({}),
        mirrors: Iterable[str] = (),
        peers_first: bool = True,
    ) -> str:
        """Fetch into the file at `path`, believing that the pieces in `have` are already there, and of some others the
        `leaves` (16 KiB each).

        With `peers_first` it asks nobody until `begin`, which belongs to its Downloading event; without, it asks
        mirrors at once. Whoever isn't first is asked at libtorrent's next whole second.
        """
        parameters = _parameters(torrent, path.parent, path.name)
        if peers_first:
            parameters.flags |= lt.torrent_flags.paused
        # also when all are False: without it libtorrent would first check a file that is already there, and a torrent
        # that waits for `begin` never gets to that
        parameters.have_pieces = list(have)
        parameters.unfinished_pieces = {piece: list(there) for piece, there in leaves.items()}
        parameters.url_seeds = list(mirrors)
        name = self._add(parameters)
        self._mirrors.add(name, parameters.url_seeds)
        return name

    def add_small_seed(self, torrent: bytes, path: Path) -> str:
        """Give the small file at `path`, of `schemas.bittorrent.small_torrent`. Returns its v2 infohash.

        Its bytes are hashed before they are first given; if they aren't those of the torrent, that is told by
        PieceFailed or Downloading. Of a foreign .torrent nothing but the info dict is used. Raises MalformedError.
        """
        parameters = _small_parameters(torrent, path.parent, path.name)
        parameters.flags |= lt.torrent_flags.upload_mode | lt.torrent_flags.seed_mode
        return self._add(parameters)

    def add_small_fetch(
        self,
        v2_hex: str,
        folder: Path,
        *,
        max_size: int = MAX_SMALL_FILE,
        exact_size: int | None = None,
        file_name: str | None = None,
        peers: Iterable[tuple[str, int]] = (),
        find: bool = True,
    ) -> str:
        """Fetch the small file of an infohash (64 hex digits) into `folder`, from `peers` (host, port) and those found.

        Without `find` from `peers` alone.

        What a peer says is in the torrent is checked before any of it is asked for; then SmallReady or SmallRefused.
        `folder` is the caller's, for this file alone. `remove` deletes what came, and is answered by SmallGone.
        """
        wanted = Wanted(v2=v2_hex, folder=folder, max_size=max_size, exact_size=exact_size, file_name=file_name)
        if v2_hex in self._handles:
            raise UsageError(f"torrent {v2_hex} is already in this session")
        handle = self._session.add_torrent(self._small.parameters(wanted, find=find))
        self._handles[v2_hex] = handle
        self._small.added(wanted, handle)
        self.connect(v2_hex, peers)
        handle.resume()
        if find:
            self._dht.find_peers(v2_hex)
        return v2_hex

    def begin(self, name: str, peers: Iterable[tuple[str, int]]) -> dict[str, str]:
        """Start to fetch, from these peers (host, port) first. Returns what `connect` does."""
        # resuming a paused torrent connects it to the peers it knows at once
        lost = self.connect(name, peers)
        self._handles[name].resume()
        self._dht.announce(name, self._handles[name])
        return lost

    def __contains__(self, name: object) -> bool:
        """Whether a torrent of that name is in this session."""
        return name in self._handles

    def remove(self, name: str) -> None:
        """Stop with one torrent; its file stays, unless it is a small one that was fetched."""
        handle = self._handles.pop(name, None)
        self._dht.forget(name)
        if handle is not None and not self._small.remove(name, self._session):
            self._session.remove_torrent(handle)

    def connect(self, name: str, endpoints: Iterable[tuple[str, int]]) -> dict[str, str]:
        """Try these peers (host, port). Returns the endpoints that have no address, and why."""
        lost: dict[str, str] = {}
        for host, port in endpoints:
            try:
                addresses = _addresses(host, port)
            except OSError as error:
                lost[format_endpoint((host, port))] = f"can't find its address ({error.strerror or error})"
                continue
            for address in addresses:
                self._handles[name].connect_peer(address)
        return lost

    def peers(self, name: str) -> tuple[tuple[str, int], ...]:
        """The peers (host, port) a torrent is connected to, as far as they can be called: to ask them for another."""
        outgoing, not_yet = lt.peer_info.local_connection, lt.peer_info.connecting | lt.peer_info.handshake
        return tuple(
            (str(peer.ip[0]), int(peer.ip[1]))
            for peer in self._handles[name].get_peer_info()
            if peer.connection_type == lt.peer_info.standard_bittorrent and peer.flags & outgoing
            if not peer.flags & not_yet
        )

    def ban(self, address: str) -> None:
        """Talk no more to an address: where several connections from one are allowed libtorrent bans one port alone."""
        blocked = self._session.get_ip_filter()
        blocked.add_rule(address, address, 1)
        self._session.set_ip_filter(blocked)

    def look_for_peers(self, name: str) -> None:
        """Ask the DHT for a small file's peers once more."""
        self._dht.find_peers(name)

    # -- DHT items (BEP 44) --------------------------------------------------------------------------------------

    @property
    def has_dht(self) -> bool:
        """Whether the session takes part in a DHT."""
        return self._dht.enabled

    @property
    def dht_size(self) -> int:
        """How many nodes of it are known: 0, and nothing can be looked up or stored."""
        return self._dht.size

    def put_item(self, seed32: bytes, value: bytes, salt: bytes) -> bytes:
        """Store a value of 1…996 bytes under an Ed25519 key, given as its seed; answered by ItemPut. Its public half.

        Raises MalformedError for a value that no node would take, UsageError for what is no seed.
        """
        public = public_of_seed(seed32)
        self._dht.put(seed32, public, value, salt, time.monotonic())
        return public

    def get_item(self, public32: bytes, salt: bytes) -> None:
        """Look up what a key has signed; answered by ItemFound, once or more, in the end with `authoritative`."""
        self._dht.get(public32, salt, time.monotonic())

    def allow_utp(self) -> None:
        """TCP found nobody: allow outgoing uTP, which can punch through NATs."""
        self._session.apply_settings({"enable_outgoing_utp": True})

    def flush(self, name: str) -> None:
        """Ask for everything finished so far to be written; answered by Flushed."""
        self._handles[name].flush_cache()

    # -- what happens --------------------------------------------------------------------------------------------

    def poll(self, timeout: float) -> tuple[SwarmEvent, ...]:
        """Wait up to `timeout` seconds for something to happen; everything that has, in order."""
        self._dht.tick(time.monotonic())
        self._session.wait_for_alert(max(0, int(timeout * 1000)))
        # thousands of pieces a second are taken in handfuls: each wake-up costs more than what it brings
        time.sleep(max(0.0, min(timeout, self._polled_at + HANDFUL - time.monotonic())))
        self._polled_at = time.monotonic()
        events: list[SwarmEvent] = []
        unexplained = self._mirrors.unexplained()
        for alert in self._session.pop_alerts():
            events.extend(self._translate(alert))
        still = self._mirrors.unexplained()
        for torrent, url in (pair for pair in unexplained if pair in still):
            self._mirrors.forget_unexplained(torrent, url)
            events.append(MirrorFailed(torrent=torrent, url=url, reason="failed for no reason given"))
        return tuple(events)

    def wait_listening(self, timeout: float) -> tuple[str, ...]:
        """The endpoints listened on. Raises NetworkError when there is none, or one whose port was chosen can't be."""
        deadline = time.monotonic() + timeout
        failed: ListenFailed | None = None
        found: list[str] = []
        undecided = set(self._chosen)
        while time.monotonic() < deadline and (undecided or not found):
            for happened in self.poll(0.2):
                if isinstance(happened, ListeningOn):
                    found.append(happened.endpoint)
                    undecided = {chosen for chosen in undecided if not _is_at(happened.endpoint, chosen)}
                elif isinstance(happened, ListenFailed):
                    failed = happened if failed is None or happened.was_chosen else failed
            if failed is not None and (failed.was_chosen or not found):
                raise failed.as_error()
        if undecided:
            raise NetworkError(
                f"can't listen on {', '.join(sorted(undecided))}: no address of this machine",
                next_step="choose another --listen address",
            )
        if not found:
            raise NetworkError("can't listen: the session reported no address", next_step="check --listen")
        return tuple(dict.fromkeys(found))

    def status(self, name: str) -> TorrentStatus:
        """Where one torrent stands now."""
        status = self._handles[name].status(lt.torrent_handle.query_accurate_download_counters)
        return TorrentStatus(
            peers=status.num_peers,
            down_rate=status.download_payload_rate,
            up_rate=status.upload_payload_rate,
            downloaded=status.total_payload_download,
            uploaded=status.total_payload_upload,
            wasted=status.total_failed_bytes + status.total_redundant_bytes,
        )

    def pieces(self, name: str) -> tuple[int, ...]:
        """The pieces that have passed their check, whether or not an event said so."""
        present = self._handles[name].status(lt.torrent_handle.query_pieces).pieces
        return tuple(piece for piece, there in enumerate(present) if there)

    def sources(self, name: str) -> tuple[SourceBytes, ...]:
        """Who has given how much, of the connections that are open now."""
        found = []
        for peer in self._handles[name].get_peer_info():
            is_mirror = peer.connection_type != lt.peer_info.standard_bittorrent
            found.append(
                SourceBytes(source=format_endpoint(peer.ip), is_mirror=is_mirror, downloaded=peer.total_download)
            )
        return tuple(found)

    def _add(self, parameters: Any) -> str:
        name = str(parameters.ti.info_hashes().v2)
        if name in self._handles:
            raise UsageError(f"torrent {name} is already in this session")
        try:
            self._handles[name] = self._session.add_torrent(parameters)
        except RuntimeError as error:
            raise MalformedError(f"libtorrent refuses torrent {name} ({error})") from None
        return name

    def _cap_local_peers_too(self) -> None:
        # by default libtorrent exempts loopback and LAN from its caps: put every address into the global peer class
        everyone = lt.ip_filter()
        everyone.add_rule("0.0.0.0", "255.255.255.255", 1 << self._session.global_peer_class_id)  # noqa: S104
        everyone.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1 << self._session.global_peer_class_id)
        self._session.set_peer_class_filter(everyone)

    def _translate(self, alert: Any) -> Iterator[SwarmEvent]:
        kind = type(alert).__name__
        name = _name(alert)
        small = self._small.translate(name, kind, alert)
        if small is not None:
            yield from small
            return
        if kind in _DHT_ALERTS:
            yield from self._dht.translate(kind, alert)
        elif (found := self._dht.peers_found(kind, alert)) is not None:
            self._small.meet(*found)
        elif kind == "piece_finished_alert":
            yield PieceFinished(torrent=name, piece=int(alert.piece_index))
        elif kind == "cache_flushed_alert":
            yield Flushed(torrent=name)
        elif kind == "state_changed_alert":
            if name in self._handles:  # its file has been looked at: only from now on it is announced
                self._dht.announce(name, self._handles[name])
            if alert.state == lt.torrent_status.states.downloading:
                yield Downloading(torrent=name)
        elif kind == "torrent_finished_alert":
            yield Finished(torrent=name)
        elif kind == "hash_failed_alert":
            yield PieceFailed(torrent=name, piece=int(alert.piece_index))
        elif kind == "peer_ban_alert":
            yield self._banned(name, alert.endpoint)
        elif kind == "url_seed_alert":
            if alert.error.value():
                yield MirrorFailed(torrent=name, url=str(alert.server_url()), reason=_why(alert.error))
            else:
                self._mirrors.failed(name, str(alert.server_url()))
        elif kind == "peer_disconnected_alert":
            never_came = alert.op == lt.operation_t.connect
            yield from self._lost(name, alert.endpoint, str(alert.error.message()), for_good=never_came)
        elif kind == "peer_error_alert":
            yield from self._lost(name, alert.endpoint, str(alert.error.message()), for_good=True)
        elif kind in {"file_error_alert", "torrent_error_alert"}:
            yield DiskFailed(torrent=name, errno=_errno(alert.error), message=str(alert.error.message()))
        elif kind == "alerts_dropped_alert":
            yield EventsLost()
            yield from self._small.look_again()
        elif kind == "listen_succeeded_alert":
            if "tcp" in str(alert.socket_type).lower():
                yield ListeningOn(endpoint=format_endpoint((str(alert.address), int(alert.port))))
        elif kind == "listen_failed_alert":
            endpoint = format_endpoint((str(alert.address), int(alert.port)))
            yield ListenFailed(endpoint=endpoint, message=str(alert.error.message()))

    def _banned(self, torrent: str, endpoint: tuple[str, int]) -> SwarmEvent:
        url = self._mirrors.banned(torrent, endpoint)
        if url is not None:
            return MirrorFailed(torrent=torrent, url=url, reason=WRONG_BYTES)
        self.ban(endpoint[0])
        return PeerBanned(torrent=torrent, endpoint=format_endpoint(endpoint))

    def _lost(
        self, torrent: str, endpoint: tuple[str, int], reason: str, *, for_good: bool
    ) -> Iterator[SwarmEvent]:  # fmt: skip
        # a mirror may well hang up and be asked again; it has failed when it never came, or broke HTTP
        url = self._mirrors.lost(torrent, endpoint) or (self._mirrors.at(torrent, endpoint) if for_good else None)
        if url is not None:
            yield MirrorFailed(torrent=torrent, url=url, reason=reason)
        elif not self._mirrors.is_liar(torrent, endpoint):
            yield PeerLost(torrent=torrent, endpoint=format_endpoint(endpoint), reason=reason)


def _parameters(torrent: bytes, folder: Path, file_name: str) -> Any:
    return _parameters_of(torrent_info(torrent), folder, file_name)


def _small_parameters(torrent: bytes, folder: Path, file_name: str) -> Any:
    return _parameters_of(small_torrent_info(torrent), folder, file_name)


def _parameters_of(info: lt.torrent_info, folder: Path, file_name: str) -> Any:
    parameters = lt.add_torrent_params()
    parameters.ti = info
    parameters.save_path = os.fspath(folder)
    parameters.renamed_files = {0: file_name}
    parameters.storage_mode = lt.storage_mode_t.storage_mode_sparse
    # auto-managed torrents are queued and paused by libtorrent's own policy; ours run when we say so
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    parameters.flags |= lt.torrent_flags.override_trackers | lt.torrent_flags.override_web_seeds
    return parameters


def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        return [(str(ipaddress.ip_address(host)), port)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError:  # UnicodeError among them: what can't be the name of a host
        raise socket.gaierror(socket.EAI_NONAME, "not the name of a host") from None
    return list(dict.fromkeys((str(item[4][0]), port) for item in found))


def _is_at(endpoint: str, chosen: str) -> bool:
    """Whether an endpoint of the session's is what `chosen` asked for: an address, all of them, or an interface."""
    (host, port), (chosen_host, chosen_port) = parse_endpoint(endpoint), parse_endpoint(chosen)
    try:
        address = ipaddress.ip_address(chosen_host)
    except ValueError:
        return port == chosen_port
    return port == chosen_port and (address.is_unspecified or address == ipaddress.ip_address(host))


def _known_addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        return _addresses(host, port)
    except OSError:
        return []


def _why(error: Any) -> str:
    message = str(error.message())
    return WRONG_BYTES if message == "peer banned" else message


def _errno(error: Any) -> int:
    # other categories number their errors too, from 1 on
    return int(error.value()) if error.category().name() in {"system", "generic"} else 0


def _name(alert: Any) -> str:
    handle = getattr(alert, "handle", None)
    if handle is None:
        return ""
    try:
        hashes = handle.info_hashes()
        return str(hashes.v2) if hashes.has_v2() else ""
    except RuntimeError:  # the torrent was removed while its last alerts were on their way
        return ""
