"""What importing and exporting a bundle cost, held against the disk and the hashes of this machine.

    python bench/bundle.py                         2,048 MB, five rounds, a table
    python bench/bundle.py 4096 --rounds 3         4 GB
    python bench/bundle.py --folder /mnt/nas --json result.json

A release of one file of random bytes is published once. Each round then measures, one after the other on the same disk,
so that a busy machine harms all of them:

    disk      write the same bytes from memory into a file, and fsync
    hashes    BLAKE3 of the whole in one thread, and of each block in another, of bytes already in memory
    bound     disk + hashes: what a machine needs that does one after the other. 1.0 is no limit: an import hashes while
              the disk writes, but also has to read, unpack and prove
    import    `samara bundle import` as a process, into a home that trusts the publisher
    export    `samara bundle export` as a process; its bound is disk + the whole's BLAKE3
    start     the same import of a few bytes: what Python and its libraries take, whatever the size

`import` less `start` should reach 0.7 of its bound (issue 3); the ratio with start-up is told too. Ratios are medians
of the rounds' ratios. Before each measurement dirty pages are written out. Needs `samara` installed, or PYTHONPATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from blake3 import blake3
from measure import report, run

from samara.registry.home import ENV_HOME, Home
from samara.registry.trust.making import init_publisher
from samara.registry.trust.pins import TrustFolder
from samara.schemas.references import parse_reference
from samara.seeder.publish import publish

MB = 1_000_000
BLOCK = 4 << 20
SPAN = 64 << 20  # what is in memory at once: large enough that its hashing is not all starting and stopping
NAME, FEW = "acme/bench:v1", "acme/few:v1"


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds of one round."""

    disk: float
    hashes: float
    whole: float
    import_: float
    export: float
    start: float

    @property
    def import_ratio(self) -> float:
        return (self.disk + self.hashes) / (self.import_ - self.start)

    @property
    def import_ratio_with_start(self) -> float:
        return (self.disk + self.hashes) / self.import_

    @property
    def export_ratio(self) -> float:
        return (self.disk + self.whole) / self.export


def timed(act: Callable[[], object]) -> float:
    """Seconds that `act` takes, beginning with clean pages."""
    os.sync()
    started = time.monotonic()
    act()
    return time.monotonic() - started


def write_file(path: Path, span: bytes, size: int) -> None:
    """`size` bytes and an fsync."""
    with path.open("wb", buffering=0) as file:
        for at in range(0, size, len(span)):
            view = memoryview(span)[: size - at]
            while view:
                view = view[file.write(view) :]
        os.fsync(file.fileno())


def hash_whole(span: bytes, size: int) -> None:
    """BLAKE3 of `size` bytes in one thread."""
    hasher = blake3()
    for at in range(0, size, len(span)):
        hasher.update(memoryview(span)[: size - at])


def hash_blocks(span: bytes, size: int) -> None:
    """BLAKE3 of each block of `size` bytes in one thread."""
    for at in range(0, size, len(span)):
        part = memoryview(span)[: size - at]
        for start in range(0, len(part), BLOCK):
            blake3(part[start : start + BLOCK])


def hash_both(span: bytes, size: int) -> None:
    """Both, each in a thread of its own."""
    other = threading.Thread(target=hash_blocks, args=(span, size))
    other.start()
    hash_whole(span, size)
    other.join()


def prepared(folder: Path, size: int) -> tuple[Home, str]:
    """A publisher with a release of one random file in place; its home and identity."""
    source = folder / "model.bin"
    with source.open("wb") as file:
        for at in range(0, size, SPAN):
            file.write(os.urandom(min(SPAN, size - at)))
    home = Home(folder / "publisher")
    publisher = init_publisher(
        home, "acme", passphrase=None, recovery=None, now=datetime.now(UTC), kdf_rounds=1
    )  # fmt: skip
    few = folder / "few.txt"
    few.write_bytes(os.urandom(1000))
    publish(home, [source], parse_reference(NAME), publisher, output=folder / "bench.samara")
    publish(home, [few], parse_reference(FEW), publisher, output=folder / "few.samara")
    return home, publisher.identity


def one_round(folder: Path, home: Home, identity: str, size: int) -> Round:
    """Each measurement once."""
    span = os.urandom(SPAN)
    bundle, few, scratch = folder / "bench.tar.zst", folder / "few.tar.zst", folder / "scratch"
    samara = [sys.executable, "-m", "samara", "bundle"]
    bundle.unlink(missing_ok=True)
    export = timed(lambda: run([*samara, "export", NAME, bundle, "-q"], env={ENV_HOME: str(home.root)}))
    run([*samara, "export", FEW, few, "-q"], env={ENV_HOME: str(home.root)})
    disk = timed(lambda: write_file(scratch, span, size))
    scratch.unlink()
    took = {}
    for file in (bundle, few):
        target = Home(folder / "target")
        TrustFolder(target.trust).add("acme", identity, now=datetime.now(UTC))
        command = [*samara, "import", file, "-q"]
        took[file] = timed(lambda c=command, h=target: run(c, env={ENV_HOME: str(h.root)}))  # type: ignore[misc]
        shutil.rmtree(target.root)
    return Round(
        disk=disk,
        hashes=timed(lambda: hash_both(span, size)),
        whole=timed(lambda: hash_whole(span, size)),
        import_=took[bundle],
        export=export,
        start=took[few],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megabytes", nargs="?", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--json", type=Path, dest="output", help="write the figures there")
    options = parser.parse_args()
    size = options.megabytes * MB
    with tempfile.TemporaryDirectory(prefix="samara-bench-", dir=options.folder) as name:
        folder = Path(name)
        home, identity = prepared(folder, size)
        rounds = [one_round(folder, home, identity, size) for _ in range(options.rounds)]
    rows = [("", "seconds", "MB/s", "of its bound")]
    medians = {key: statistics.median(asdict(one)[key] for one in rounds) for key in asdict(rounds[0])}
    ratios = {
        "import_": statistics.median(one.import_ratio for one in rounds),
        "import_with_start": statistics.median(one.import_ratio_with_start for one in rounds),
        "export": statistics.median(one.export_ratio for one in rounds),
    }
    for key, seconds in medians.items():
        ratio = f"{ratios[key]:.2f}" if key in ratios else ""
        if key == "import_":
            ratio += f" ({ratios['import_with_start']:.2f} with start)"
        rows.append((key.strip("_"), f"{seconds:.2f}", f"{size / MB / seconds:.0f}", ratio))
    report(
        {
            "what": "bundle",
            "bytes": size,
            "ratios": {key.strip("_"): round(value, 3) for key, value in ratios.items()},
            "rounds": [asdict(one) for one in rounds],
        },
        rows,
        options.output,
    )


if __name__ == "__main__":
    main()
