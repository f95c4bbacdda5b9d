"""What a pull or a repair may do: whom to ask, how fast, where to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samara.fetcher.transfer import CHECKPOINT_SECONDS
from samara.registry.registries import tracker
from samara.schemas.networks import Network, NetworkPolicy
from samara.seeder.swarm_options import SwarmOptions

if TYPE_CHECKING:
    from samara.schemas.schedule import Schedule

GIVE_UP_AFTER = 120.0
STALL_TIMEOUT = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PullOptions:
    """Where from and where to. Seconds: `give_up_after` without a byte, `stall_timeout` without a byte from one mirror
    before others get its work, `checkpoint_seconds` from record to record.

    `registries`: origins of registries that are asked for catalogs, bytes and peers, in this order.
    `include`, `exclude`: patterns of the paths of files to get, all without them. `adopt`: others' files and folders to
    look for blocks in. `sources`: where to ask for catalogs, beside what is configured. `allow_stale`: take an expired
    catalog knowingly. `limit`: bytes per second that may come in all, 0: no cap; `schedule`: the same by time of day.
    `networks`: the only ones that may be contacted, if any are named; `private_mirrors`: mirrors that manifests name
    may be in private networks. `record`: where to write whom it was in contact with; the index keeps that in any case.
    `stream`: where to give the one file's verified bytes in order while they come: a pipe to make, or `-` for stdout.
    """

    swarm: SwarmOptions = field(default_factory=SwarmOptions)
    peers: tuple[tuple[str, int], ...] = ()
    mirrors: bool = True
    peer_to_peer: bool = True
    to: Path | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    adopt: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    allow_stale: bool = False
    limit: int = 0
    schedule: Schedule | None = None
    networks: tuple[Network, ...] = ()
    private_mirrors: bool = False
    record: Path | None = None
    stream: Path | None = None
    give_up_after: float = GIVE_UP_AFTER
    stall_timeout: float = STALL_TIMEOUT
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def policy(self) -> NetworkPolicy:
        """Who may be contacted."""
        return NetworkPolicy(only=self.networks, private=self.private_mirrors)

    @property
    def told_peers(self) -> tuple[tuple[str, int], ...]:
        """The peers to ask."""
        return self.peers if self.peer_to_peer else ()

    @property
    def session_options(self) -> SwarmOptions:
        """How the swarm session of this pull behaves."""
        if not self.peer_to_peer:
            return self.swarm.mirrors_only()
        trackers = dict.fromkeys((*self.swarm.trackers, *map(tracker, self.registries)))
        options = replace(
            self.swarm, download_limit=self.limit or self.swarm.download_limit, trackers=tuple(trackers)
        )  # fmt: skip
        return options.within(self.networks) if self.networks else options

    @property
    def can_ask_peers(self) -> bool:
        """Whether metadata may be asked of peers: told ones, or those that the DHT names."""
        return self.peer_to_peer and (self.session_options.dht or bool(self.peers))

    @property
    def discovery(self) -> bool:
        """Whether peers can be found without being told."""
        options = self.session_options
        return self.peer_to_peer and (options.dht or options.lan or bool(options.trackers))
