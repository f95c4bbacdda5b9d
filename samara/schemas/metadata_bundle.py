"""The metadata bundle: a publisher's whole TUF metadata of one moment in one file. Pure bytes in, values out.

bencoded {"format": "samara-metadata-1", "roots": [version 1, 2, …], "snapshot", "targets", "timestamp"}, each the
bytes as published. One format thrice: what a publisher keeps, what a client trusts, and what travels in a swarm.
Bencoding has one spelling for one value, so whoever has the same metadata has the same bundle, hence the same swarm. An
untrusted container: `samara.registry.trust` checks what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from samara.schemas.bittorrent import MAX_SMALL_FILE, bdecode, bencode
from samara.schemas.errors import MalformedError
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS

FORMAT = "samara-metadata-1"
MAX_BUNDLE_BYTES = MAX_SMALL_FILE
MAX_TIMESTAMP_BYTES = 16 * 1024
MAX_SNAPSHOT_BYTES = 64 * 1024
MAX_TARGETS_BYTES = 12 * 1024 * 1024  # about 40,000 releases
_LIMITS = {"timestamp": MAX_TIMESTAMP_BYTES, "snapshot": MAX_SNAPSHOT_BYTES, "targets": MAX_TARGETS_BYTES}


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataBundle:
    """Root versions 1…N and the timestamp, snapshot and targets metadata that go with them, unproven."""

    roots: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    targets: bytes

    def files(self, *, snapshot_version: int, targets_version: int) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each file of a TUF repository with consistent snapshots (TUF §6.2); the timestamp last."""
        for number, root in enumerate(self.roots, start=1):
            yield f"{number}.root.json", root
        yield f"{targets_version}.targets.json", self.targets
        yield f"{snapshot_version}.snapshot.json", self.snapshot
        yield "timestamp.json", self.timestamp


def pack_metadata(bundle: MetadataBundle) -> bytes:
    """MetadataBundle → bytes. Raises MalformedError for one that no reader would take."""
    data = bencode(
        {
            "format": FORMAT,
            "roots": list(bundle.roots),
            "snapshot": bundle.snapshot,
            "targets": bundle.targets,
            "timestamp": bundle.timestamp,
        }
    )
    unpack_metadata(data)
    return data


def unpack_metadata(data: bytes) -> MetadataBundle:
    """Bytes → MetadataBundle. Raises MalformedError."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise MalformedError("metadata bundle too large", expected=f"≤ {MAX_BUNDLE_BYTES} bytes", actual=len(data))
    value = bdecode(data)
    if not isinstance(value, dict) or value.get(b"format") != FORMAT.encode():
        raise MalformedError("not a metadata bundle", expected=FORMAT)
    roots = value.get(b"roots")
    if not isinstance(roots, list) or not 1 <= len(roots) <= MAX_ROOTS:
        raise MalformedError("metadata bundle's roots", expected=f"a list of 1…{MAX_ROOTS}")
    return MetadataBundle(
        roots=tuple(_part(root, "root", MAX_ROOT_BYTES) for root in roots),
        **{name: _part(value.get(name.encode()), name, limit) for name, limit in _LIMITS.items()},
    )


def _part(value: object, name: str, limit: int) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= limit:
        raise MalformedError(f"metadata bundle's {name} has a wrong size", expected=f"1…{limit} bytes")
    return value
