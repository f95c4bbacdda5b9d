"""What a registry fetches by itself, against a plain pull of the same blob from the same kind of peer, over loopback.

    python bench/registry_fetching.py [--mib N] [--small N] [--rounds N] [--json FILE]

"pull-through": from asking for a blob that isn't here to its last byte; "first byte": to its first proven block; both
in turns with a pull, in one run. "mirroring": so many blobs of 100 kB, one after the other as the registry does it.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from statistics import median

from measure import bench, report

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from support.pulls import options as pull_options  # noqa: E402
from support.registries import asking, mirroring, provided, pulling_through, registry_home  # noqa: E402
from support.swarms import seeding  # noqa: E402
from support.world import MIB, Shelf, one_blob, random_file, shelf, trusting_home  # noqa: E402

from samara.fetcher.mirroring import MirrorRules  # noqa: E402
from samara.fetcher.pull import pull  # noqa: E402

PATIENCE = 600.0  # seconds


def main() -> None:
    with bench(__doc__, preset="", mib=256, small=100, rounds=3) as (folder, options):
        published = one_blob(folder / "large", options.mib * MIB)
        firsts, wholes, pulls = [], [], []
        for number in range(options.rounds):
            first, whole = pulled_through(folder / f"registry-{number}", published)
            firsts.append(first)
            wholes.append(whole)
            pulls.append(pulled(folder / f"home-{number}", published))
        ratio = median(pulls) / median(wholes)
        rate = mirrored(folder / "many", options.small)
        rows = [
            ("figure", "ours", "plain pull", "ratio"),
            (
                f"pull-through, {options.mib} MiB", f"{options.mib / median(wholes):.0f} MiB/s",
                f"{options.mib / median(pulls):.0f} MiB/s", f"{ratio:.2f}",
            ),
            ("first proven block", f"{median(firsts):.2f} s", "", ""),
            (f"mirroring {options.small} small blobs", f"{rate:.1f} blobs/s", "", ""),
        ]  # fmt: skip
        result = {
            "pull_through_seconds": wholes,
            "first_seconds": firsts,
            "pull_seconds": pulls,
            "ratio": ratio,
            "small_blobs_per_second": rate,
        }
        report(result, rows, options.json)


def pulled_through(folder: Path, published: Shelf) -> tuple[float, float]:
    """Seconds to the first proven block, and to the last byte."""
    with (
        seeding(published) as peer,
        registry_home(folder, published) as (home, index),
        provided(home, index, pulling_through(asking(peer.endpoint, checkpoint_seconds=3.0))) as registry,
    ):
        began = time.monotonic()
        arriving = registry.bring(published.only.b3)
        proven = arriving.wait(0, PATIENCE)
        first = time.monotonic() - began
        while proven < published.size:
            proven = arriving.wait(proven, PATIENCE)
        whole = time.monotonic() - began
        arriving.close()
    shutil.rmtree(folder)
    return first, whole


def pulled(folder: Path, published: Shelf) -> float:
    """Seconds of a pull."""
    home = trusting_home(folder, published)
    with seeding(published) as peer:
        began = time.monotonic()
        pull(home, str(published.file), pull_options(peer.endpoint))
        took = time.monotonic() - began
    shutil.rmtree(folder)
    return took


def mirrored(folder: Path, count: int) -> float:
    """Small blobs a second."""
    files = [random_file(folder / "files" / f"{number}.bin", 100_000, seed=number) for number in range(count)]
    published = shelf(folder, files)
    with seeding(published) as peer, registry_home(folder / "registry", published) as (home, index):
        began = time.monotonic()
        with provided(home, index, mirroring(asking(peer.endpoint), rules=MirrorRules())) as registry:
            registry.until(lambda status: status.here == count, limit=PATIENCE)
            return count / (time.monotonic() - began)


if __name__ == "__main__":
    main()
