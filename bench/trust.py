"""What names cost: refreshing catalogs small and large, publishing into them, pulling by name without a server.

    python bench/trust.py                     a table
    python bench/trust.py --json result.json  and all figures

    refresh   a client asks a folder for a catalog: nothing new (`same`), one release more (`new`), in this process,
              imports done, disk included; the floor is one check of its targets' signature by the TUF library alone
    publish   one more release enters the catalog (`own_catalog.update_catalog`), signed and durable
    pull      `samara pull acme/tiny:q8_0` as a process, by the DHT of eight nodes on loopback, with nothing known but
              the identity: first byte of the model, and whole; beside it the same from the `.samara` file and a peer

Medians of several rounds. Figures asked for in issue 3: refresh of a small catalog with nothing new ≤ 50 ms, of 10,000
releases ≤ 300 ms, publish into 10,000 ≤ 1 s, first byte by name ≤ 2 s once the seeder has announced.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from measure import report

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.dht import dht_network  # noqa: E402  (tests' own DHT)

from samara.registry.home import ENV_HOME, Home  # noqa: E402
from samara.registry.trust.catalog_client import CatalogClient  # noqa: E402
from samara.registry.trust.making import init_publisher  # noqa: E402
from samara.registry.trust.own_catalog import own_catalog, update_catalog  # noqa: E402
from samara.registry.trust.pins import TrustFolder  # noqa: E402
from samara.registry.trust.publishers import ONLINE_ROLES  # noqa: E402
from samara.registry.trust.sources import FolderSource  # noqa: E402
from samara.schemas.catalog import CatalogEntry  # noqa: E402
from samara.schemas.metadata_bundle import MetadataBundle  # noqa: E402

TINY = ROOT / "tests" / "fixtures" / "tiny-q8_0.gguf"
LARGE = 10_000
SAMARA = (sys.executable, "-m", "samara")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="samara-bench-") as folder:
        small = catalogs(Path(folder) / "small", 3, options.rounds)
        large = catalogs(Path(folder) / "large", LARGE, options.rounds)
        pulled = pulls(Path(folder) / "pull", options.rounds)
    rows = [
        ("", "3 releases", f"{LARGE:,} releases"),
        *((what, f"{small[what] * 1e3:.1f} ms", f"{large[what] * 1e3:.0f} ms") for what in small),
        ("", "", ""),
        *((what, f"{seconds:.2f} s", "") for what, seconds in pulled.items()),
    ]
    report({"small": small, "large": large, "pull": pulled}, rows, options.json)


def catalogs(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Seconds of refreshing and publishing with a catalog of so many releases."""
    now = datetime.now(UTC)
    home = Home(folder / "publisher")
    publisher = init_publisher(home, "acme", passphrase=None, recovery=None, now=now)
    signers = publisher.open_keys(ONLINE_ROLES)
    first = {entry.path: entry for entry in map(entry_of, range(count))}
    site = folder / "site"
    site.mkdir(parents=True)
    lay_out(site, update_catalog(home, publisher, lambda _: first, signers=signers, now=now).bundle)
    trust = TrustFolder(Home(folder / "client").trust)
    trust.add("acme", publisher.identity, now=now)
    client, source = CatalogClient(trust, publisher.identity), FolderSource(site)

    def refresh() -> None:
        client.commit(client.check(source, now=now), now=now, source=source.name)

    refresh()
    found: dict[str, list[float]] = {"refresh, same": [], "refresh, new": [], "publish one more": [], "signature": []}
    for number in range(rounds):
        found["refresh, same"].append(timed(refresh))
        entry = entry_of(count + number)
        found["publish one more"].append(
            timed(lambda: update_catalog(home, publisher, lambda _: {entry.path: entry}, signers=signers, now=now))  # noqa: B023
        )
        state = own_catalog(publisher)
        assert state is not None
        lay_out(site, state.bundle)
        found["refresh, new"].append(timed(refresh))
        found["signature"].append(timed(lambda: verify_once(state.bundle)))  # noqa: B023
    return {what: median(seconds) for what, seconds in found.items()}


def verify_once(bundle: MetadataBundle) -> None:
    """What no client can do without: the library parses the targets and checks one signature over them."""
    from tuf.api.metadata import Metadata

    root, targets = Metadata.from_bytes(bundle.roots[-1]), Metadata.from_bytes(bundle.targets)
    root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)


def entry_of(number: int) -> CatalogEntry:
    digest = f"{number:064x}"
    return CatalogEntry(
        model=f"model-{number}",
        tag="q8_0",
        manifest=f"b3:{digest}",
        length=50_000,
        sha256=digest,
        release_v2=digest,
        version=1,
    )


def lay_out(site: Path, bundle: MetadataBundle) -> None:
    versions = {role: json.loads(getattr(bundle, role))["signed"]["version"] for role in ("snapshot", "targets")}
    for name, data in bundle.files(snapshot_version=versions["snapshot"], targets_version=versions["targets"]):
        (site / name).write_bytes(data)


def timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def pulls(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds of pulling by name and by file."""
    home = folder / "publisher"
    identity = samara(home, "publisher", "init", "acme")["identity"]
    release = folder / "tiny.samara"
    samara(home, "publish", TINY, "--as", "acme/tiny:q8_0", "-o", release)
    found: dict[str, list[float]] = {}
    with dht_network() as network, seeding(home, network.nodes[0]) as peer:
        dht = ("--dht-node", network.nodes[1], "--no-lan", "--no-upnp", "--listen", "127.0.0.1:0")
        for number in range(rounds):
            ways: dict[str, tuple[object, ...]] = {
                "by name": ("acme/tiny:q8_0", *dht),
                "by file": (release, "--peer", peer, "--no-discovery"),
            }
            for way, arguments in ways.items():
                getter = folder / f"getter-{way[-4:]}-{number}"
                samara(getter, "trust", "add", "acme", "--identity", identity, "--yes")
                started = time.perf_counter()
                done = samara(getter, "pull", *arguments)
                whole = time.perf_counter() - started
                outside = whole - done["seconds"]  # the process's start, and its end
                found.setdefault(f"pull {way}: first byte", []).append(done["seconds_to_first_byte"])
                found.setdefault(f"pull {way}: first byte, process start included", []).append(
                    outside + done["seconds_to_first_byte"]
                )
                found.setdefault(f"pull {way}: whole, process and all", []).append(whole)
    return {what: median(seconds) for what, seconds in found.items()}


def samara(home: Path, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [*SAMARA, *map(str, arguments), "--json"], env={**os.environ, ENV_HOME: str(home)}, capture_output=True,
        check=False, encoding="utf-8",
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"samara {arguments[0]} exits {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


@contextmanager
def seeding(home: Path, node: str) -> Iterator[str]:
    """`samara seed` in the DHT until the block ends; its HOST:PORT, once it has announced."""
    process = subprocess.Popen(
        [*SAMARA, "seed", "--listen", "127.0.0.1:0", "--dht-node", node, "--no-lan", "--no-upnp", "--json"],
        env={**os.environ, ENV_HOME: str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    endpoint = ""
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said = json.loads(line)
            endpoint = said.get("endpoint", endpoint)
            if "announced in the DHT" in said.get("message", ""):
                break
        yield endpoint
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
