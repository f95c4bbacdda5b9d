"""What the index hands out: frozen values, no rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samara.schemas.envelope import Envelope
from samara.schemas.stamps import Stamp


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRelease:
    """A signed manifest as the index keeps it, with the torrents it names. All is checked again whenever it is used."""

    manifest: str
    envelope: Envelope
    torrents: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """A file that held a whole blob when it bore `stamp`; another stamp means: unverified."""

    path: Path
    stamp: Stamp
    in_store: bool
    verified_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobRecord:
    """One blob as the index knows it. `torrent`: the first one known of `torrents`, usually the only one."""

    b3: str
    sha256: str
    size: int
    layout: str
    torrents: tuple[bytes, ...]
    file_name: str | None
    locations: tuple[Location, ...]

    @property
    def torrent(self) -> bytes | None:
        """The torrent to seed it by; None if no release names one."""
        return self.torrents[0] if self.torrents else None

    @property
    def is_released(self) -> bool:
        """Whether a release known here has it; else it is only what `samara adopt` found in a file."""
        return self.file_name is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Rows in the index."""

    releases: int
    blobs: int
    blocks: int
    locations: int
