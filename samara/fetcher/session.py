"""The connections of one command, opened when they are first needed: the swarm session, for names and then for bytes;
HTTP, for catalogs and mirrors. All under one policy of who may be contacted, all noted in one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samara.fetcher.carrier import Carrier
from samara.fetcher.contacts import Contacts
from samara.fetcher.finder import SwarmFinder
from samara.fetcher.governor import TokenBucket
from samara.fetcher.mirrors.direct import Direct
from samara.fetcher.mirrors.pool import MirrorPool
from samara.fetcher.options import PullOptions
from samara.fetcher.threads import Threads
from samara.registry.home import Home
from samara.schemas.events import OnEvent, ignore
from samara.seeder.swarm import Swarm

if TYPE_CHECKING:
    from samara.registry.http import HttpClient

Endpoint = tuple[str, int]


class Session:
    """Use as a context manager, from one thread."""

    def __init__(self, home: Home, options: PullOptions, *, on_event: OnEvent = ignore) -> None:
        self._home = home
        self._options = options
        self._on_event = on_event
        self._swarm: Swarm | None = None
        self._direct: Direct | None = None
        self._finder: SwarmFinder | None = None
        self._client: HttpClient | None = None
        self._pool: MirrorPool | None = None
        self._threads: Threads | None = None
        self.bucket = TokenBucket(options.limit)
        self.contacts = Contacts(told=options.told_peers)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._pool is not None:
            self._pool.close()
        if self._client is not None:
            self._client.close()
        if self._threads is not None:
            self._threads.__exit__()
        if self._finder is not None:
            self._finder.close()
        if self._direct is not None:
            self._direct.close()
        if self._swarm is not None:
            self._swarm.close()

    def swarm(self) -> Swarm:
        """The swarm session itself."""
        if self._swarm is None:
            self._swarm = Swarm(self._options.session_options)
        return self._swarm

    def carrier(self) -> Carrier:
        """What brings bytes: the swarm, or mirrors alone where no peers are wanted."""
        if self._options.peer_to_peer:
            return self.swarm()
        if self._direct is None:
            self._direct = Direct(self.pool().wait)
        return self._direct

    def client(self) -> HttpClient:
        """HTTP for everything that this command asks of web servers."""
        if self._client is None:
            from samara.registry.http import HttpClient

            self._client = HttpClient(
                self._options.policy, on_contact=self.contacts.http, named=self._options.registries
            )
        return self._client

    def pool(self) -> MirrorPool:
        """Fetches from mirrors."""
        if self._pool is None:
            self._pool = MirrorPool(
                self.client, hears=self.contacts, pace=self.bucket.wait_for, stall_timeout=self._options.stall_timeout
            )  # fmt: skip
        return self._pool

    def threads(self) -> Threads:
        """For the work on files."""
        if self._threads is None:
            self._threads = Threads()
        return self._threads

    def finder(self) -> SwarmFinder:
        """Asks in the swarm session for names."""
        if self._finder is None:
            self._finder = SwarmFinder(self._home, self.swarm(), self._options.told_peers, on_event=self._on_event)
        return self._finder

    @property
    def peers(self) -> tuple[Endpoint, ...]:
        """Who to ask for bytes first: those that were told, and those that had the metadata."""
        found = () if self._finder is None else self._finder.peers
        return tuple(dict.fromkeys((*self._options.told_peers, *found)))
