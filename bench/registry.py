"""The registry as a service: blobs against nginx, memory under load; the other parts' figures where their benches are.

    python bench/registry.py                       short: about two minutes
    python bench/registry.py --minutes 10          memory under ten minutes of load
    python bench/registry.py --preset big          a blob of 2 GB
    python bench/registry.py --others 0            without the benches of the other parts

Ratios are of one run: the same file, the same client, alternating. Needs nginx.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measure import bench, cpu_of, nginx, peak_rss, report

SIZES = {"quick": 64 << 20, "short": 512 << 20, "big": 2 << 30}
ROUNDS = 5
TARGET = 0.7  # of nginx's throughput for one client
OTHERS = ("registry_search", "registry_publish", "registry_tracker", "registry_fetching")  # programs beside this one


def main() -> None:
    with bench(__doc__, preset="short", minutes=0.5, others=1) as (folder, options):
        size = SIZES[options.preset]
        result: dict[str, object] = {}
        rows = [("figure", "ours", "nginx", "ratio")]
        with registry(folder, size) as (url, pid, path):
            with nginx(folder / "web", free_port(), folder / "nginx") as _:
                result |= downloads(url, path, rows, size=size)
            result |= memory(url, path, pid, rows, options)
        for name in OTHERS if options.others else ():
            result |= other(name, folder, rows)
        report(result, rows, options.json)


_port = 0


def free_port() -> int:
    """A port that was free a moment ago; nginx is told a number."""
    global _port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        _port = int(probe.getsockname()[1])
    return _port


@contextlib.contextmanager
def registry(folder: Path, size: int) -> Iterator[tuple[str, int, str]]:
    """`samara serve` over a home that publishes one blob of `size` bytes: its address, its pid, the blob's path."""
    web = folder / "web"
    web.mkdir()
    blob = web / "blob.bin"
    with blob.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    env = {**os.environ, "SAMARA_HOME": str(folder / "home"), "SAMARA_PASSPHRASE": "bench"}
    samara = str(Path(sys.executable).with_name("samara"))
    run = {"env": env, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([samara, "publisher", "init", "bench", "--kdf-rounds", "1"], **run)  # type: ignore[call-overload]
    subprocess.run(
        [samara, "publish", str(blob), "--as", "bench/blob:v1", "--offline", "--output", str(folder / "blob.samara")],
        **run,
    )  # type: ignore[call-overload]
    port = free_port()
    command = [samara, "serve", "--listen", f"127.0.0.1:{port}", "--log", "off", "--reads", "0"]
    log = (folder / "serve.log").open("w+")
    process = subprocess.Popen(command, env=env, stderr=log, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while "serving" not in (folder / "serve.log").read_text():
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"samara serve didn't start:\n{(folder / 'serve.log').read_text()}")
            time.sleep(0.05)
        yield url, process.pid, f"/v1/blobs/{b3_of(folder / 'home')}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        log.close()


def b3_of(home: Path) -> str:
    """The digest of the one blob."""
    from samara.registry.home import Home
    from samara.registry.index import Index

    with Index.open(Home(home)) as index:
        return max(index.blobs(), key=lambda blob: blob.size).b3[3:]


def downloads(url: str, path: str, rows: list[tuple[str, str, str, str]], *, size: int) -> dict[str, object]:
    """One client: curl to nowhere, and one of our own that reads into one buffer; alternating with nginx."""
    found: dict[str, object] = {}
    theirs_url = f"http://127.0.0.1:{_port}/blob.bin"
    for name, fetch in (("curl", curl), ("own client", own_client)):
        ours, theirs = [], []
        fetch(url + path), fetch(theirs_url)  # into the page cache
        for _ in range(ROUNDS):
            ours.append(fetch(url + path))
            theirs.append(fetch(theirs_url))
        ratio = median(theirs) / median(ours)
        found[f"download, {name}"] = {
            "MB/s": size / median(ours) / 1e6,
            "nginx MB/s": size / median(theirs) / 1e6,
            "ratio": ratio,
            "meets": ratio >= TARGET,
        }
        rows.append(
            (
                f"download, {name} (≥ {TARGET})",
                f"{size / median(ours) / 1e6:,.0f} MB/s",
                f"{size / median(theirs) / 1e6:,.0f} MB/s",
                f"{ratio:.2f}",
            )
        )
    return found


def curl(url: str) -> float:
    """Seconds."""
    program = shutil.which("curl") or sys.exit("this bench needs curl")
    done = subprocess.run(
        [program, "-s", "-f", "-o", "/dev/null", "-w", "%{time_total}", url], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def own_client(url: str) -> float:
    """Seconds to read everything into one buffer of 1 MiB."""
    found = re.match(r"http://([^:/]+):([0-9]+)(/.*)", url)
    assert found is not None
    buffer = bytearray(1 << 20)
    started = time.monotonic()
    with socket.create_connection((found[1], int(found[2]))) as sock:
        sock.sendall(f"GET {found[3]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while sock.recv_into(buffer):
            pass
    return time.monotonic() - started


def memory(
    url: str, path: str, pid: int, rows: list[tuple[str, str, str, str]], options: argparse.Namespace
) -> dict[str, object]:
    """Load of all kinds for so many minutes: resident memory after a first tenth, at the end, and at most."""
    seconds = float(options.minutes) * 60
    stop = threading.Event()
    counts = [0, 0]
    mixed = [f"{path}", "/v1/search?q=blob", "/v1/publishers", "/", "/v1/nothing", "/healthz", "/metrics"]

    def small() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with contextlib.suppress(OSError):
                ranged = f"Range: bytes={number % 1000}-{number % 1000 + 65536}\r\n"
                target = mixed[number % len(mixed)]
                found = re.match(r"http://([^:/]+):([0-9]+)", url)
                assert found is not None
                with socket.create_connection((found[1], int(found[2])), timeout=30) as sock:
                    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{ranged}\r\n".encode())
                    if number % 50:  # some go away without reading
                        while sock.recv(1 << 16):
                            pass
                counts[0] += 1

    def large() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                own_client(url + path)
                counts[1] += 1

    threads = [threading.Thread(target=small) for _ in range(4)] + [threading.Thread(target=large) for _ in range(2)]
    cpu = cpu_of([pid])
    for thread in threads:
        thread.start()
    time.sleep(max(5.0, seconds / 10))
    early = rss_of(pid)
    time.sleep(seconds)
    late = rss_of(pid)
    stop.set()
    for thread in threads:
        thread.join()
    growth = late / early
    rows.append(("memory under load, early → late", f"{early / 1e6:.0f} → {late / 1e6:.0f} MB", "-", f"{growth:.2f}"))
    return {
        "memory": {
            "minutes": options.minutes, "early": early, "late": late, "peak": peak_rss(pid), "growth": growth,
            "requests": counts[0], "downloads": counts[1], "cpu seconds": cpu_of([pid]) - cpu,
        }
    }  # fmt: skip


def rss_of(pid: int) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def other(name: str, folder: Path, rows: list[tuple[str, str, str, str]]) -> dict[str, object]:
    """What another part's bench measures, by itself: the same as running it alone."""
    program = Path(__file__).with_name(f"{name}.py")
    if not program.exists():
        return {}
    output = folder / f"{name}.json"
    subprocess.run([sys.executable, program, "--json", output], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, object] = json.loads(output.read_text())
    found.pop("machine", None)
    rows.extend((f"{name[9:]}: {key}", str(value)[:60], "-", "-") for key, value in found.items())
    return {name: found}


if __name__ == "__main__":
    main()
