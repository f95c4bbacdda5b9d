"""What publishing's one read costs, held against the bound its hashing libraries set on this machine.

    python bench/hashing.py                        512 MB, five rounds, a table
    python bench/hashing.py 2048 --rounds 3        2 GB
    python bench/hashing.py --json result.json     the same figures for programs

The bound: CPU-seconds of the five hashes, each by its library alone in one thread on the same bytes already in memory
(BLAKE3 whole, BLAKE3 per block, SHA-256 whole, SHA-256 per 16 KiB leaf, SHA-1 per piece), summed and divided by the
cores. It holds no reading, no Merkle nodes and no waiting, so 1.0 can't be reached. Each round measures bound and pass
one after the other, so that a busy machine harms both; the ratio is the median of the rounds. `efficiency` is the same
in CPU-seconds (bound's ÷ pass's), which other people's load hardly touches.

The file is random bytes written to a temporary folder (--folder chooses where) and stays in the page cache: disks are
not what is measured. Needs `samara` installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3

from samara.schemas.bittorrent import LEAF, piece_length_for
from samara.seeder.hashing import hash_file

MB = 1_000_000
BLOCK = 4 << 20  # as in the layouts
SPAN = 16 << 20  # what is in memory at once


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds of one round. `alone`: CPU of each hash by itself. `wall`, `cpu`: the pass."""

    alone: dict[str, float]
    bound: float
    wall: float
    cpu: float
    ratio: float
    efficiency: float


def write_random(path: Path, size: int) -> None:
    """`size` random bytes, none of them a hole."""
    with path.open("wb") as file:
        for at in range(0, size, SPAN):
            file.write(os.urandom(min(SPAN, size - at)))
        file.flush()
        os.fsync(file.fileno())


def spans(path: Path) -> Iterator[memoryview]:
    """The file's bytes, a few blocks at a time, in memory."""
    buffer = memoryview(bytearray(SPAN))
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            yield buffer[:got]


def slices(data: memoryview, step: int) -> list[memoryview]:
    """`data` cut every `step` bytes."""
    return [data[at : at + step] for at in range(0, len(data), step)]


def cpu_seconds_alone(path: Path, size: int) -> dict[str, float]:
    """CPU-seconds of each hash by its library alone; reading isn't counted."""
    piece = piece_length_for(size)
    sha256, whole = hashlib.sha256(), blake3()
    hashes: dict[str, Callable[[memoryview], object]] = {
        "SHA-256 whole": sha256.update,
        "SHA-256 leaves": lambda data: [hashlib.sha256(leaf).digest() for leaf in slices(data, LEAF)],
        "SHA-1 pieces": lambda data: [hashlib.sha1(part).digest() for part in slices(data, piece)],
        "BLAKE3 whole": whole.update,
        "BLAKE3 blocks": lambda data: [blake3(block).digest() for block in slices(data, BLOCK)],
    }
    taken = dict.fromkeys(hashes, 0.0)
    for data in spans(path):
        for name, run in hashes.items():
            began = time.thread_time()
            run(data)
            taken[name] += time.thread_time() - began
    return taken


def measure(path: Path, size: int, cores: int, threads: int | None) -> Round:
    """One round: the bound, then the pass."""
    alone = cpu_seconds_alone(path, size)
    cuts = [min(BLOCK, size - at) for at in range(0, size, BLOCK)]
    began, cpu_began = time.perf_counter(), time.process_time()
    hash_file(path, cuts, threads=threads)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    bound = sum(alone.values()) / cores
    return Round(alone=alone, bound=bound, wall=wall, cpu=cpu, ratio=bound / wall, efficiency=bound * cores / cpu)


def peak_rss_mb() -> float | None:
    """Most memory this process ever had in MB; None where the system doesn't tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak * 1024 / MB


def report(size: int, cores: int, rounds: list[Round]) -> dict[str, object]:
    """The figures people and programs want."""
    return {
        "size_mb": size / MB,
        "cores": cores,
        "ratio": statistics.median(one.ratio for one in rounds),
        "ratio_best": max(one.ratio for one in rounds),
        "efficiency": statistics.median(one.efficiency for one in rounds),
        "bound_mb_s": size / MB / statistics.median(one.bound for one in rounds),
        "pass_mb_s": size / MB / statistics.median(one.wall for one in rounds),
        "peak_rss_mb": peak_rss_mb(),
        "rounds": [asdict(one) for one in rounds],
    }


def print_table(size: int, rounds: list[Round], result: dict[str, object]) -> None:
    """The same for people."""
    mb = size / MB
    for name in rounds[0].alone:
        seconds = statistics.median(one.alone[name] for one in rounds)
        print(f"{name:<16}{seconds:8.3f} CPU-s {mb / seconds:8.0f} MB/s")
    print(f"{'bound':<16}{statistics.median(one.bound for one in rounds):8.3f} s     {result['bound_mb_s']:8.0f} MB/s"
          f"   ({result['cores']} cores)")  # fmt: skip
    print(f"{'one pass':<16}{statistics.median(one.wall for one in rounds):8.3f} s     {result['pass_mb_s']:8.0f} MB/s"
          f"   {statistics.median(one.cpu for one in rounds):.3f} CPU-s")  # fmt: skip
    print(f"{'ratio':<16}{result['ratio']:8.2f}       best {result['ratio_best']:.2f}, "
          f"efficiency {result['efficiency']:.2f}, peak RSS {result['peak_rss_mb'] or 0:.0f} MB")  # fmt: skip


def main() -> None:
    """Measure as asked and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("megabytes", nargs="?", type=int, default=512, help="size of the file (MB)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="hashing threads (default: one per core)")
    parser.add_argument("--folder", type=Path, help="where to put the file")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    size = options.megabytes * MB
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "random.bin"
        write_random(path, size)
        rounds = [measure(path, size, cores, options.threads) for _ in range(options.rounds)]
    result = report(size, cores, rounds)
    print_table(size, rounds, result)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
