"""Releases for the index, made without keys: the index records what others have checked. No test in here."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from trust_kit import torrent_of

from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.bittorrent import parse_blob_torrent
from samara.schemas.digests import b3, sha256_text
from samara.schemas.envelope import Envelope, Signature
from samara.schemas.layouts import fixed_blocks
from samara.schemas.manifest import (
    BlockEntry,
    FileEntry,
    Predicate,
    PublisherEntry,
    Release,
    TorrentEntry,
    build_payload,
    parse_manifest,
)

importlib.import_module("_strptime")  # datetime loads it when it first needs it: perhaps as a user who can't read it

ACME = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
MALLORY = "4vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
SIGNATURE = Signature(keyid="ab" * 32, sig=bytes(64))

WEIGHTS = bytes(range(256)) * 40
FILES = {"model.gguf": WEIGHTS, "doc/licence.txt": b"Do as you please.\n"}


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What `add_release` takes."""

    release: Release
    envelope: Envelope
    torrents: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return self.release.digest

    def signed_by(self, *signatures: Signature) -> Signed:
        return replace(self, envelope=replace(self.envelope, signatures=signatures))

    def add_to(self, index: Index, *, now: float = 1.0) -> None:
        index.add_release(self.release, self.envelope, self.torrents, now=now)


def signed(
    files: Mapping[str, bytes] = FILES,
    *,
    identity: str = ACME,
    model: str = "tiny",
    tag: str = "q8_0",
    version: int = 1,
    description: str | None = None,
    torrents: Mapping[str, bytes] | None = None,
) -> Signed:
    """A release of these files; `torrents` (blob → torrent) where they shall be other ones than they should be."""
    entries, digests, carried = [], [], {}
    for path, data in files.items():
        torrent = (torrents or {}).get(b3(data)) or torrent_of(data, gguf=path.endswith(".gguf"))
        parsed = parse_blob_torrent(torrent)
        carried[b3(data)] = torrent
        sizes = fixed_blocks(len(data))
        ends = accumulate(sizes)
        entries.append(
            FileEntry(
                path=path,
                size=len(data),
                role="other",
                layout="fixed-4MiB-v1",
                blocks=[
                    BlockEntry(size=size, b3=b3(data[:end][-size:])) for end, size in zip(ends, sizes, strict=True)
                ],
                torrent=TorrentEntry(
                    v1=parsed.v1,
                    v2=parsed.v2,
                    piece_length=parsed.hashes.piece_length,
                    pieces_root=parsed.hashes.pieces_root.hex(),
                ),
            )
        )
        digests.append((b3(data), sha256_text(hashlib.sha256(data).digest())))
    predicate = Predicate(
        publisher=PublisherEntry(identity=identity, name="acme"),
        model=model,
        tag=tag,
        version=version,
        created="2026-01-02T03:04:05Z",
        description=description,
        files=entries,
    )
    payload = build_payload(predicate, digests)
    return Signed(
        release=parse_manifest(payload), envelope=Envelope(payload=payload, signatures=(SIGNATURE,)), torrents=carried
    )


@contextlib.contextmanager
def closed_to_writers(home: Home) -> Iterator[None]:
    """Nobody but root may write anything in the home."""
    home.root.chmod(0o555)
    for path in home.root.iterdir():
        path.chmod(0o444)
    try:
        yield
    finally:
        home.root.chmod(0o755)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to everything: as nobody where we are root, else as we are."""
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
