"""Blobs, homes and releases to test with, and what a home looks like when nothing is left over."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.making import init_publisher
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import Publisher
from samara.schemas.manifest import Release, ReleaseFile
from samara.schemas.references import parse_reference
from samara.seeder.publish import Description, publish

MIB = 1 << 20
PIECE = 256 * 1024  # of every blob up to 512 MiB
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = 1  # bcrypt rounds: these passphrases protect nothing
FIXTURES = Path(__file__).parent.parent / "fixtures"


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A published release: whose, where its files lie, and the `.samara` file to pull it by."""

    home: Home
    publisher: Publisher
    release: Release
    file: Path
    sources: tuple[Path, ...]
    torrents: Mapping[str, bytes]

    @property
    def reference(self) -> str:
        """`acme/model:tag`."""
        return f"{self.publisher.name}/{self.release.model}:{self.release.tag}"

    @property
    def pinned(self) -> str:
        """`acme/model@b3:…`: needs no catalog."""
        return f"{self.publisher.name}/{self.release.model}@{self.release.digest}"

    @property
    def source(self) -> Path:
        """The one file of a release of one file."""
        (only,) = self.sources
        return only

    @property
    def only(self) -> ReleaseFile:
        """The same in the manifest."""
        (only,) = self.release.files
        return only

    @property
    def torrent(self) -> bytes:
        """Its torrent."""
        return self.torrents[self.only.b3]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.release.size


def random_file(path: Path, size: int, *, seed: int) -> Path:
    """`size` bytes that don't compress and are the same every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    with path.open("wb") as file:
        for at in range(0, size, MIB):
            file.write(generator.randbytes(min(MIB, size - at)))
    return path


def shelf(
    root: Path,
    files: Sequence[Path],
    *,
    reference: str = "acme/blob:v1",
    mirrors: tuple[str, ...] = (),
    publisher: Publisher | None = None,
) -> Shelf:
    """Publish `files` from a home below `root`, as `samara publisher init` and `samara publish` do."""
    home = Home(root / "publisher")
    parsed = parse_reference(reference)
    if publisher is None:
        publisher = init_publisher(
            home, parsed.publisher, passphrase=None, recovery=None, now=NOW, kdf_rounds=QUICK
        )  # fmt: skip
    done = publish(
        home,
        files,
        parsed,
        publisher,
        description=Description(mirrors=mirrors),
        output=root / f"{parsed.model}-{parsed.tag}.samara",
    )
    with Index.open(home) as index:
        found = {file.b3: index.blob(file.b3) for file in done.release.files}
    return Shelf(
        home=home,
        publisher=publisher,
        release=done.release,
        file=done.release_file,
        sources=tuple(files),
        torrents={b3: blob.torrent for b3, blob in found.items() if blob is not None and blob.torrent is not None},
    )


def one_blob(root: Path, size: int = 8 * MIB, *, seed: int = 1, mirrors: tuple[str, ...] = ()) -> Shelf:
    """A release of one file of random bytes."""
    return shelf(root, [random_file(root / "files" / "blob.bin", size, seed=seed)], mirrors=mirrors)


def trusting_home(folder: Path, published: Shelf) -> Home:
    """A new home that trusts the publisher and has nothing else."""
    home = Home(folder)
    TrustFolder(home.trust).add(published.publisher.name, published.publisher.identity, now=NOW)
    return home


def flip(path: Path, offset: int) -> None:
    """Turn over one bit, and put the time stamps back: rot, not an edit."""
    before = path.stat()
    mode = before.st_mode & 0o777
    path.chmod(mode | 0o200)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x10]))
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped_copy(source: Path, target: Path, offsets: Sequence[int]) -> Path:
    """A copy with one bit wrong at each offset."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data = bytearray(source.read_bytes())
    for offset in offsets:
        data[offset] ^= 0x10
    target.write_bytes(data)
    return target


def leftovers(home: Home) -> list[str]:
    """What no finished work leaves behind: partials, temporary files, transfers noted in the index."""
    found = [str(path.relative_to(home.root)) for path in sorted(home.partials.glob("*"))]
    found += [str(path.relative_to(home.root)) for path in sorted(home.root.rglob(f"{TEMPORARY_PREFIX}*"))]
    with Index.open(home) as index:
        found += [f"index: {b3}" for b3 in index.partials()]
    return found


def assert_pulled(home: Home, published: Shelf) -> None:
    """Every file is in the store byte for byte, read-only, under its name, known to the index; nothing else is left."""
    for source, file in zip(published.sources, published.release.files, strict=True):
        blob = home.blob(file.b3_hex)
        assert blob.read_bytes() == source.read_bytes(), f"{file.path} has other bytes"
        assert blob.stat().st_mode & 0o777 == 0o444
        view = home.models / published.publisher.name / published.release.model / published.release.tag / file.path
        assert view.samefile(blob), f"{view} is not the blob"
        with Index.open(home) as index:
            known = index.location_at(blob)
        assert known is not None, f"the index doesn't know {blob}"
        assert known[0] == file.b3
    assert leftovers(home) == []


def partial_data(home: Home, file: ReleaseFile) -> Path:
    """Where the bytes of a transfer in progress lie."""
    return home.partials / file.b3_hex / "data"
