"""A blob's torrent, as libtorrent reads it. Builds and loads; touches no disk and no network.

The bytes come from `samara.schemas.bittorrent`, a pure function of the blob's hashes. libtorrent is asked whether it
reads them as we do before anyone else gets them. Of a .torrent from elsewhere libtorrent never sees more than `info`
and piece layers: no trackers, nodes or URLs (BEP 3, BEP 52).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import libtorrent as lt

from samara.schemas.bittorrent import (
    LEAF,
    MAX_SMALL_FILE,
    MAX_TORRENT_BYTES,
    ParsedTorrent,
    TorrentHashes,
    bdecode,
    bencode,
    blob_file_name,
    hybrid_torrent,
    info_bytes,
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


MAX_SMALL_INFO_BYTES = LEAF  # a small file's info dict has some 200: nothing larger is taken from a peer
_SMALL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallInfo:
    """What the info dict of one small file says. `v2`: its infohash, 64 hex digits; `size` in bytes."""

    name: str
    size: int
    v2: str


def parse_small_info(info: bytes) -> SmallInfo:
    """The info dict of one small file, byte for byte as `schemas.bittorrent.small_torrent` writes it.

    Raises MalformedError for anything else: several files, folders, other names than plain ones, hybrids, more than
    one piece, further fields.
    """
    if len(info) > MAX_SMALL_INFO_BYTES:
        raise MalformedError("torrent's info too large", expected=f"≤ {MAX_SMALL_INFO_BYTES} bytes", actual=len(info))
    fields = bdecode(info)
    tree = fields.get(b"file tree") if isinstance(fields, dict) else None
    name, entry = next(iter(tree.items())) if isinstance(tree, dict) and len(tree) == 1 else (b"", None)
    props = entry.get(b"") if isinstance(entry, dict) else None
    length, root = (props.get(key) for key in (b"length", b"pieces root")) if isinstance(props, dict) else (None, None)
    text = name.decode("ascii", "replace")
    if not _SMALL_NAME.match(text):
        raise MalformedError(
            "not the torrent of one small file", expected="one plain file name", actual=repr(text[:80])
        )
    if not isinstance(length, int) or not 0 < length <= MAX_SMALL_FILE:
        raise MalformedError(f"{text} has an impossible size", expected=f"1…{MAX_SMALL_FILE} bytes", actual=length)
    if not isinstance(root, bytes) or len(root) != 32:
        raise MalformedError(f"{text} has no pieces root of 32 bytes")
    piece_length = LEAF
    while piece_length < length:
        piece_length *= 2
    ours = bencode(
        {
            "file tree": {text: {"": {"length": length, "pieces root": root}}},
            "meta version": 2,
            "name": text,
            "piece length": piece_length,
        }
    )
    if ours != info:
        raise MalformedError(f"the torrent of {text} has fields that ours never has")
    return SmallInfo(name=text, size=length, v2=hashlib.sha256(info).hexdigest())


def small_torrent_info(data: bytes) -> lt.torrent_info:
    """The .torrent of one small file, for the swarm: parsed strictly first, and stripped to its info dict.

    Raises MalformedError if it isn't one.
    """
    info = info_bytes(data)
    v2 = parse_small_info(info).v2
    try:
        loaded = lt.torrent_info(b"d4:info" + info + b"e")
    except RuntimeError as error:
        raise MalformedError(f"libtorrent refuses the torrent: {error}") from None
    if str(loaded.info_hashes().v2) != v2 or loaded.info_hashes().has_v1():
        raise MalformedError("libtorrent reads the torrent differently", expected=v2, actual=loaded.info_hashes().v2)
    return loaded


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
