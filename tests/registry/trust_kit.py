"""Real keys, real roots and real releases for the trust tests. No test in here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from samara.registry.home import Home
from samara.registry.trust.identity import identity_of
from samara.registry.trust.keys import SecretKey, new_key
from samara.registry.trust.making import init_publisher
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.roots import (
    ROLES,
    ROOT_LIFETIME,
    RolePlan,
    RootChain,
    RootPlan,
    verify_root_chain,
    write_root,
)
from samara.registry.trust.signing import sign_payload
from samara.schemas.bittorrent import (
    LEAF,
    TorrentHashes,
    blob_file_name,
    hybrid_torrent,
    info_bytes,
    infohashes,
    merkle_root,
    piece_length_for,
    pieces_root_of_layer,
)
from samara.schemas.digests import b3, b3_hex, sha256_text
from samara.schemas.envelope import Envelope
from samara.schemas.manifest import BlockEntry, FileEntry, Predicate, PublisherEntry, TorrentEntry, build_payload
from samara.schemas.release_file import ReleaseBundle

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VECTOR = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"  # an identity, of nobody
QUICK = 1  # bcrypt rounds: these passphrases protect nothing

FILES = {"tiny.gguf": bytes(range(256)) * 40, "notes/readme.txt": b"seeds " * 50_000}  # one piece; two pieces


def quick_publisher(home: Home, name: str = "acme", *, passphrase: str | None = None) -> Publisher:
    """A publisher made the ordinary way."""
    return init_publisher(home, name, passphrase=passphrase, recovery=None, now=NOW, kdf_rounds=QUICK)


def plan(
    *, root: Sequence[SecretKey], online: Sequence[SecretKey], version: int = 1, threshold: int = 1, targets: int = 1
) -> RootPlan:
    """A root plan: `threshold` of the root keys, `targets` of the online keys."""
    keys = {role: tuple(key.public for key in (root if role == "root" else online)) for role in ROLES}
    thresholds = {"root": threshold, "targets": targets}
    roles = {role: RolePlan(keys=keys[role], threshold=thresholds.get(role, 1)) for role in ROLES}
    return RootPlan(version=version, expires=NOW + ROOT_LIFETIME, roles=roles, beacon=bytes(range(32)))


@dataclass(frozen=True)
class Line:
    """A publisher's chain of roots with the keys behind it, first ones first."""

    roots: tuple[bytes, ...]
    root_keys: tuple[SecretKey, ...]
    online_keys: tuple[SecretKey, ...]

    @property
    def identity(self) -> str:
        return identity_of(self.roots[0])

    def chain(self, versions: int | None = None) -> RootChain:
        return verify_root_chain(self.identity, self.roots[:versions])


def line_of(versions: int) -> Line:
    """A chain in which every version replaces both the root key and the online key."""
    root_keys = tuple(new_key() for _ in range(versions))
    online_keys = tuple(new_key() for _ in range(versions))
    roots = [write_root(plan(root=root_keys[:1], online=online_keys[:1]), root_keys[:1])]
    for i in range(1, versions):
        wanted = plan(root=root_keys[i : i + 1], online=online_keys[i : i + 1], version=i + 1)
        roots.append(write_root(wanted, root_keys[i - 1 : i + 1]))
    return Line(roots=tuple(roots), root_keys=root_keys, online_keys=online_keys)


def torrent_of(data: bytes, *, gguf: bool) -> bytes:
    """The torrent of one blob, hashed the slow and obvious way."""
    piece = piece_length_for(len(data))
    pieces = [data[i : i + piece] for i in range(0, len(data), piece)]
    leaves = [[hashlib.sha256(p[i : i + LEAF]).digest() for i in range(0, len(p), LEAF)] for p in pieces]
    if len(pieces) > 1:
        layer = b"".join(merkle_root(few + [bytes(32)] * (piece // LEAF - len(few)), pad=bytes(32)) for few in leaves)
        root = pieces_root_of_layer(layer, piece)
    else:
        layer = root = merkle_root(leaves[0], pad=bytes(32))
    hashes = TorrentHashes(
        size=len(data),
        piece_length=piece,
        pieces_root=root,
        v1_pieces=b"".join(hashlib.sha1(p).digest() for p in pieces),
        v2_layer=layer,
    )
    return hybrid_torrent(blob_file_name(b3_hex(b3(data)), gguf=gguf), hashes)


def payload_of(identity: str, *, name: str = "acme", files: dict[str, bytes] | None = None) -> bytes:
    """A manifest's bytes for signing."""
    entries, digests = [], []
    for path, data in (files or FILES).items():
        v1, v2 = infohashes(info_bytes(torrent_of(data, gguf=path.endswith(".gguf"))))
        entry = TorrentEntry(
            v1=v1, v2=v2, piece_length=piece_length_for(len(data)), pieces_root=_pieces_root(data, path)
        )  # fmt: skip
        block = BlockEntry(size=len(data), b3=b3(data))
        entries.append(
            FileEntry(path=path, size=len(data), role="other", layout="fixed-4MiB-v1", blocks=[block], torrent=entry)
        )
        digests.append((b3(data), sha256_text(hashlib.sha256(data).digest())))
    predicate = Predicate(
        publisher=PublisherEntry(identity=identity, name=name),
        model="tiny",
        tag="q8_0",
        version=1,
        created="2026-01-02T03:04:05Z",
        files=entries,
    )
    return build_payload(predicate, digests)


def torrents_of(files: dict[str, bytes] | None = None) -> tuple[bytes, ...]:
    """The torrents that belong to `payload_of`."""
    return tuple(torrent_of(data, gguf=path.endswith(".gguf")) for path, data in (files or FILES).items())


def bundle_of(publisher: Publisher, *, name: str = "acme") -> ReleaseBundle:
    """A whole release, signed by `publisher`."""
    envelope = publisher.sign(payload_of(publisher.identity, name=name), publisher.online_keys())
    return ReleaseBundle(roots=publisher.chain.roots, envelope=envelope, torrents=torrents_of())


def signed_by(line: Line, keys: Sequence[SecretKey]) -> Envelope:
    """A release of `line`'s publisher, signed by whoever."""
    return sign_payload(payload_of(line.identity), keys)


def home_at(folder: Path) -> Home:
    """A SAMARA_HOME that exists."""
    home = Home(folder)
    home.prepare()
    return home


def _pieces_root(data: bytes, path: str) -> str:
    from samara.schemas.bittorrent import parse_blob_torrent

    return parse_blob_torrent(torrent_of(data, gguf=path.endswith(".gguf"))).hashes.pieces_root.hex()
