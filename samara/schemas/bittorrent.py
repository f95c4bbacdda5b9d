"""BitTorrent formats as pure functions: bencode, the info dict of one blob, infohashes, magnets.

A blob's torrent is a pure function of its bytes (hybrid v1+v2, one file, no private fields), so two people who publish
the same bytes land in the same swarm without knowing of each other. Nothing here touches libtorrent, disk or network;
`samara.seeder.torrent` validates the result with libtorrent. Sources: BEP 3 (bencode, v1), BEP 52 (v2, hybrid),
BEP 9 (magnet).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from samara.schemas.errors import MalformedError, UsageError

LEAF = 16 * 1024  # BEP 52: the Merkle tree's leaves are SHA-256 of 16 KiB
MIN_PIECE = 256 * 1024
MAX_PIECE = 16 * 1024 * 1024
MAX_DEPTH = 16  # of bencoded lists and dictionaries in each other; a torrent of ours has 5
MAX_VALUES = 65_536  # in one bencoded document: small documents can't ask for much memory
MAX_TORRENT_BYTES = 8 * 1024 * 1024  # larger than any file up to 2.4 TB at 16 MiB pieces needs

Bencodable = int | bytes | str | Sequence["Bencodable"] | Mapping[str, "Bencodable"] | Mapping[bytes, "Bencodable"]


def bencode(value: Bencodable) -> bytes:
    """Canonical bencoding (BEP 3): dictionary keys sorted as raw bytes."""
    out: list[bytes] = []
    _bencode(value, out)
    return b"".join(out)


def _bencode(value: Bencodable, out: list[bytes]) -> None:
    if isinstance(value, bool):
        raise TypeError("bencode has no booleans")
    if isinstance(value, int):
        out.append(b"i%de" % value)
    elif isinstance(value, str):
        _bencode(value.encode(), out)
    elif isinstance(value, bytes):
        out.append(b"%d:" % len(value))
        out.append(value)
    elif isinstance(value, Mapping):
        out.append(b"d")
        pairs = sorted((k.encode() if isinstance(k, str) else k, v) for k, v in value.items())
        for key, item in pairs:
            _bencode(key, out)
            _bencode(item, out)
        out.append(b"e")
    else:
        out.append(b"l")
        for item in value:
            _bencode(item, out)
        out.append(b"e")


def piece_length_for(size: int) -> int:
    """The smallest power of two ≥ size/2048, within 256 KiB … 16 MiB (bytes)."""
    wanted = MIN_PIECE
    while wanted < MAX_PIECE and wanted * 2048 < size:
        wanted *= 2
    return wanted


def piece_count(size: int, piece_length: int) -> int:
    """How many pieces cover `size` bytes."""
    return -(-size // piece_length)


_BLOB_FILE_NAME = re.compile(r"[0-9a-f]{64}\.(gguf|bin)\Z")


def blob_file_name(b3_hex: str, *, gguf: bool) -> str:
    """The one file name in a blob's torrent: the blob's digest, never what anyone calls the file."""
    return b3_hex + (".gguf" if gguf else ".bin")


@dataclass(frozen=True, kw_only=True, slots=True)
class TorrentHashes:
    """What BitTorrent needs to know of one blob's bytes.

    `v1_pieces`: SHA-1 of each piece, 20 bytes each, the last piece unpadded (BEP 3).
    `v2_layer`: SHA-256 Merkle node of each piece, 32 bytes each (BEP 52); one node for a file of at most one piece.
    """

    size: int
    piece_length: int
    pieces_root: bytes
    v1_pieces: bytes
    v2_layer: bytes


def merkle_root(nodes: Sequence[bytes], *, pad: bytes) -> bytes:
    """Root of the SHA-256 tree over `nodes`, filled with `pad` up to a power of two (BEP 52)."""
    level = list(nodes)
    while len(level) > 1:
        if len(level) % 2:
            level.append(pad)
        level = [hashlib.sha256(level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
        pad = hashlib.sha256(pad + pad).digest()
    return level[0]


def zero_piece_node(piece_length: int) -> bytes:
    """The Merkle node of a piece whose leaves are all missing (32 zero bytes per leaf, BEP 52)."""
    node = bytes(32)
    leaves = piece_length // LEAF
    while leaves > 1:
        node = hashlib.sha256(node + node).digest()
        leaves //= 2
    return node


def pieces_root_of_layer(layer: bytes, piece_length: int) -> bytes:
    """The file's `pieces root` from its piece layer (32 bytes a piece)."""
    nodes = [layer[i : i + 32] for i in range(0, len(layer), 32)]
    return merkle_root(nodes, pad=zero_piece_node(piece_length))


def hybrid_torrent(name: str, hashes: TorrentHashes) -> bytes:
    """The whole .torrent of one blob: only `info` and, for more than one piece, `piece layers` (BEP 52)."""
    info: dict[str, Bencodable] = {
        "file tree": {name: {"": {"length": hashes.size, "pieces root": hashes.pieces_root}}},
        "length": hashes.size,
        "meta version": 2,
        "name": name,
        "piece length": hashes.piece_length,
        "pieces": hashes.v1_pieces,
    }
    torrent: dict[bytes, Bencodable] = {b"info": info}
    if hashes.size > hashes.piece_length:
        torrent[b"piece layers"] = {hashes.pieces_root: hashes.v2_layer}
    return bencode(torrent)


