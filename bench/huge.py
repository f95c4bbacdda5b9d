"""A model of 100 GB: how soon a pull knows what to fetch, and how much memory it takes.

    sudo python bench/huge.py                   a table
    sudo python bench/huge.py --json result.json

    nothing      the pull begins with nothing
    recorded     half of it is here, and a record says so
    unrecorded   4 GB of it are here, and no record: they have to be hashed

The model is a sparse file of zeros, whose blocks and pieces are all alike: each is hashed once, not 6,000 times. The
two digests of the whole file are made up, as no pull here gets that far: each is ended by SIGINT three seconds after it
planned. `planned` is the time from the start of the process to its `pull_planned`, trust and start-up included; memory
is the most that the process has had until its end. Half a model takes 50 GB: the home lies on an XFS in a sparse file,
where one gigabyte is shared many times. Needs Linux, root, xfsprogs. Asked for in issue 4: ≤ 250 MB, planning ≤ 2 s.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from blake3 import blake3
from measure import peak_rss, report
from transfer import SAMARA, seeding

import samara.seeder.publish as publishing
from samara.fetcher.partial import Claims, Partial
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.making import init_publisher
from samara.registry.trust.pins import TrustFolder
from samara.schemas.bittorrent import (
    LEAF,
    TorrentHashes,
    merkle_root,
    parse_blob_torrent,
    piece_length_for,
    pieces_root_of_layer,
)
from samara.schemas.manifest import ReleaseFile
from samara.schemas.ranges import Bitmap, PieceMap
from samara.schemas.references import parse_reference
from samara.schemas.stamps import Stamp
from samara.seeder.hashing import FileHashes

PIECE = 16 << 20
PIECES = 6000
GIGABYTE = 1 << 30
FICLONERANGE = 0x4020940D  # linux/fs.h
GOES_ON = 3.0  # seconds after planning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        sys.exit("this bench needs root and mkfs.xfs: apt-get install xfsprogs")
    with (
        tempfile.TemporaryDirectory(prefix="samara-bench-", dir=options.folder) as folder,
        sparse_disk(Path(folder), 400 * GIGABYTE) as disk,
    ):
        measure(disk, options)


def measure(work: Path, options: argparse.Namespace) -> None:
    model = work / "model.bin"
    with model.open("wb") as file:
        file.truncate(PIECES * PIECE)
    theirs = Home(work / "publisher")
    publisher = init_publisher(theirs, "bench", passphrase=None, recovery=None, now=datetime.now(UTC), kdf_rounds=1)
    with mock.patch.object(publishing, "hash_file", zeros):
        done = publishing.publish(
            theirs, [model], parse_reference("bench/model:v1"), publisher, output=work / "model.samara"
        )
    (file_,) = done.release.files
    with Index.open(theirs) as index:
        blob = index.blob(file_.b3)
    assert blob is not None
    assert blob.torrent is not None
    v2 = parse_blob_torrent(blob.torrent).v2
    cases: dict[str, list[dict[str, float]]] = {}
    with seeding(theirs.root) as seeder:
        command = [
            *SAMARA, "pull", str(work / "model.samara"), "--peer", f"127.0.0.1:{seeder.port}", "--no-discovery",
            "--listen", "127.0.0.1:0", "--json",
        ]  # fmt: skip
        for number in range(options.rounds):
            for case, there in {"nothing": 0, "recorded": PIECES // 2, "unrecorded": 4 * GIGABYTE // PIECE}.items():
                print(f"round {number + 1} of {options.rounds}: {case}", file=sys.stderr, flush=True)
                home = Home(work / "home")
                TrustFolder(home.trust).add("bench", publisher.identity, now=datetime.now(UTC))
                if there:
                    half_there(home, file_, v2, there, record=case == "recorded")
                os.sync()
                cases.setdefault(case, []).append(pull(command, home))
                shutil.rmtree(home.root)
    medians = {
        case: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for case, runs in cases.items()
    }
    result = {"bytes": file_.size, "pieces": PIECES, "blocks": len(file_.blocks), "cases": medians}
    rows = [("", "planned", "memory", "here already"), ("asked for", "≤ 2 s", "≤ 250 MB", "")]
    rows += [
        (case, f"{told['planned']:.2f} s", f"{told['rss'] / 1e6:.0f} MB", f"{told['here'] / 1e9:.1f} GB")
        for case, told in medians.items()
    ]
    report(result, rows, options.json)


def zeros(path: str | os.PathLike[str], cuts: tuple[int, ...], *, fd: int, **_more: object) -> FileHashes:
    """What `hash_file` would find in a file of zeros, but for the digests of the whole."""
    size = os.fstat(fd).st_size
    length = piece_length_for(size)
    if sum(cuts) != size or size % length:
        sys.exit(f"{path} is not a whole number of pieces")
    digests = {cut: blake3(bytes(cut)).digest() for cut in set(cuts)}
    node = merkle_root([hashlib.sha256(bytes(LEAF)).digest()] * (length // LEAF), pad=bytes(32))
    layer = node * (size // length)
    return FileHashes(
        size=size,
        b3=blake3(b"a made-up digest").digest(),
        sha256=hashlib.sha256(b"a made-up digest").digest(),
        blocks=tuple((cut, digests[cut]) for cut in cuts),
        torrent=TorrentHashes(
            size=size,
            piece_length=length,
            pieces_root=pieces_root_of_layer(layer, length),
            v1_pieces=hashlib.sha1(bytes(length), usedforsecurity=False).digest() * (size // length),
            v2_layer=layer,
        ),
        stamp=Stamp.of(os.fstat(fd)),
    )


def half_there(home: Home, file: ReleaseFile, v2: str, pieces: int, *, record: bool) -> None:
    """A transfer whose first `pieces` pieces came: zeros that take room on the disk, one gigabyte shared many times."""
    partial = Partial(home, file.b3_hex, v2)
    partial.folder.mkdir(parents=True)
    one = home.root / "gigabyte"
    one.write_bytes(bytes(GIGABYTE))
    with one.open("rb") as source, partial.data.open("wb") as data:
        os.fsync(source.fileno())
        data.truncate(file.size)
        for start in range(0, pieces * PIECE, GIGABYTE):
            length = min(GIGABYTE, pieces * PIECE - start)
            fcntl.ioctl(data.fileno(), FICLONERANGE, struct.pack("=qQQQ", source.fileno(), 0, length, start))
        os.fsync(data.fileno())
    one.unlink()
    if record:
        piece_map = PieceMap([block.size for block in file.blocks], PIECE)
        claims = Bitmap.of(PIECES, range(pieces))
        partial.save(Claims(pieces=claims, blocks=piece_map.blocks_covered(claims)))


def pull(command: list[str], home: Home) -> dict[str, float]:
    """Seconds until it planned, what it found here, and the most memory it had until it was stopped a little later."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, "SAMARA_HOME": str(home.root)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    planned: dict[str, Any] | None = None
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "pull_planned":
            planned = {**event, "planned": time.monotonic() - started}
            break
    if planned is None:
        sys.exit("the pull ended before it planned")
    with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
        time.sleep(GOES_ON)
        rss = peak_rss(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait()
    if process.returncode != 130:
        sys.exit(f"the pull ended with {process.returncode}")
    return {"planned": planned["planned"], "here": float(planned["bytes_here"]), "rss": float(rss)}


@contextlib.contextmanager
def sparse_disk(folder: Path, size: int) -> Iterator[Path]:
    """An XFS in a file that takes no more room than is written to it."""
    image, disk = folder / "disk.img", folder / "disk"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    main()
