"""What the service needs of the rooms above it, as protocols: `samara.cli.serve` puts the parts together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from samara.registry.publications.follow_status import FollowStatus
from samara.schemas.hops import DIRECTLY, Hops


class Arriving(Protocol):
    """A blob that is being fetched. What is read of it was proven, block by block (BLAKE3). For any thread."""

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""

    @property
    def path(self) -> Path:
        """The file that it lies in now: below what is proven it may be read. It is renamed once the blob is whole, so
        `open` is the way to it.
        """

    def open(self) -> int:
        """A descriptor of that file, to read from; the caller closes it. It stays good whatever becomes of the name.

        Only after `wait` or `wait_range` gave something. Raises NetworkError or StoreError as they do.
        """

    def wait(self, beyond: int, timeout: float) -> int:
        """Block until more than `beyond` bytes from the start are proven, or `timeout` seconds are over.

        Returns how many are. Raises SamaraError (NetworkError, DiskFullError, …) when no more will come. From any
        thread.
        """

    def wait_range(self, start: int, end: int, timeout: float) -> bool:
        """Block until every byte from `start` to before `end` is proven; False when `timeout` seconds are over.

        These bytes are fetched before others from now on. Raises what `wait` raises.
        """

    def close(self) -> None:
        """One reader less. The fetch goes on; it is kept even if nobody reads any more."""


class Bringer(Protocol):
    """Brings blobs that aren't here (`--pull-through`)."""

    def bring(self, b3: str, size: int | None = None, *, hops: Hops = DIRECTLY) -> Arriving:
        """Begin to fetch a published blob (`b3:…`), or join who does already. `size`: bytes by the manifest that is
        followed: publishers may contradict each other. `hops`: which registries ask for it on whose behalf.

        Raises NotFoundError (not published here, or not of that size), NetworkError, DiskFullError (over the quota) or
        StoreError (too many fetches wait; the store or the database can't be used).
        """

    def is_contested(self, b3: str) -> bool:
        """Whether publishers contradict each other about a blob that isn't here: its size is anybody's guess, and
        `bring` raises StoreError until all of it is here and proven.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedBlob:
    """A blob that couldn't be brought. `again_in`: seconds until the next try."""

    b3: str
    reason: str
    failures: int
    again_in: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ComingBlob:
    """A blob on its way. Bytes; `proven`: block by block; `readers`: who read it while it comes."""

    b3: str
    size: int
    proven: int
    from_peers: int
    from_mirrors: int
    peers: int
    readers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepStatus:
    """What the registry fetched by itself, and what of that is left to do. Bytes, seconds.

    `held`: blobs that are whole here because of it; `held_bytes`: what they and half ones take, of `quota` (None: no
    bound). `published`: blobs that are listed, `here`: of these whole on this machine, for whatever reason. `pending`:
    listed blobs that are to be fetched; `left_out`: those for which the quota has no room. `seeding`: blobs given to
    swarms. `failed`: the latest few. `trouble`: why nothing goes on at the moment. The rest counts since the start.
    """

    mirroring: bool
    quota: int | None
    held: int = 0
    held_bytes: int = 0
    published: int = 0
    here: int = 0
    pending: int = 0
    left_out: int = 0
    seeding: int = 0
    coming: tuple[ComingBlob, ...] = ()
    failed: tuple[FailedBlob, ...] = ()
    trouble: str | None = None
    brought: int = 0
    brought_bytes: int = 0
    from_peers: int = 0
    from_mirrors: int = 0
    failures: int = 0
    evicted: int = 0
    evicted_bytes: int = 0
    uploaded: int = 0
    rejected_sources: int = 0


class Keeper(Protocol):
    """Keeps what was brought here (`--mirror`, `--pull-through`) within its bounds."""

    def touch(self, b3: str) -> None:
        """Somebody was given this blob just now: what nobody asks for goes first. Cheap, from any thread."""

    def status(self) -> KeepStatus:
        """How it stands. From any thread."""


class Follower(Protocol):
    """Follows other registries (`--follow`)."""

    def status(self) -> tuple[FollowStatus, ...]:
        """How it stands with each. From any thread."""
