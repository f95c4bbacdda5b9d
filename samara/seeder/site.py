"""A publisher's public metadata as a folder: for a web server, a network share, a USB stick. Reads what is known here,
adds and replaces files, the timestamp last, so that whoever reads meanwhile sees the old catalog or the new one.

    timestamp.json  N.snapshot.json  N.targets.json  N.root.json        a TUF repository (TUF §6.2)
    releases/<manifest hex>.release.json                                what each entry means
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samara.registry.durable import io_errors, make_folder, write_durably
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.known import KnownCatalogs
from samara.schemas.digests import b3_hex
from samara.schemas.errors import NotFoundError
from samara.schemas.release_file import ReleaseBundle, pack_release_object, release_object_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What was written: how many files were new or changed, and releases whose manifest isn't on this machine."""

    folder: Path
    timestamp_version: int
    written: int
    missing: tuple[str, ...]


def write_site(home: Home, identity: str, folder: Path) -> Site:
    """Bring `folder` up to date with the catalog known here. Raises NotFoundError, StoreError or DiskFullError."""
    state = KnownCatalogs(home).of(identity)
    if state is None:
        raise NotFoundError(f"no catalog of {identity} is known here", next_step="publish or pull something first")
    make_folder(folder / "releases")
    missing: list[str] = []
    written = sum(_write(folder / name, data) for name, data in _files(home, state, missing))
    return Site(
        folder=folder,
        timestamp_version=state.catalog.versions["timestamp"],
        written=written,
        missing=tuple(missing),
    )


def _files(home: Home, state: CatalogState, missing: list[str]) -> Iterator[tuple[str, bytes]]:
    index = Index.open_existing(home)
    for entry in state.catalog.entries.values():
        stored = None if index is None else index.release_by_digest(entry.manifest)
        if stored is None:
            missing.append(entry.path)
            continue
        bundle = ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents)
        yield "releases/" + release_object_name(b3_hex(entry.manifest)), pack_release_object(bundle)
    if index is not None:
        index.close()
    versions = state.catalog.versions
    yield from state.bundle.files(snapshot_version=versions["snapshot"], targets_version=versions["targets"])


def _write(path: Path, data: bytes) -> bool:
    with io_errors(path):
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return False
    write_durably(path, data)
    return True
