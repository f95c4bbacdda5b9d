"""`diff`: what changed between two releases, before anything of the new one is fetched.

By blocks from the manifests alone; by GGUF key and tensor where both files lie here. Reads only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from samara.fetcher.held import Resolved, open_index, resolve_reference
from samara.fetcher.resolve import is_release_file as names_a_file
from samara.fetcher.resolve import read_bundle
from samara.registry.home import Home
from samara.registry.positioned import read_at
from samara.registry.store import whole_copy
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.release import open_release
from samara.registry.web import is_url
from samara.schemas.bittorrent import piece_length_for
from samara.schemas.diffs import FileDiff, diff_blocks, diff_parts, pair_files, pieces_of_blocks
from samara.schemas.errors import MalformedError, SamaraError
from samara.schemas.manifest import Release, ReleaseFile
from samara.schemas.references import parse_reference
from samara.seeder.gguf_facts import read_gguf
from samara.seeder.source_file import open_source

if TYPE_CHECKING:
    from samara.registry.index import Index

_CHUNK = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseDiff:
    """Two releases: each file of the new one, and the paths that are gone."""

    old: Release
    new: Release
    files: tuple[FileDiff, ...]
    gone: tuple[str, ...]

    @property
    def fetch(self) -> int:
        """Bytes that somebody who has the old one would have to get, block by block."""
        return sum(file.fetch for file in self.files)


def diff(home: Home, old: str, new: str) -> ReleaseDiff:
    """Compare two releases known here, by reference or `.samara` file. Raises NotFoundError, TrustError, UsageError."""
    with open_index(home, old) as index:
        before, after = _release(home, index, old), _release(home, index, new)
        files = tuple(_diff_file(index, file, other) for file, other in pair_files(after.files, before.files))
    paths = {file.path for file in after.files} | {file.old for file in files}
    return ReleaseDiff(
        old=before, new=after, files=files, gone=tuple(f.path for f in before.files if f.path not in paths)
    )


def _release(home: Home, index: Index, source: str) -> Release:
    if is_url(source) or names_a_file(source):
        return open_release(read_bundle(source), TrustFolder(home.trust)).release
    resolved: Resolved = resolve_reference(home, index, parse_reference(source))
    return resolved.release


def _diff_file(index: Index, file: ReleaseFile, other: ReleaseFile | None) -> FileDiff:
    shared, missing = diff_blocks(file.blocks, () if other is None else other.blocks)
    found = FileDiff(
        path=file.path,
        old=None if other is None else other.path,
        size=file.size,
        shared=shared,
        fetch=file.size - shared,
        pieces=pieces_of_blocks(missing, piece_length_for(file.size)),
    )
    if other is None or not missing:
        return found
    places = [_place(index, one) for one in (file, other)]
    if any(place is None for place in places):
        return found
    try:
        new, old = (_parts(place, one) for place, one in zip(places, (file, other), strict=True) if place is not None)
    except (SamaraError, OSError):
        return found  # no GGUF, or not any more: the blocks tell what they can
    return replace(found, parts=(*diff_parts("key", new[0], old[0]), *diff_parts("tensor", new[1], old[1])))


def _place(index: Index, file: ReleaseFile) -> Path | None:
    blob = index.blob(file.b3)
    place = None if blob is None else whole_copy(blob)
    return None if place is None else place.path


Parts = dict[str, tuple[int, object]]


def _parts(path: Path, file: ReleaseFile) -> tuple[Parts, Parts]:
    """Keys and tensors of a GGUF file: name → (size, digest of its bytes). Raises MalformedError if it is none."""
    if file.gguf is None:
        raise MalformedError(f"{path} is no GGUF")
    with open_source(path) as opened:
        header, _ = read_gguf(opened, os.fstat(opened.fileno()).st_size)
        fd = opened.fileno()
        keys: Parts = {span.key: (span.end - span.start, _digest(fd, span.start, span.end)) for span in header.keys}
        tensors: Parts = {s.name: (s.end - s.start, _digest(fd, s.start, s.end)) for s in header.tensors}
    return keys, tensors


def _digest(fd: int, start: int, end: int) -> bytes:
    hasher = blake3(max_threads=blake3.AUTO)
    at = start
    while at < end and (data := read_at(fd, min(_CHUNK, end - at), at)):
        hasher.update(data)
        at += len(data)
    return hasher.digest()
