"""One libtorrent session behind a small interface: torrents in, frozen events out.

With its parts (`swarm_dht`, `swarm_small`, `swarm_trackers`) the only file that knows libtorrent's sessions, handles
and alerts. It decides nothing about models: what to fetch, what to trust and when to stop is `samara.fetcher`'s and
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
from samara.schemas.networks import Network, NetworkPolicy
from samara.schemas.pull_record import Found
from samara.seeder import swarm_trackers
from samara.seeder.name_lookups import NameLookups, addresses
from samara.seeder.swarm_dht import Dht, dht_settings, listen_for, resolve_nodes
from samara.seeder.swarm_events import (
    BlockReceived,
    DiskFailed,
    Downloading,
    EventsLost,
    Finished,
    Flushed,
    ListenFailed,
    ListeningOn,
    PeerBanned,
    PeerLost,
    PeerMet,
    PieceFailed,
    PieceFinished,
    SourceBytes,
    SwarmEvent,
    TorrentStatus,
)
from samara.seeder.swarm_options import SwarmOptions
from samara.seeder.swarm_small import SETTINGS as SMALL_FILE_SETTINGS
from samara.seeder.swarm_small import SmallFetches, Wanted
from samara.seeder.swarm_trackers import with_trackers
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

_FOUND: tuple[tuple[int, Found], ...] = (
    (lt.peer_info.tracker, "tracker"),
    (lt.peer_info.dht, "dht"),
    (lt.peer_info.pex, "exchange"),
    (lt.peer_info.lsd, "lan"),
)
_WRITTEN = 3  # block_info::finished, which the binding has no name for
_BLOCKED = 1  # in libtorrent's address filter
_USUAL, _TOP = 4, 7  # libtorrent's priorities of pieces

HURRIED = 64  # pieces in a hurry at once: libtorrent looks at each of them again and again
_APART = 50  # milliseconds
HANDFUL = 0.01  # seconds between two looks at what has happened


class Swarm:
    """One session. Use as a context manager. Raises UsageError for a DHT node whose name has no address.

    `finds_peers`: whether it can find peers that nobody told it of.
    """

    def __init__(self, options: SwarmOptions) -> None:
        profile = options.profile
        alerts = _ALERTS | lt.alert_category.block_progress if options.count_blocks else _ALERTS
        nodes = resolve_nodes(options.dht_nodes, addresses)
        self._listen = ",".join(listen_for(options.listen, nodes))
        parameters = lt.session_params()
        settings: Any = {
            "alert_queue_size": 20_000, **profile.settings, **SMALL_FILE_SETTINGS, **swarm_trackers.SETTINGS
        }  # fmt: skip
        settings.update(dht_settings(nodes, enabled=options.dht))
        settings["dht_read_only"] = options.dht_read_only
        settings.update(
            {
                "alert_mask": alerts,
                "allow_multiple_connections_per_ip": True,  # a whole lab may sit behind one address
                "close_redundant_connections": False,
                "connection_speed": 100,
                "download_rate_limit": options.download_limit,
                "enable_lsd": options.lan,
                "enable_natpmp": options.port_mapping,
                "enable_upnp": options.port_mapping,
                "handshake_timeout": 10,
                "listen_interfaces": self._listen,
                "listen_system_port_fallback": False,  # a taken port is an error, not a reason to take another
                "max_retry_port_bind": 0,
                "min_reconnect_time": 2,
                "peer_connect_timeout": 7,
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
        self._first: dict[str, range] = {}
        self._names = NameLookups()
        self._waiting_for_names: dict[tuple[str, int], set[str]] = {}
        self._polled_at = 0.0
        self.finds_peers = options.dht or options.lan
        self._trackers = options.trackers
        self._small = SmallFetches(self.peers)
        self._dht = Dht(self._session, nodes, enabled=options.dht, alerts=alerts)
        self._networks = NetworkPolicy(only=options.networks)
        if options.networks:
            self._keep_within(options.networks)
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
        return self._add(parameters, self._trackers)

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
        """Fetch into the file at `path`, believing that the pieces in `have` are already there, and of some others the
        `leaves` (16 KiB each). The pieces `first` before others; all `in_order` if so wished.

        It asks nobody until `begin`, which belongs to its Downloading event.
        """
        parameters = _parameters(torrent, path.parent, path.name)
        parameters.flags |= lt.torrent_flags.paused
        if in_order:
            parameters.flags |= lt.torrent_flags.sequential_download
        elif first:  # of pieces with the highest priority libtorrent takes the rarest first, not the lowest
            parameters.piece_priorities = [_TOP if n in first else _USUAL for n in range(len(have))]
        # also when all are False: without it libtorrent would first check a file that is already there, and a torrent
        # that waits for `begin` never gets to that
        parameters.have_pieces = list(have)
        parameters.unfinished_pieces = {piece: list(there) for piece, there in leaves.items()}
        name = self._add(parameters, self._trackers)
        self._first[name] = range(0) if in_order else first
        return name

    def hold_back(self, name: str, pieces: Iterable[int]) -> None:
        """Somebody else is at these pieces of a fetch: don't ask peers for them."""
        self._handles[name].prioritize_pieces([(piece, 0) for piece in pieces])

    def ask_for(self, name: str, pieces: Iterable[int]) -> None:
        """Nobody else is at these pieces any more: ask peers for them."""
        first = self._first.get(name, range(0))
        self._handles[name].prioritize_pieces([(piece, _TOP if piece in first else _USUAL) for piece in pieces])

    def hurry(self, name: str, pieces: Sequence[int]) -> None:
        """Somebody waits for these pieces of a fetch, in this order: they come before all others from now on.

        What another source is at (`hold_back`) is left to it.
        """
        handle = self._handles[name]
        self._first[name] = range(pieces[0], pieces[-1] + 1) if pieces else range(0)
        wanted = handle.get_piece_priorities()
        handle.clear_piece_deadlines()
        for order, piece in enumerate(pieces[:HURRIED]):
            if wanted[piece]:
                handle.set_piece_deadline(piece, order * _APART)

    def in_progress(self, name: str) -> frozenset[int]:
        """The pieces of a fetch that have come, or come in part, or that peers were asked for, as of this moment."""
        # in this order: a piece that moves from the one to the other in between is seen twice, not missed
        asked = {int(entry["piece_index"]) for entry in self._handles[name].get_download_queue()}
        return frozenset(asked.union(self.pieces(name)))

    def unfinished(self, name: str) -> Mapping[int, Sequence[bool]]:
        """Of pieces that have come in part: which of their 16 KiB are in the file."""
        found = {}
        for entry in self._handles[name].get_download_queue():
            there = [block["state"] == _WRITTEN for block in entry["blocks"]]
            if any(there):
                found[int(entry["piece_index"])] = there
        return found

    def add_piece(self, name: str, piece: int, data: bytes) -> None:
        """A piece that came by another way, whole and right: answered by PieceFinished, and given to peers too."""
        self._handles[name].add_piece(piece, data, 0)

    def pause(self) -> None:
        """Let go of every connection until `go_on`."""
        self._session.pause()

    def go_on(self) -> None:
        """After `pause`. Torrents find their peers again when they are told of them (`begin`)."""
        self._session.resume()

    def limit(self, *, up: int | None = None, down: int | None = None) -> None:
        """Cap what goes out and comes in from now on (bytes per second, 0: no cap)."""
        wanted = {"upload_rate_limit": up, "download_rate_limit": down}
        self._session.apply_settings({name: rate for name, rate in wanted.items() if rate is not None})
        if up or down:
            self._cap_local_peers_too()

    def add_small_seed(self, torrent: bytes, path: Path) -> str:
        """Give the small file at `path`, of `schemas.bittorrent.small_torrent`. Returns its v2 infohash.

        Its bytes are hashed before they are first given; if they aren't those of the torrent, that is told by
        PieceFailed or Downloading. Of a foreign .torrent nothing but the info dict is used. Raises MalformedError.
        """
        parameters = _small_parameters(torrent, path.parent, path.name)
        parameters.flags |= lt.torrent_flags.upload_mode | lt.torrent_flags.seed_mode
        return self._add(parameters, ())

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
        self._first.pop(name, None)
        self._dht.forget(name)
        if handle is not None and not self._small.remove(name, self._session):
            self._session.remove_torrent(handle)

    def connect(self, name: str, endpoints: Iterable[tuple[str, int]]) -> dict[str, str]:
        """Try these peers (host, port). Returns the endpoints that have no address, and why.

        A name whose look-up takes long is tried when its answer comes; if that is none, the next call says so.
        """
        lost: dict[str, str] = {}
        for host, port in endpoints:
            try:
                found = self._names.ask(host, port)
            except OSError as error:
                lost[format_endpoint((host, port))] = f"can't find its address ({error.strerror or error})"
                continue
            if found is None:
                self._waiting_for_names.setdefault((host, port), set()).add(name)
                continue
            refused = [why for address in found if (why := self._networks.why_not(address[0], vouched=True))]
            if len(refused) == len(found):
                lost[format_endpoint((host, port))] = refused[0]
            for address in found:  # one outside the networks is refused by libtorrent's filter
                self._handles[name].connect_peer(address)
        return lost

    def listen_anew(self) -> None:
        """On other ports, unless a port was chosen: who still has our dead connection refuses the same address and port
        as a second one.
        """
        if not self._chosen and self._listen:
            self._session.apply_settings({"listen_interfaces": ""})
            self._session.apply_settings({"listen_interfaces": self._listen})

    def forgive(self, address: str) -> None:
        """Talk to a banned address again."""
        blocked = self._session.get_ip_filter()
        blocked.add_rule(address, address, 0)
        self._session.set_ip_filter(blocked)

    def _connect_to_names(self) -> None:
        for endpoint in self._names.answered():
            torrents = self._waiting_for_names.pop(endpoint, set())
            for name in torrents.intersection(self._handles):
                self.connect(name, [endpoint])

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
        blocked.add_rule(address, address, _BLOCKED)
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
        self._connect_to_names()
        self._session.wait_for_alert(max(0, int(timeout * 1000)))
        # thousands of pieces a second are taken in handfuls: each wake-up costs more than what it brings
        time.sleep(max(0.0, min(timeout, self._polled_at + HANDFUL - time.monotonic())))
        self._polled_at = time.monotonic()
        events: list[SwarmEvent] = []
        for alert in self._session.pop_alerts():
            events.extend(self._translate(alert))
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

    @property
    def has_peers(self) -> bool:
        """Whether peers may bring something."""
        return True

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
        """Who has given and taken how much, of the connections that are open now."""
        return tuple(
            SourceBytes(
                source=format_endpoint(peer.ip),
                found=_found(peer),
                downloaded=peer.total_download,
                uploaded=peer.total_upload,
            )
            for peer in self._handles[name].get_peer_info()
            if peer.connection_type == lt.peer_info.standard_bittorrent
        )

    def _add(self, parameters: Any, trackers: Sequence[str]) -> str:
        name = str(parameters.ti.info_hashes().v2)
        if name in self._handles:
            raise UsageError(f"torrent {name} is already in this session")
        try:
            self._handles[name] = self._session.add_torrent(with_trackers(parameters, trackers))
        except RuntimeError as error:
            raise MalformedError(f"libtorrent refuses torrent {name} ({error})") from None
        return name

    def _cap_local_peers_too(self) -> None:
        # by default libtorrent exempts loopback and LAN from its caps: put every address into the global peer class
        everyone = lt.ip_filter()
        everyone.add_rule("0.0.0.0", "255.255.255.255", 1 << self._session.global_peer_class_id)  # noqa: S104
        everyone.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1 << self._session.global_peer_class_id)
        self._session.set_peer_class_filter(everyone)

    def _keep_within(self, networks: Iterable[Network]) -> None:
        allowed = lt.ip_filter()
        allowed.add_rule("0.0.0.0", "255.255.255.255", _BLOCKED)  # noqa: S104
        allowed.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", _BLOCKED)
        for network in networks:
            allowed.add_rule(str(network.network_address), str(network.broadcast_address), 0)
        self._session.set_ip_filter(allowed)

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
        elif kind == "peer_connect_alert":
            yield PeerMet(torrent=name, endpoint=format_endpoint(alert.endpoint))
        elif kind == "block_finished_alert":
            if alert.endpoint[1] != 0:  # else we added it ourselves
                yield BlockReceived(
                    torrent=name, endpoint=format_endpoint(alert.endpoint), piece=int(alert.piece_index)
                )
        elif kind in {"peer_disconnected_alert", "peer_error_alert"}:
            reason = str(alert.error.message())
            yield PeerLost(torrent=name, endpoint=format_endpoint(alert.endpoint), reason=reason)
        elif kind in {"file_error_alert", "torrent_error_alert"}:
            yield DiskFailed(torrent=name, errno=_errno(alert.error), message=str(alert.error.message()))
        elif kind == "alerts_dropped_alert":
            yield EventsLost()
            yield from self._small.look_again()
        elif (failed := swarm_trackers.translate(name, kind, alert)) is not None:
            yield from failed
        elif kind == "listen_succeeded_alert":
            if "tcp" in str(alert.socket_type).lower():
                yield ListeningOn(endpoint=format_endpoint((str(alert.address), int(alert.port))))
        elif kind == "listen_failed_alert":
            endpoint = format_endpoint((str(alert.address), int(alert.port)))
            yield ListenFailed(endpoint=endpoint, message=str(alert.error.message()))

    def _banned(self, torrent: str, endpoint: tuple[str, int]) -> SwarmEvent:
        self.ban(endpoint[0])
        return PeerBanned(torrent=torrent, endpoint=format_endpoint(endpoint))


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


def _is_at(endpoint: str, chosen: str) -> bool:
    """Whether an endpoint of the session's is what `chosen` asked for: an address, all of them, or an interface."""
    (host, port), (chosen_host, chosen_port) = parse_endpoint(endpoint), parse_endpoint(chosen)
    try:
        address = ipaddress.ip_address(chosen_host)
    except ValueError:
        return port == chosen_port
    return port == chosen_port and (address.is_unspecified or address == ipaddress.ip_address(host))


def _found(peer: Any) -> frozenset[Found]:
    if not peer.flags & lt.peer_info.local_connection:
        return frozenset({"incoming"})
    return frozenset(how for flag, how in _FOUND if peer.source & flag)


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
