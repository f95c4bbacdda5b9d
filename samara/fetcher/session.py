"""The one swarm session of a command, opened when it is first needed: for names, then for bytes."""

from __future__ import annotations

from samara.fetcher.finder import SwarmFinder
from samara.registry.home import Home
from samara.schemas.events import OnEvent, ignore
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_options import SwarmOptions

Endpoint = tuple[str, int]


class Session:
    """Use as a context manager, from one thread. `peers`: those that were told, (host, port)."""

    def __init__(
        self, home: Home, options: SwarmOptions, *, peers: tuple[Endpoint, ...] = (), on_event: OnEvent = ignore
    ) -> None:
        self._home = home
        self._options = options
        self._told = peers
        self._on_event = on_event
        self._swarm: Swarm | None = None
        self._finder: SwarmFinder | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._finder is not None:
            self._finder.close()
        if self._swarm is not None:
            self._swarm.close()

    def swarm(self) -> Swarm:
        """The session itself."""
        if self._swarm is None:
            self._swarm = Swarm(self._options)
        return self._swarm

    def finder(self) -> SwarmFinder:
        """Asks in it for names."""
        if self._finder is None:
            self._finder = SwarmFinder(self._home, self.swarm(), self._told, on_event=self._on_event)
        return self._finder

    @property
    def peers(self) -> tuple[Endpoint, ...]:
        """Who to ask for bytes first: those that were told, and those that had the metadata."""
        found = () if self._finder is None else self._finder.peers
        return tuple(dict.fromkeys((*self._told, *found)))
