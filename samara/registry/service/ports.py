"""What the service needs of the rooms above it, as protocols: `samara.cli.serve` puts the parts together."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Arriving(Protocol):
    """A blob that is being fetched. Its bytes are proven from the front, block by block (BLAKE3)."""

    @property
    def size(self) -> int:
        """Bytes of the whole blob."""

    @property
    def path(self) -> Path:
        """The file that it is written to: below what is proven it may be read. It stays open to readers that opened it
        before the blob was committed.
        """

    def wait(self, beyond: int, timeout: float) -> int:
        """Block until more than `beyond` bytes from the start are proven, or `timeout` seconds are over.

        Returns how many are. Raises SamaraError (NetworkError, DiskFullError, …) when no more will come. From any
        thread.
        """

    def close(self) -> None:
        """One reader less. The fetch goes on; it is kept even if nobody reads any more."""


class Bringer(Protocol):
    """Brings blobs that aren't here (`--pull-through`)."""

    def bring(self, b3: str) -> Arriving:
        """Begin to fetch a published blob (`b3:…`), or join who does already.

        Raises NotFoundError (not published here), NetworkError, DiskFullError (over the quota) or StoreError.
        """
