"""A blob is here: record where, and clear away what its transfer leaves. For pull and repair."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from samara.fetcher.partial import Partial
from samara.registry.home import Home
from samara.registry.store import stamp_at
from samara.schemas.events import OnEvent, Reached
from samara.schemas.manifest import ReleaseFile

if TYPE_CHECKING:
    from samara.registry.index import Index


class HasIndex(Protocol):
    """An index that is open, or is opened when it is asked for."""

    def get(self) -> Index:
        """The open one."""


class Arrivals:
    """Bytes come first, then their record, then what is left of the transfer goes."""

    def __init__(self, home: Home, index: HasIndex, on_event: OnEvent) -> None:
        self._home = home
        self._index = index
        self._on_event = on_event

    def record(self, file: ReleaseFile, path: Path, *, in_store: bool = True) -> None:
        """The whole, proven blob lies at `path`."""
        stamp = stamp_at(path)
        assert stamp is not None
        self._on_event(Reached(point="before-index"))
        self._index.get().set_location(file.b3, path, stamp, in_store=in_store, verified_at=time.time())
        self._on_event(Reached(point="after-index"))

    def end_partial(self, file: ReleaseFile) -> None:
        """Nothing more is to be done for a blob. Only for whoever holds the partial's lock."""
        self._index.get().end_partial(file.b3)
        Partial(self._home, file.b3_hex).remove()

    def sweep(self, file: ReleaseFile) -> None:
        """The blob is here: remove the transfer that a process left behind when it was killed after the rename."""
        partial = Partial(self._home, file.b3_hex)
        if partial.folder.exists():
            with partial.locked(on_wait=lambda: None, give_up=lambda: True) as ours:
                if ours:
                    self.end_partial(file)
