"""Finds a publisher's metadata in a swarm session: the `Finder` that asks the DHT and peers, nobody else.

    identity → root version 1 → beacon → pointer → metadata bundle          (`source`)
    catalog entry → release object                                          (`release`)

Whoever had one thing is asked first for the next, and for the model's bytes after that.
"""

from __future__ import annotations

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.scratch import Scratch
from samara.registry.trust.identity import infohash_of
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.sources import BundleSource
from samara.schemas.bittorrent import MAX_SMALL_FILE
from samara.schemas.errors import NotFoundError
from samara.schemas.events import Note, OnEvent
from samara.schemas.metadata_bundle import unpack_metadata
from samara.schemas.release_file import release_object_name
from samara.seeder.naming import Patience, fetch_root, fetch_small, find_catalog
from samara.seeder.swarm import Swarm

Endpoint = tuple[str, int]


class SwarmFinder:
    """Asks in one session, from one thread. `told`: peers (host, port) that may have what is looked for."""

    def __init__(
        self,
        home: Home,
        swarm: Swarm,
        told: tuple[Endpoint, ...],
        *,
        on_event: OnEvent,
        patience: Patience | None = None,
    ) -> None:
        self._swarm = swarm
        self._told = told
        self._on_event = on_event
        self._patience = patience or Patience()
        self._found: tuple[Endpoint, ...] = ()
        self._scratch = Scratch(home.root, TEMPORARY_PREFIX)
        self._folder = self._scratch.path

    def close(self) -> None:
        """Remove the folder that things were fetched into."""
        self._scratch.close()

    @property
    def peers(self) -> tuple[Endpoint, ...]:
        """Who has had something that was asked for."""
        return self._found

    def source(self, identity: str, chain: RootChain | None) -> BundleSource:
        """What the publisher's beacon points to, unproven (a MetadataSource). `chain`: its roots, if any are known.

        Raises NotFoundError, NetworkError, MalformedError, or TrustError for a root that isn't the identity's.
        """
        if not self._swarm.has_dht:
            raise NotFoundError(
                "without the DHT nobody says where the catalog is",
                next_step="allow it, name a node of it (--dht-node), or name a source (--from)",
            )
        self._on_event(Note(message=f"looking up the catalog of {identity[:8]}… in the DHT"))
        if chain is None:
            root = fetch_root(
                self._swarm, infohash_of(identity), self._folder, peers=self._asked(), timeout=self._patience.file
            )
            self._remember(root.peers)
            chain = verify_root_chain(identity, [root.data])
        if chain.beacon is None:
            raise NotFoundError("this publisher has no beacon", next_step="name a source of its catalog (--from)")
        found = find_catalog(
            self._swarm, chain.beacon, self._folder, peers=self._asked(), patience=self._patience
        )  # fmt: skip
        self._remember(found.peers)
        return BundleSource(unpack_metadata(found.data), "the DHT")

    def release(self, v2: str, manifest_hex: str) -> bytes:
        """A release object by its swarm's infohash (64 hex digits), unproven. Raises NetworkError or MalformedError."""
        found = fetch_small(
            self._swarm,
            v2,
            self._folder,
            max_size=MAX_SMALL_FILE,
            file_name=release_object_name(manifest_hex),
            peers=self._asked(),
            timeout=self._patience.file,
        )
        self._remember(found.peers)
        return found.data

    def _asked(self) -> tuple[Endpoint, ...]:
        return tuple(dict.fromkeys((*self._told, *self._found)))

    def _remember(self, peers: tuple[Endpoint, ...]) -> None:
        self._found = tuple(dict.fromkeys((*self._found, *peers)))
