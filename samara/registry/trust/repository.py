"""A publisher's whole TUF repository read from a source, unproven: for who hands it on to those that prove it."""

from __future__ import annotations

from samara.registry.trust.sources import MetadataSource, read_whole
from samara.schemas.envelope import strict_json
from samara.schemas.errors import MalformedError
from samara.schemas.metadata_bundle import (
    MAX_BUNDLE_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    MetadataBundle,
)
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS


def read_timestamp(source: MetadataSource) -> bytes | None:
    """The one file that says whether anything is new; None where there is no repository. Raises NetworkError."""
    return read_whole(source, "timestamp.json", MAX_TIMESTAMP_BYTES)


def read_repository(source: MetadataSource, *, timestamp: bytes | None = None) -> MetadataBundle | None:
    """Its newest metadata and every root; None where there is no repository. `timestamp`: as it was read just now.

    Files may have changed while they were read: whoever proves them notices. Raises NetworkError or MalformedError.
    """
    timestamp = timestamp or read_timestamp(source)
    if timestamp is None:
        return None
    roots: list[bytes] = []
    while len(roots) < MAX_ROOTS:
        if sum(map(len, roots)) > MAX_BUNDLE_BYTES:
            raise MalformedError(f"{source.name} has more roots than anybody takes", expected=f"≤ {MAX_BUNDLE_BYTES}")
        root = read_whole(source, f"{len(roots) + 1}.root.json", MAX_ROOT_BYTES)
        if root is None:
            break
        roots.append(root)
    snapshot_name = f"{_version_of(timestamp, 'snapshot.json')}.snapshot.json"
    snapshot = read_whole(source, snapshot_name, MAX_SNAPSHOT_BYTES)
    targets_name = f"{_version_of(snapshot or b'', 'targets.json')}.targets.json"
    targets = read_whole(source, targets_name, MAX_TARGETS_BYTES)
    if not roots or snapshot is None or targets is None:
        raise MalformedError(f"{source.name} has half a repository")
    return MetadataBundle(roots=tuple(roots), timestamp=timestamp, snapshot=snapshot, targets=targets)


def _version_of(document: bytes, name: str) -> int:
    """The version of `name` that another role's metadata names (TUF §4.4)."""
    value = strict_json(document, f"metadata that names {name}")
    try:
        version = value["signed"]["meta"][name]["version"]  # type: ignore[index]
    except (KeyError, TypeError):
        version = None
    if not isinstance(version, int) or isinstance(version, bool) or not 0 < version < 2**53:
        raise MalformedError(f"metadata without a version of {name}")
    return version
