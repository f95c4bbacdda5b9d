"""A registry that pulls through on a disk that somebody else fills to its last byte. Run by test_mirroring_disk, in a
mount namespace of its own.

    python mirror_disk_driver.py PLACE

Prints a JSON object of what happened.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

from support.mounts import fill, small_disk
from support.registries import asking, provided, pulling_through, registry_home
from support.swarms import seeding
from support.world import MIB, random_file, shelf

from samara.registry.index import Index
from samara.schemas.errors import SamaraError

LATER = 10_000.0  # seconds: nobody is being given anything any more


def main() -> None:
    place = Path(sys.argv[1])
    disk = place / "disk"
    small_disk(disk, 64)
    old, new = (
        shelf(place / name, [random_file(place / name / "blob.bin", size, seed=size)], reference=f"{name}/m:v1")
        for name, size in (("old", 8 * MIB), ("new", MIB))
    )
    with seeding(old) as one, seeding(new) as two:
        options = pulling_through(asking(one.endpoint, two.endpoint))
        with registry_home(disk / "home", old, new) as (home, index), provided(home, index, options) as registry:
            registry.bring(old.only.b3).close()
            registry.until(lambda status: status.brought == 1 and not status.coming)
        with (
            Index.open(home) as index,
            provided(home, index, options, clock=lambda: time.time() + LATER) as registry,
        ):  # fmt: skip
            registry.until(lambda status: status.published == 2)
            fill(disk)
            told = "it came"
            try:
                arriving = registry.bring(new.only.b3)
                while arriving.wait(arriving.size - 1, 30.0) < arriving.size:
                    pass
            except SamaraError as error:
                told = str(error)
            registry.until(lambda status: not status.coming)
            kept = json.loads((home.root / "kept.json").read_bytes())["blobs"]
            told_of = {
                "told": told,
                "old": [home.blob(old.only.b3_hex).exists(), old.only.b3_hex in kept],
                "new": [home.blob(new.only.b3_hex).exists(), new.only.b3_hex in kept],
                "claimed": index.location_at(home.blob(old.only.b3_hex)) is not None,
                "evicted": registry.status().evicted,
            }
    json.dump(told_of, sys.stdout)


if __name__ == "__main__":
    main()