def single_leaf_v2_info(name: str, data: bytes) -> bytes:
    """The v2-only info dict of one small file (≤ 16 KiB): what a publisher's identity is the infohash of."""
    if not 0 < len(data) <= LEAF:
        raise MalformedError(f"{name} must fit one Merkle leaf", expected=f"1…{LEAF} bytes", actual=f"{len(data)}")
    return _one_piece_v2_info(name, data)


MAX_SMALL_FILE = MAX_PIECE  # one piece: its Merkle root alone checks it, so a magnet link needs no piece layer


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallTorrent:
    """A v2-only torrent of one small file. `v2`: its infohash, 64 hex digits; `data`: the whole .torrent."""

    name: str
    size: int
    v2: str
    data: bytes


def small_torrent(name: str, data: bytes) -> SmallTorrent:
    """The v2-only torrent of a file of at most one piece (16 MiB): how metadata travels from peer to peer (BEP 52).

    A pure function of name and bytes. Piece length: the smallest power of two that holds the file, at least 16 KiB.
    Raises MalformedError for an empty or larger file.
    """
    if not 0 < len(data) <= MAX_SMALL_FILE:
        raise MalformedError(f"{name} must fit one piece", expected=f"1…{MAX_SMALL_FILE} bytes", actual=len(data))
    info = _one_piece_v2_info(name, data)
    v2 = hashlib.sha256(info).hexdigest()
    return SmallTorrent(name=name, size=len(data), v2=v2, data=b"d4:info" + info + b"e")


