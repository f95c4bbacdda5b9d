"""What a swarm adds: several capped seeders for one fetcher, and several fetchers of one capped seeder.

    python bench/swarm.py                       256 MB, seeders that give 8 MB/s each, a table
    python bench/swarm.py --rate 4 --rounds 1 --json result.json

    one        one fetcher, one seeder
    four       one fetcher, four seeders: the speed, as a share of four times that of `one`; asked for: ≥ 0.85
    eight      eight fetchers, one seeder, each told of all others: when the last one is done, as a multiple of the
               time of `one`; asked for: ≤ 1.45

Every process is a `samara pull` or `samara seed --up` of its own; start-up, verification and commit are in the times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from measure import bench, report, run, run_for_output
from transfer import SAMARA

ROOT = Path(__file__).resolve().parent.parent
SEEDERS, FETCHERS = 4, 8


def main() -> None:
    with bench(__doc__, preset="256mb", rate=8.0, rounds=3) as (work, options):
        measure(work, options)


def measure(work: Path, options: argparse.Namespace) -> None:
    model = work / "model.gguf"
    maker = [sys.executable, ROOT / "scripts" / "make_models.py", "big", model, "--preset", options.preset]
    subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    home = work / "publisher"
    env = {"SAMARA_HOME": str(home)}
    _, made = run_for_output([*SAMARA, "publisher", "init", "bench", "--json"], env=env)
    identity = json.loads(made)["identity"]
    release = work / "model.samara"
    run([*SAMARA, "publish", model, "--as", "bench/model:v1", "-o", release], env=env)
    world = _World(work, home, release, identity, options.rate)
    one, four, eight = [], [], []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        one.append(world.measure(seeders=1, fetchers=1))
        four.append(world.measure(seeders=SEEDERS, fetchers=1))
        eight.append(world.measure(seeders=1, fetchers=FETCHERS))
    share = statistics.median(a / b / SEEDERS for a, b in zip(one, four, strict=True))
    times = statistics.median(b / a for a, b in zip(one, eight, strict=True))
    result = {
        "bytes": model.stat().st_size,
        "rate": options.rate,
        "rounds": options.rounds,
        "seconds": {
            "one": statistics.median(one),
            "four_seeders": statistics.median(four),
            "eight_fetchers": statistics.median(eight),
        },
        "four_seeders_share": share,
        "eight_fetchers_times": times,
        "bounds": {"four_seeders_share": 0.85, "eight_fetchers_times": 1.45},
    }
    rows = [
        ("", "seconds", "ratio", "asked for"),
        ("one fetcher, one seeder", f"{statistics.median(one):.1f}", "", ""),
        ("one fetcher, four seeders", f"{statistics.median(four):.1f}", f"{share:.2f} of four", "≥ 0.85"),
        ("eight fetchers, one seeder", f"{statistics.median(eight):.1f}", f"{times:.2f} × one", "≤ 1.45"),
    ]
    report(result, rows, options.json)


class _World:
    """Seeders and fetchers on loopback."""

    def __init__(self, work: Path, home: Path, release: Path, identity: str, rate: float) -> None:
        self._work = work
        self._home = home
        self._release = release
        self._identity = identity
        self._rate = rate

    def measure(self, *, seeders: int, fetchers: int) -> float:
        """Seconds until the last fetcher is done."""
        homes = [self._work / f"fetcher-{number}" for number in range(fetchers)]
        for home in homes:
            run([*SAMARA, "trust", "add", "bench", "--identity", self._identity, "--yes"], env=_at(home))
        ports = free_ports(seeders + fetchers)
        with contextlib.ExitStack() as stack:
            for port in ports[:seeders]:
                stack.enter_context(self._seeding(port))
            os.sync()
            started = time.monotonic()
            pulls = [
                subprocess.Popen(
                    self._pull(own, [port for port in ports if port != own]),
                    env={**os.environ, **_at(home)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )
                for home, own in zip(homes, ports[seeders:], strict=True)
            ]  # fmt: skip
            failed = [output for pull in pulls for output in pull.communicate()[:1] if pull.returncode]
            seconds = time.monotonic() - started
        if failed:
            sys.exit(f"a pull failed: {failed[0].decode()}")
        for home in homes:
            shutil.rmtree(home)
        return seconds

    def _pull(self, own: int, others: Sequence[int]) -> list[str]:
        told = [part for port in others for part in ("--peer", f"127.0.0.1:{port}")]
        return [
            *SAMARA, "pull", str(self._release), "--listen", f"127.0.0.1:{own}", "--no-discovery", "--json", *told,
        ]  # fmt: skip

    @contextlib.contextmanager
    def _seeding(self, port: int) -> Iterator[None]:
        """`samara seed`, capped, ready. All give the same file from the same place."""
        log = self._work / f"seed-{port}.log"
        with log.open("wb") as events:
            process = subprocess.Popen(
                [
                    *SAMARA, "seed", "--listen", f"127.0.0.1:{port}", "--up", f"{self._rate}M", "--no-discovery",
                    "--json",
                ],
                env={**os.environ, **_at(self._home)}, stdout=subprocess.DEVNULL, stderr=events,
            )  # fmt: skip
            try:
                while b'"seed_table"' not in log.read_bytes():
                    if process.poll() is not None:
                        sys.exit(f"samara seed ended by itself: {log.read_text()}")
                    time.sleep(0.02)
                yield
            finally:
                process.terminate()
                process.wait()
                log.unlink()


def _at(home: Path) -> dict[str, str]:
    return {"SAMARA_HOME": str(home)}


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    main()
