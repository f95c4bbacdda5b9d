"""The one thread that has the registry's swarm session: transfers that begin and end each by itself, and seeds.

`samara.fetcher.intake` puts in what is to come (`take`) and to be given (`seeds`), and waits for `Running.over`. What
ends one transfer (nobody has it, a full disk, wrong bytes in the end) ends no other. Touches no index.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from samara.fetcher.carrier import Carrier
from samara.fetcher.coming import Coming
from samara.fetcher.control import Control
from samara.fetcher.governor import TokenBucket
from samara.fetcher.intake_seeds import Seeds
from samara.fetcher.mirrors.direct import Direct
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.options import PullOptions
from samara.fetcher.threads import Threads
from samara.fetcher.transfer import State, Transfer
from samara.fetcher.watch import Watch
from samara.registry.home import Home
from samara.registry.http import HttpClient
from samara.schemas.bittorrent import ParsedTorrent
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import InterruptedByUser, NetworkError, SamaraError, StoreError
from samara.schemas.events import Listening, OnEvent, Warned
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import (
    EventsLost,
    Flushed,
    ListenFailed,
    ListeningOn,
    PeerBanned,
    SwarmEvent,
)

LAST_FLUSH = 3.0  # seconds that one that ends early waits for its last bytes to be written
LOOK_EVERY = 0.05  # seconds to wait for peers in one round
LOOK_EVERY_WITH_MIRRORS = 0.02  # and when mirrors bring pieces, which don't wake the swarm's wait
IDLE_LOOK_EVERY = 0.25
STOOD_STILL = 5.0  # seconds between two rounds after which the process was surely stopped in between
TELL_EVERY = 3.0  # seconds between two questions for more peers, of each blob
LOOKED_OVER = 60.0  # seconds
BANNED_FOR = 3600.0  # seconds: whoever has that address later need not be who lied
LISTEN_WITHIN = 10.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """`peers_of`: (v2, v1 infohash) → peers (HOST, PORT) that others know of, such as a tracker in this process; asked
    again and again, so it must be quick.
    """

    home: Home
    options: PullOptions
    peers_of: Callable[[str, str], Iterable[tuple[str, int]]]


@dataclass(kw_only=True, slots=True)
class Counters:
    """What came and went since the start. Blobs; bytes."""

    brought: int = 0
    brought_bytes: int = 0
    failures: int = 0
    from_peers: int = 0
    from_mirrors: int = 0
    rejected: int = 0
    uploaded: int = 0


@dataclass(kw_only=True, slots=True, eq=False)
class Running:
    """One transfer in the loop. `over`: the loop has let go of it; `error`: why early; `must_record`: what came last is
    in the file and not yet recorded. `slowest`: bytes per second that must come, over `LOOKED_OVER` seconds; 0: any.
    """

    transfer: Transfer
    coming: Coming
    torrent: ParsedTorrent
    has_mirrors: bool
    slowest: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    error: SamaraError | None = None
    must_record: bool = False
    watch: Watch | None = None
    ends_at: float | None = None
    told_at: float = 0.0
    mirrors_alone: bool = False
    looked_at: float = 0.0
    looked_bytes: int = 0

    @property
    def name(self) -> str:
        """Of its torrent."""
        return self.transfer.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """What transfers are made with."""

    pool: MirrorPool
    threads: Threads


class Loop:
    """`start`, then any thread may call; `finish` and `close` end it."""

    def __init__(self, setup: Setup, *, on_event: OnEvent) -> None:
        self._setup = setup
        self._options = setup.options
        self._on_event = on_event
        self._bucket = TokenBucket(setup.options.limit)
        self._client: HttpClient | None = None
        self._pool = MirrorPool(self._http, pace=self._bucket.wait_for, stall_timeout=setup.options.stall_timeout)
        self._swarm: Swarm | None = None
        self._threads: Threads | None = None
        self._thread = threading.Thread(target=self._run, name="swarm", daemon=True)
        self._taken: queue.SimpleQueue[Running] = queue.SimpleQueue()
        self._running: dict[str, Running] = {}
        self._finishing = threading.Event()
        self.seeds = Seeds(on_event=on_event)
        self._bans: dict[str, float] = {}
        self._control = self._new_control()
        self._done_bytes = (0, 0)
        self._round_at = 0.0
        self.counters = Counters()

    # -- for other threads ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the session. Raises NetworkError when it can't listen, UsageError."""
        options = self._options.session_options
        if self._options.peer_to_peer:
            self._swarm = Swarm(options)
            try:
                for endpoint in self._swarm.wait_listening(LISTEN_WITHIN) if options.listen else ():
                    self._on_event(Listening(endpoint=endpoint))
            except BaseException:
                self._swarm.close()
                raise
        self._threads = Threads()
        self._round_at = time.monotonic()
        self._thread.start()

    def ready(self) -> Ready:
        """What a transfer is made with."""
        assert self._threads is not None
        return Ready(pool=self._pool, threads=self._threads)

    def take(self, running: Running) -> None:
        """Fetch it; `running.over` is set in the end, in any case."""
        self._taken.put(running)
        if not self._thread.is_alive():
            self._refuse_taken()

    def finish(self) -> None:
        """End what is under way; returns when its bytes are in their files."""
        self._finishing.set()
        if self._thread.is_alive():
            self._thread.join(LAST_FLUSH + 2.0)
        self._refuse_taken()

    def close(self, timeout: float) -> None:
        """After `finish`, and after everybody let go of what `ready` gave."""
        self._thread.join(timeout)
        self._pool.close()
        if self._client is not None:
            self._client.close()
        if self._threads is not None:
            self._threads.__exit__()
        if self._swarm is not None and not self._thread.is_alive():
            self._swarm.close()

    def _refuse_taken(self) -> None:
        while not self._taken.empty():
            running = self._taken.get()
            running.error = running.error or _stopped()
            running.over.set()

    # -- the loop ------------------------------------------------------------------------------------------------

    def _http(self) -> HttpClient:
        if self._client is None:
            self._client = HttpClient(self._options.policy, named=self._options.registries)
        return self._client

    def _new_control(self) -> Control:
        return Control(self._setup.home, (), self._options, self._bucket, self._on_event)

    def _run(self) -> None:
        carrier: Carrier = self._swarm if self._swarm is not None else Direct(self._pool.wait)
        while True:
            try:
                self._round(carrier)
            except Exception as error:
                # nobody else would notice: everything that waits is told, and the next round begins anew
                self._on_event(Warned(message=f"a mistake of ours in the fetching loop: {error!r}"))
                for running in list(self._running.values()):
                    running.error = StoreError("fetching ended by a mistake of ours", next_step="try again later")
                    self._let_go(carrier, running)
                time.sleep(1.0)
            if self._finishing.is_set() and not self._running:
                break
        if isinstance(carrier, Direct):
            carrier.close()

    def _round(self, carrier: Carrier) -> None:
        now = time.monotonic()
        self._take_in(carrier, now)
        if self._finishing.is_set():
            for running in list(self._running.values()):
                if running.ends_at is None:
                    self._break_off(carrier, running, _stopped(), now)
        patience = LOOK_EVERY_WITH_MIRRORS if self._pool.is_busy else LOOK_EVERY if self._running else IDLE_LOOK_EVERY
        for happened in carrier.poll(patience):
            self._heard(carrier, happened, now)
        before, now = self._round_at, time.monotonic()
        self._round_at = now
        try:
            for rejected in self._pool.tick(now, carrier):
                mine = self._running.get(rejected.torrent)
                if mine is not None and mine.watch is not None:
                    mine.watch.mirror_failed(rejected)
                    if rejected.is_news:
                        mine.transfer.blame.mirror_failed(rejected)
        except SamaraError as error:  # where there are no peers the pool's pieces are written here: a full disk
            for running in list(self._running.values()):
                self._break_off(carrier, running, error, now)
        held_up = self._steer(carrier, now)
        for running in list(self._running.values()):
            if held_up or now - before > STOOD_STILL:
                assert running.watch is not None
                running.watch.slept(now)
                running.looked_at = now
            self._look_at(carrier, running, now, held_up=held_up)
        if isinstance(carrier, Swarm):
            self.seeds.tend(carrier, now)
            self.counters.uploaded = self.seeds.uploaded
        self._forgive(carrier, now)

    def _take_in(self, carrier: Carrier, now: float) -> None:
        while not self._taken.empty():
            running = self._taken.get()
            peers = tuple(dict.fromkeys((*self._options.told_peers, *self._more_peers(running))))
            running.watch = Watch(
                peers,
                nobody_else=not self._may_find_peers and not running.has_mirrors,
                give_up_after=self._options.give_up_after,
                now=now,
            )
            running.told_at = now
            running.looked_at, running.looked_bytes = now, running.transfer.progress.done_bytes
            running.mirrors_alone = self._nobody_but_mirrors(peers)
            self._running[running.name] = running
            try:
                missing = running.transfer.progress.pieces_missing
                if missing and not peers and not self._may_find_peers and not running.has_mirrors:
                    raise NetworkError(
                        "nobody to ask: no peer, no tracker, no mirror, and discovery is off",
                        next_step="ask its publisher to seed it",
                    )
                if running.name in carrier:  # it was given, until its file went
                    carrier.remove(running.name)
                    self.seeds.gone(running.name)
                running.transfer.start(carrier, now)
            except SamaraError as error:
                self._break_off(carrier, running, error, now)

    @property
    def _may_find_peers(self) -> bool:
        options = self._options
        return options.peer_to_peer and bool(options.discovery or getattr(options.swarm, "trackers", ()))

    def _more_peers(self, running: Running) -> tuple[tuple[str, int], ...]:
        if not self._options.peer_to_peer:
            return ()
        return tuple(self._setup.peers_of(running.torrent.v2, running.torrent.v1))

    def _heard(self, carrier: Carrier, happened: SwarmEvent, now: float) -> None:
        if isinstance(happened, EventsLost):
            for running in list(self._running.values()):
                self._tell(carrier, running, happened, now)
            return
        if isinstance(happened, PeerBanned):
            self._bans[parse_endpoint(happened.endpoint)[0]] = now
        mine = self._running.get(happened.torrent)
        if mine is not None:
            self._tell(carrier, mine, happened, now)
        elif happened.torrent in self.seeds:
            self.seeds.heard(carrier, happened, now)
        elif isinstance(happened, ListeningOn):
            self._on_event(Listening(endpoint=happened.endpoint))
        elif isinstance(happened, ListenFailed) and happened.was_chosen:
            self._on_event(Warned(message=str(happened.as_error())))

    def _tell(self, carrier: Carrier, running: Running, happened: SwarmEvent, now: float) -> None:
        if running.ends_at is not None:
            if isinstance(happened, (Flushed, EventsLost)):
                running.must_record = isinstance(happened, Flushed)
                self._let_go(carrier, running)
            return
        assert running.watch is not None
        try:
            running.watch.handle(carrier, happened)
            running.transfer.handle(carrier, happened)
        except SamaraError as error:
            self._break_off(carrier, running, error, now)

    def _look_at(self, carrier: Carrier, running: Running, now: float, *, held_up: bool) -> None:
        transfer, watch = running.transfer, running.watch
        assert watch is not None
        if running.ends_at is not None:
            if now >= running.ends_at:
                self._let_go(carrier, running)
            return
        try:
            transfer.tick(carrier, now)
            if news := transfer.progress.take_firm_news():
                running.coming.proved(news)
            if transfer.state is State.DONE:
                assert transfer.location is not None
                running.coming.arrived(transfer.location)
                self.counters.brought += 1
                self.counters.brought_bytes += transfer.file.size
                self._let_go(carrier, running)
                return
            if (wanted := running.coming.take_wanted()) is not None:
                transfer.hurry(carrier, *wanted)
            while transfer.blame.pardoned:
                watch.pardon(transfer.blame.pardoned.pop())
            if not held_up:
                watch.look_after(carrier, [transfer], now)
                self._find_more(carrier, running, now)
                self._require_speed(running, now)
        except SamaraError as error:
            self._break_off(carrier, running, error, now)

    def _find_more(self, carrier: Carrier, running: Running, now: float) -> None:
        transfer = running.transfer
        if transfer.state is not State.FETCHING:
            return
        if now - running.told_at >= TELL_EVERY:
            running.told_at = now
            peers = self._more_peers(running)
            if peers and transfer.name in carrier and not transfer.peers:
                carrier.begin(transfer.name, peers)
            running.mirrors_alone = self._nobody_but_mirrors(peers)
        if running.mirrors_alone and self._pool.is_hopeless(transfer.name, now + self._options.give_up_after):
            assert running.watch is not None
            raise running.watch.nobody_left()

    def _require_speed(self, running: Running, now: float) -> None:
        """Who drips must not keep another description of the same blob from its turn. Raises NetworkError."""
        transfer = running.transfer
        if not running.slowest or transfer.state is not State.FETCHING or now - running.looked_at < LOOKED_OVER:
            return
        came, wanted = transfer.progress.done_bytes - running.looked_bytes, int(running.slowest * LOOKED_OVER)
        if came < min(wanted, transfer.file.size):
            raise NetworkError(
                "it comes too slowly, and others describe it differently", expected=f"≥ {wanted:,} bytes in a minute",
                actual=f"{came:,}",
            )  # fmt: skip
        running.looked_at, running.looked_bytes = now, transfer.progress.done_bytes

    def _nobody_but_mirrors(self, peers: Iterable[tuple[str, int]]) -> bool:
        return not peers and not self._may_find_peers and not self._options.told_peers

    def _break_off(self, carrier: Carrier, running: Running, error: SamaraError, now: float) -> None:
        """It ends early: let what has arrived be written, so that it can be recorded."""
        if running.ends_at is not None:
            return
        running.error = error
        self.counters.failures += 1
        self._pool.remove(running.name)
        if running.transfer.begin_last_flush(carrier):
            running.ends_at = now + LAST_FLUSH
        else:
            self._let_go(carrier, running)

    def _let_go(self, carrier: Carrier, running: Running) -> None:
        carrier.remove(running.name)
        self._pool.forget(running.name)
        self._running.pop(running.name, None)
        ledger = running.transfer.ledger
        self._done_bytes = (self._done_bytes[0] + ledger.from_peers, self._done_bytes[1] + ledger.from_mirrors)
        self.counters.from_peers += ledger.from_peers
        self.counters.from_mirrors += ledger.from_mirrors
        self.counters.rejected += len(running.transfer.blame.rejected)
        self.seeds.look_again()  # one of the same torrent may be given now
        running.over.set()

    def _steer(self, carrier: Carrier, now: float) -> bool:
        """Caps, schedules and what `samara pause` and `samara cancel` say of all pulls; whether all is held up."""
        ledgers = [running.transfer.ledger for running in self._running.values()]
        came = (
            self._done_bytes[0] + sum(ledger.from_peers for ledger in ledgers),
            self._done_bytes[1] + sum(ledger.from_mirrors for ledger in ledgers),
        )
        try:
            return self._control.look(carrier, self._pool, now, came=came)
        except InterruptedByUser as error:
            self._control = self._new_control()
            for running in list(self._running.values()):
                self._break_off(carrier, running, error, now)
            return False

    def _forgive(self, carrier: Carrier, now: float) -> None:
        for address in [address for address, since in self._bans.items() if now - since > BANNED_FOR]:
            del self._bans[address]
            carrier.forgive(address)


def _stopped() -> StoreError:
    return StoreError("fetching was stopped", next_step="try again when the registry runs again")