def _one_piece_v2_info(name: str, data: bytes) -> bytes:
    piece_length = LEAF
    while piece_length < len(data):
        piece_length *= 2
    leaves = [hashlib.sha256(data[at : at + LEAF]).digest() for at in range(0, len(data), LEAF)]
    return bencode(
        {
            "file tree": {name: {"": {"length": len(data), "pieces root": merkle_root(leaves, pad=bytes(32))}}},
            "meta version": 2,
            "name": name,
            "piece length": piece_length,
        }
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedTorrent:
    """The parts of a blob's .torrent that we keep; anything else in the file was refused or dropped."""

    name: str
    hashes: TorrentHashes
    v1: str
    v2: str
    canonical: bytes


def parse_blob_torrent(data: bytes) -> ParsedTorrent:
    """Parse a hybrid single-file .torrent strictly and rebuild it from its parts.

    Trackers, nodes, web seeds and every other field are dropped: `canonical` holds `info` and `piece layers` alone.
    Raises MalformedError if it isn't exactly the torrent this project would have made of the same hashes.
    """
    if len(data) > MAX_TORRENT_BYTES:
        raise MalformedError("torrent too large", expected=f"≤ {MAX_TORRENT_BYTES} bytes", actual=len(data))
    top = bdecode(data)
    if not isinstance(top, dict) or not isinstance(info := top.get(b"info"), dict):
        raise MalformedError("torrent without an info dictionary")
    name, length, piece_length, pieces = (info.get(k) for k in (b"name", b"length", b"piece length", b"pieces"))
    if (
        not isinstance(name, bytes)
        or not isinstance(length, int)
        or not isinstance(piece_length, int)
        or not isinstance(pieces, bytes)
        or length < 1
        or piece_length != piece_length_for(length)
    ):
        raise MalformedError("torrent is not a hybrid single-file torrent of ours")
    count = piece_count(length, piece_length)
    tree = info.get(b"file tree")
    leaf = tree.get(name) if isinstance(tree, dict) else None
    props = leaf.get(b"") if isinstance(leaf, dict) else None
    root = props.get(b"pieces root") if isinstance(props, dict) else None
    if not isinstance(root, bytes) or len(root) != 32 or len(pieces) != 20 * count:
        raise MalformedError("torrent's hashes have the wrong shape")
    layer: object = root
    if length > piece_length:
        layers = top.get(b"piece layers")
        layer = layers.get(root) if isinstance(layers, dict) else None
    if not isinstance(layer, bytes) or len(layer) != 32 * count:
        raise MalformedError("torrent's piece layer is missing or has the wrong length")
    if length > piece_length and pieces_root_of_layer(layer, piece_length) != root:
        raise MalformedError("torrent's piece layer doesn't hash to its pieces root")
    hashes = TorrentHashes(size=length, piece_length=piece_length, pieces_root=root, v1_pieces=pieces, v2_layer=layer)
    text_name = name.decode(errors="replace")
    if not _BLOB_FILE_NAME.match(text_name):
        raise MalformedError(
            "torrent's file has another name than ours have",
            expected="<64 hex digits>.gguf or .bin", actual=repr(text_name[:80]),
        )  # fmt: skip
    canonical = hybrid_torrent(text_name, hashes)
    raw_info = bencode(info)
    if info_bytes(canonical) != raw_info:
        raise MalformedError("torrent has fields in its info dictionary that ours never has")
    v1, v2 = infohashes(raw_info)
    return ParsedTorrent(name=text_name, hashes=hashes, v1=v1, v2=v2, canonical=canonical)


def info_bytes(torrent: bytes) -> bytes:
    """The bencoded info dictionary inside a .torrent."""
    top = bdecode(torrent)
    if not isinstance(top, dict) or not isinstance(top.get(b"info"), dict):
        raise MalformedError("torrent without an info dictionary")
    return bencode(top[b"info"])


def infohashes(info: bytes) -> tuple[str, str]:
    """(v1, v2) infohashes of a bencoded info dict, as 40 and 64 hex digits."""
    return hashlib.sha1(info, usedforsecurity=False).hexdigest(), hashlib.sha256(info).hexdigest()


def magnet(
    v1: str | None, v2: str, *, name: str | None = None, manifest: str | None = None, release: str | None = None
) -> str:
    """A magnet link with both infohashes (BEP 9, BEP 52): old clients use v1, new ones v2.

    `manifest` (`b3:…`) and `release` (v2 infohash of the release object's swarm) tell samara whose word vouches for the
    bytes; other clients pass over parameters that begin with `x.` (BEP 9).
    """
    parts = [f"xt=urn:btih:{v1}"] if v1 else []
    parts.append(f"xt=urn:btmh:1220{v2}")
    if name:
        parts.append("dn=" + quote(name))
    if manifest:
        parts.append("x.manifest=" + manifest)
    if release:
        parts.append("x.release=" + release)
    return "magnet:?" + "&".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Magnet:
    """What a magnet link names: infohashes as 40 and 64 hex digits, manifest (`b3:…`) and release object's infohash."""

    v1: str | None
    v2: str | None
    manifest: str | None
    release: str | None


_MAGNET_FIELDS = {
    "v1": re.compile(r"urn:btih:([0-9a-f]{40})\Z"),
    "v2": re.compile(r"urn:btmh:1220([0-9a-f]{64})\Z"),
    "manifest": re.compile(r"(b3:[0-9a-f]{64})\Z"),
    "release": re.compile(r"([0-9a-f]{64})\Z"),
}
MAX_MAGNET = 8192  # characters


def parse_magnet(link: str) -> Magnet:
    """A magnet link → Magnet; trackers, peers and URLs in it are passed over. Raises UsageError."""
    head, mark, query = link.partition("?")
    if head != "magnet:" or not mark or len(link) > MAX_MAGNET:
        raise UsageError("not a magnet link", expected="magnet:?xt=urn:btmh:…", actual=repr(link[:80]))
    found: dict[str, str] = {}
    for key, value in parse_qsl(query):
        names = {"xt": ("v1", "v2"), "x.manifest": ("manifest",), "x.release": ("release",)}.get(key, ())
        for name in names:
            match = _MAGNET_FIELDS[name].match(value)
            if match:
                found.setdefault(name, match[1])
    return Magnet(**{name: found.get(name) for name in _MAGNET_FIELDS})


Bdecoded = int | bytes | list["Bdecoded"] | dict[bytes, "Bdecoded"]


def bdecode(data: bytes) -> Bdecoded:
    """Strict bencode reader: canonical integers, sorted unique keys, no trailing bytes, depth ≤ 16, ≤ 65,536 values.

    Raises MalformedError.
    """
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except ValueError:
        raise MalformedError("not valid bencoding", actual=f"trouble at byte {reader.at} of {len(data)}") from None
    if reader.at != len(data):
        raise MalformedError("bencoding with trailing bytes", expected=reader.at, actual=len(data))
    return value


class _Reader:
    """Where we are in one bencoded document. Every problem is a ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0
        self.at = 0

    def value(self, depth: int) -> Bdecoded:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise ValueError
        match self._data[self.at : self.at + 1]:
            case b"i":
                self.at += 1
                return self._integer(b"e", 24)
            case b"l":
                return self._list(depth)
            case b"d":
                return self._dictionary(depth)
        length = self._integer(b":", 20)
        start = self.at
        if length < 0 or length > len(self._data) - start:
            raise ValueError
        self.at += length
        return self._data[start : self.at]

    def _integer(self, end: bytes, longest: int) -> int:
        stop = self._data.index(end, self.at, self.at + longest)
        digits = self._data[self.at : stop]
        number = int(digits)
        if b"%d" % number != digits:
            raise ValueError
        self.at = stop + 1
        return number

    def _ended(self) -> bool:
        if self._data[self.at : self.at + 1] != b"e":
            return False
        self.at += 1
        return True

    def _list(self, depth: int) -> list[Bdecoded]:
        self.at += 1
        items: list[Bdecoded] = []
        while not self._ended():
            items.append(self.value(depth + 1))
        return items

    def _dictionary(self, depth: int) -> dict[bytes, Bdecoded]:
        self.at += 1
        table: dict[bytes, Bdecoded] = {}
        last: bytes | None = None
        while not self._ended():
            key = self.value(depth + 1)
            if not isinstance(key, bytes) or (last is not None and key <= last):
                raise ValueError
            table[key] = self.value(depth + 1)
            last = key
        return table
