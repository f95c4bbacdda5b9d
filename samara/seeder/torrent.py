"""A blob's torrent, as libtorrent reads it. Builds and loads; touches no disk and no network.

The bytes come from `samara.schemas.bittorrent`, a pure function of the blob's hashes. libtorrent is asked whether it
reads them as we do before anyone else gets them. Of a .torrent from elsewhere libtorrent never sees more than `info`
and piece layers: no trackers, nodes or URLs (BEP 3, BEP 52).
"""

from __future__ import annotations

from dataclasses import dataclass

import libtorrent as lt

from samara.schemas.bittorrent import (
    MAX_TORRENT_BYTES,
    ParsedTorrent,
    TorrentHashes,
    blob_file_name,
    hybrid_torrent,
    parse_blob_torrent,
)
from samara.schemas.errors import MalformedError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltTorrent:
    """One blob's hybrid .torrent (`data`) and its infohashes as 40 and 64 hex digits."""

    v1: str
    v2: str
    data: bytes


def build_torrent(b3_hex: str, *, gguf: bool, hashes: TorrentHashes) -> BuiltTorrent:
    """The torrent of the blob `b3_hex`: the same bytes on every machine.

    Raises UsageError for a blob too large for one torrent (above 2.4 TB), MalformedError if `hashes` aren't those of
    one file.
    """
    data = hybrid_torrent(blob_file_name(b3_hex, gguf=gguf), hashes)
    if len(data) > MAX_TORRENT_BYTES:
        raise UsageError(
            "file too large for one torrent",
            expected=f"a torrent of ≤ {MAX_TORRENT_BYTES} bytes", actual=f"{len(data)} for {hashes.size} bytes",
            next_step="split the model into several files",
        )  # fmt: skip
    parsed = parse_blob_torrent(data)
    _load(parsed)
    return BuiltTorrent(v1=parsed.v1, v2=parsed.v2, data=data)


def torrent_info(data: bytes) -> lt.torrent_info:
    """A .torrent from anywhere, for the swarm: parsed strictly first, and stripped to what ours have.

    Raises MalformedError if it isn't the torrent of one blob.
    """
    return _load(parse_blob_torrent(data))


def _load(parsed: ParsedTorrent) -> lt.torrent_info:
    try:
        info = lt.torrent_info(parsed.canonical)
    except RuntimeError as error:
        raise MalformedError(f"libtorrent refuses the torrent: {error}") from None
    found = info.info_hashes()
    if (str(found.v1), str(found.v2)) != (parsed.v1, parsed.v2):
        raise MalformedError(
            "libtorrent reads the torrent differently",
            expected=f"{parsed.v1} {parsed.v2}", actual=f"{found.v1} {found.v2}",
        )  # fmt: skip
    return info
