"""What each libtorrent setting of ours is worth: one swarm of two on loopback, one setting taken away at a time.

    python bench/tuning.py [--megabytes 256] [--rounds 3] [--only NAME]... [--work DIR] [--output FILE.json]

Each run fetches a file of random bytes through `samara.seeder.swarm` alone (no manifest, no BLAKE3), seeder and fetcher
in processes of their own, variants taking turns. Ratios are to the profile as shipped, medians of rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from measure import Cost, cpu_of, mid, peak_rss, report

from samara.schemas.bittorrent import piece_count, piece_length_for
from samara.seeder.hashing import hash_file
from samara.seeder.profiles import FAST, PROFILES, Profile
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import Downloading, Finished, Flushed
from samara.seeder.swarm_options import SwarmOptions
from samara.seeder.torrent import build_torrent

PORT = 18644
DEFAULTS = Profile(settings=MappingProxyType({}), posix_disk=False)


def variants() -> dict[str, Profile]:
    """Name → settings to try."""
    found = {"fast": PROFILES["fast"], "libtorrent defaults": DEFAULTS, "small": PROFILES["small"]}
    found["fast, pread disk"] = replace(PROFILES["fast"], posix_disk=False)
    for name in FAST:
        rest = {key: value for key, value in FAST.items() if key != name}
        found[f"fast without {name}"] = replace(PROFILES["fast"], settings=MappingProxyType(rest))
    return found


def main() -> None:
    """Parse; be the parent, the seeder or the fetcher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append")
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parent.parent / ".cache" / "bench")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--role", choices=["seed", "fetch"], help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "seed":
        _seed(options.work, variants()[options.variant])
    elif options.role == "fetch":
        _fetch(options.work, variants()[options.variant])
    else:
        _compare(options)


def _compare(options: argparse.Namespace) -> None:
    work: Path = options.work
    _prepare(work, options.megabytes)
    names = [name for name in variants() if not options.only or name in options.only]
    costs: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            costs[name].append(_one(work, name))
            print(f"{name}: {costs[name][-1][0].seconds:.2f} s", file=sys.stderr, flush=True)
    size = (work / "swarm.bin").stat().st_size
    fetches = {name: mid([fetch for fetch, _ in pairs]) for name, pairs in costs.items()}
    seeds = {name: mid([seed for _, seed in pairs]) for name, pairs in costs.items()}
    base = fetches[names[0]].seconds
    rows = [["variant", "seconds", "MB/s", "times the first", "CPU s (fetch + seed)", "RSS MB (fetch/seed)"]]
    for name in names:
        fetch, seed = fetches[name], seeds[name]
        rows.append(
            [
                name, f"{fetch.seconds:.2f}", f"{size / fetch.seconds / 1e6:.0f}", f"{fetch.seconds / base:.2f}",
                f"{fetch.cpu + seed.cpu:.2f}", f"{fetch.rss / 1e6:.0f}/{seed.rss / 1e6:.0f}",
            ]
        )  # fmt: skip
    result = {
        "bench": "tuning",
        "bytes": size,
        "rounds": options.rounds,
        "fetch": {name: vars(cost) for name, cost in fetches.items()},
        "seed": {name: vars(cost) for name, cost in seeds.items()},
        "ratios": {name: fetch.seconds / base for name, fetch in fetches.items()},
    }
    report(result, rows, options.output)


def _prepare(work: Path, megabytes: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    source = work / "swarm.bin"
    if not source.exists() or source.stat().st_size != megabytes * 1_000_000:
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1_000_000))
    size = source.stat().st_size
    hashes = hash_file(source, [size])
    (work / "swarm.torrent").write_bytes(build_torrent(hashes.b3.hex(), gguf=False, hashes=hashes.torrent).data)


def _one(work: Path, name: str) -> tuple[Cost, Cost]:
    command = [sys.executable, sys.argv[0], "--work", str(work), "--variant", name, "--role"]
    seeder = subprocess.Popen([*command, "seed"], stdout=subprocess.PIPE)
    try:
        assert seeder.stdout is not None
        seeder.stdout.readline()
        before = cpu_of([seeder.pid])
        done = subprocess.run([*command, "fetch"], stdout=subprocess.PIPE, check=True)
        seed = Cost(seconds=0, cpu=cpu_of([seeder.pid]) - before, rss=peak_rss(seeder.pid))
    finally:
        seeder.kill()
        seeder.wait()
    return Cost(**json.loads(done.stdout)), seed


def _options(profile: Profile, port: int) -> SwarmOptions:
    return SwarmOptions(listen=(f"127.0.0.1:{port}",), profile=profile).without_discovery()


def _seed(work: Path, profile: Profile) -> None:
    with Swarm(_options(profile, PORT)) as swarm:
        swarm.wait_listening(10)
        swarm.add_seed((work / "swarm.torrent").read_bytes(), work / "swarm.bin", check_first=False)
        print("ready", flush=True)
        while True:
            swarm.poll(1.0)


def _fetch(work: Path, profile: Profile) -> None:
    torrent, target = (work / "swarm.torrent").read_bytes(), work / "swarm.out"
    size = (work / "swarm.bin").stat().st_size
    target.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    with Swarm(_options(profile, 0)) as swarm:
        name = swarm.add_fetch(torrent, target, [False] * piece_count(size, piece_length_for(size)))
        flushed = False
        while not flushed:
            for happened in swarm.poll(1.0):
                if isinstance(happened, Downloading):
                    swarm.begin(name, [("127.0.0.1", PORT)])
                elif isinstance(happened, Finished):
                    swarm.flush(name)
                flushed = flushed or isinstance(happened, Flushed)
        seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    target.unlink()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "rss": peak_rss(os.getpid())}))


if __name__ == "__main__":
    main()
