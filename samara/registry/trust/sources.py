"""Where TUF metadata may come from: an untrusted mirror that is asked for files by name. Those without a network.

A source also may have release objects, under `releases/<manifest hex>.release.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from samara.registry.trust.catalogs import read_catalog
from samara.schemas.errors import NetworkError
from samara.schemas.metadata_bundle import MetadataBundle

CHUNK = 1 << 16


class MetadataSource(Protocol):
    """An untrusted mirror of one publisher's repository."""

    @property
    def name(self) -> str:
        """What people call it."""

    def read(self, name: str) -> Iterator[bytes] | None:
        """The file `name` (`timestamp.json`, `3.root.json`, …) in pieces; None where it is absent.

        The reader stops when it has had enough. Raises NetworkError when the source can't be asked.
        """


def read_whole(source: MetadataSource, name: str, limit: int) -> bytes | None:
    """A file of at most `limit` bytes; None where it is absent. Raises NetworkError for an endless one."""
    pieces = source.read(name)
    if pieces is None:
        return None
    data = bytearray()
    try:
        for piece in pieces:
            data += piece
            if len(data) > limit:
                raise NetworkError(f"{source.name} sends too much for {name}", expected=f"≤ {limit} bytes")
    finally:
        let_go(pieces)
    return bytes(data)


def let_go(pieces: Iterator[bytes]) -> None:
    """End a file that perhaps isn't read to its end: a connection may hang on it, and an error's traceback on that."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


class BundleSource:
    """A metadata bundle: from a swarm, an air-gap bundle, or the publisher's own folder."""

    def __init__(self, bundle: MetadataBundle, name: str) -> None:
        self.name = name
        # versions are read from the unproven parts themselves; the client checks them as it would any mirror's
        versions = read_catalog("", bundle).versions
        self._files = dict(
            bundle.files(snapshot_version=versions["snapshot"], targets_version=versions["targets"])
        )  # fmt: skip

    def read(self, name: str) -> Iterator[bytes] | None:
        """As MetadataSource."""
        data = self._files.get(name)
        return None if data is None else iter((data,))


class FolderSource:
    """A folder of files: a USB stick, a network share, what a web server serves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def read(self, name: str) -> Iterator[bytes] | None:
        """As MetadataSource."""
        if not self.folder.is_dir():
            raise NetworkError(f"{self.folder} is not there", next_step="plug it in or mount it, then try again")
        path = self.folder / name
        if not path.is_file():
            return None
        return self._pieces(path)

    def _pieces(self, path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while piece := file.read(CHUNK):
                    yield piece
        except OSError as error:
            raise NetworkError(f"can't read {path} ({error.strerror or error})", next_step="check the disk") from None
