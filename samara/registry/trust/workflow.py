"""One run of the TUF client workflow over what is trusted already, in a scratch folder that is gone afterwards.

Knows neither pins nor files of this machine: what is trusted comes in as values, what is proven goes out as values.
`catalog_client` keeps the outcome for a machine, `samara.registry.publications` for a registry.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from samara.registry.durable import io_errors
from samara.registry.scratch import Scratch
from samara.registry.trust.sources import MetadataSource
from samara.registry.trust.updater import run_updater
from samara.schemas.errors import SamaraError
from samara.schemas.metadata_bundle import MetadataBundle

SCRATCH_PREFIX = "samara-trust-"
ONLINE_ROLES: Final = ("timestamp", "snapshot", "targets")


def run_workflow(
    source: MetadataSource,
    *,
    roots: tuple[bytes, ...],
    before: MetadataBundle | None,
    now: datetime,
    on_roots: Callable[[tuple[bytes, ...]], None],
) -> MetadataBundle:
    """What `source` has, proven as of `now` against all that is trusted: `roots` (version 1 first) and `before`.

    If it fails, `on_roots` first hears of every root that was proven: a rotation counts whatever is wrong with the rest
    (TUF §5.3.8). Raises what `run_updater` raises, StoreError or DiskFullError.
    """
    with Scratch(Path(tempfile.gettempdir()), SCRATCH_PREFIX) as folder, io_errors(folder):
        history = folder / "root_history"
        history.mkdir()
        for number, root in enumerate(roots, start=1):
            (history / f"{number}.root.json").write_bytes(root)
        if before is not None:
            for role in ONLINE_ROLES:
                (folder / f"{role}.json").write_bytes(getattr(before, role))
        try:
            run_updater(folder, source, bootstrap=roots[0], now=now)
        except SamaraError:
            on_roots(tuple(_roots_in(history)))
            raise
        return MetadataBundle(
            roots=tuple(_roots_in(history)),
            **{role: (folder / f"{role}.json").read_bytes() for role in ONLINE_ROLES},
        )


def _roots_in(history: Path) -> Iterator[bytes]:
    number = 1
    while (path := history / f"{number}.root.json").exists():
        yield path.read_bytes()
        number += 1
