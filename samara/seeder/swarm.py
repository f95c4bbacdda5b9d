"""One libtorrent session behind a small interface: torrents in, frozen events out.

With its parts (the files `swarm_…` beside it) the only one that knows libtorrent's sessions, handles and alerts. It
decides nothing about models: what to fetch, what to trust and when to stop is `samara.fetcher`'s and
`samara.seeder.seed`'s business. Not thread-safe: one thread calls it, other threads get the events which that thread
hands on.

What libtorrent says and what it means (each of these was seen to bite):
- a finished piece is not yet in the file: read it only after `flush` and the Flushed event, or retry on a mismatch;
- `have` is believed absolutely: claim only what was checked;
- alerts die at the next pop: they are copied into events at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import libtorrent as lt

from samara.registry.trust.beacons import public_of_seed
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.endpoints import format_endpoint, parse_endpoint
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.networks import NetworkPolicy
from samara.seeder.name_lookups import NameLookups, addresses
from samara.seeder.swarm_alerts import source_bytes, torrent_of, translate
from samara.seeder.swarm_dht import Dht, listen_for, resolve_nodes
from samara.seeder.swarm_events import EventsLost, SourceBytes, SwarmEvent, TorrentStatus
from samara.seeder.swarm_filter import block, cap_local_peers_too, keep_within, unblock
from samara.seeder.swarm_listening import ListenOutcome
from samara.seeder.swarm_options import SwarmOptions
from samara.seeder.swarm_settings import alerts_of, blob_parameters, session_parameters, small_parameters
from samara.seeder.swarm_small import SmallFetches, Wanted
from samara.seeder.swarm_trackers import with_trackers

_WRITTEN = 3  # block_info::finished, which the binding has no name for
_USUAL, _TOP = 4, 7  # libtorrent's priorities of pieces

HURRIED = 64  # pieces in a hurry at once: libtorrent looks at each of them again and again
_APART = 50  # milliseconds
HANDFUL = 0.01  # seconds between two looks at what has happened


class Swarm:
    """One session. Use as a context manager. Raises UsageError for a DHT node whose name has no address.

    `finds_peers`: whether it can find peers that nobody told it of.
    """

    def __init__(self, options: SwarmOptions) -> None:
        nodes = resolve_nodes(options.dht_nodes, addresses)
        self._listen = ",".join(listen_for(options.listen, nodes))
        self._session: Any = lt.session(session_parameters(options, listen=self._listen, dht_nodes=nodes))
        self._chosen = frozenset(text for text in options.listen if parse_endpoint(text)[1] != 0)
        self._handles: dict[str, Any] = {}
        self._first: dict[str, range] = {}
        self._names = NameLookups()
        self._waiting_for_names: dict[tuple[str, int], set[str]] = {}
        self._polled_at = 0.0
        self.finds_peers = options.dht or options.lan
        self._trackers = options.trackers
        self._small = SmallFetches(self.peers)
        self._dht = Dht(self._session, nodes, enabled=options.dht, alerts=alerts_of(options))
        self._networks = NetworkPolicy(only=options.networks)
        if options.networks:
            keep_within(self._session, options.networks)
        if options.upload_limit or options.download_limit:
            cap_local_peers_too(self._session)

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
        parameters = blob_parameters(torrent, path)
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
        parameters = blob_parameters(torrent, path)
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
            cap_local_peers_too(self._session)

    def add_small_seed(self, torrent: bytes, path: Path) -> str:
        """Give the small file at `path`, of `schemas.bittorrent.small_torrent`. Returns its v2 infohash.

        Its bytes are hashed before they are first given; if they aren't those of the torrent, that is told by
        PieceFailed or Downloading. Of a foreign .torrent nothing but the info dict is used. Raises MalformedError.
        """
        parameters = small_parameters(torrent, path)
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

    def _connect_to_names(self) -> None:
        for endpoint in self._names.answered():
            torrents = self._waiting_for_names.pop(endpoint, set())
            for name in torrents.intersection(self._handles):
                self.connect(name, [endpoint])

    def listen_anew(self) -> None:
        """On other ports, unless a port was chosen: who still has our dead connection refuses the same address and port
        as a second one.
        """
        if not self._chosen and self._listen:
            self._session.apply_settings({"listen_interfaces": ""})
            self._session.apply_settings({"listen_interfaces": self._listen})

    def ban(self, address: str) -> None:
        """Talk no more to an address: where several connections from one are allowed libtorrent bans one port alone."""
        block(self._session, address)

    def forgive(self, address: str) -> None:
        """Talk to a banned address again."""
        unblock(self._session, address)

    def peers(self, name: str) -> tuple[tuple[str, int], ...]:
        """The peers (host, port) a torrent is connected to, as far as they can be called: to ask them for another."""
        outgoing, not_yet = lt.peer_info.local_connection, lt.peer_info.connecting | lt.peer_info.handshake
        return tuple(
            (str(peer.ip[0]), int(peer.ip[1]))
            for peer in self._handles[name].get_peer_info()
            if peer.connection_type == lt.peer_info.standard_bittorrent and peer.flags & outgoing
            if not peer.flags & not_yet
        )

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
        listening = ListenOutcome(self._chosen)
        while time.monotonic() < deadline and not listening.is_settled:
            for happened in self.poll(0.2):
                listening.hear(happened)
            listening.require_no_failure()
        return listening.endpoints()

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
            source_bytes(peer)
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

    def _translate(self, alert: Any) -> Iterator[SwarmEvent]:
        kind, name = type(alert).__name__, torrent_of(alert)
        small = self._small.translate(name, kind, alert)
        if small is not None:
            yield from small
            return
        if kind == "state_changed_alert" and name in self._handles:
            self._dht.announce(name, self._handles[name])  # its file has been looked at: only from now on
        elif kind == "peer_ban_alert":
            self.ban(alert.endpoint[0])
        happened = translate(name, kind, alert)
        if happened is not None:
            yield happened
            if isinstance(happened, EventsLost):
                yield from self._small.look_again()
            return
        yield from self._dht.translate(kind, alert)
        if (found := self._dht.peers_found(kind, alert)) is not None:
            self._small.meet(*found)
