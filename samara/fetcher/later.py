"""The index, opened while bytes are already on their way.

Importing SQLAlchemy takes longer than finding a peer. A pull that has no question for the index yet (nothing was kept
here before, or the blob's transfer had begun) starts to fetch first; the index opens beside it, in a thread, and what
must be recorded waits for it in order.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from samara.registry.home import Home

if TYPE_CHECKING:
    from samara.registry.index import Index


class LaterIndex:
    """Opens at `get`, or beside other work from `begin` on. Use as a context manager, from one thread."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._actions: list[Callable[[Index], None]] = []
        self._index: Index | None = None
        self._opening: Future[Index] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")

    def __enter__(self) -> LaterIndex:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pool.shutdown(wait=True)
        if self._opening is not None and self._opening.exception() is None:
            self._opening.result().close()
        elif self._index is not None:
            self._index.close()

    def then(self, action: Callable[[Index], None]) -> None:
        """Run `action` on the index: now if it is open, else as soon as it is, in the order of the calls."""
        if self._opening is None and self._index is None:
            self._actions.append(action)
        else:
            action(self.get())

    def begin(self) -> None:
        """Open it beside other work."""
        if self._index is None and self._opening is None:
            self._opening = self._pool.submit(self._open)

    def check(self) -> None:
        """Raise what went wrong in the meantime, if anything has."""
        if self._opening is not None and self._opening.done():
            self._opening.result()

    def get(self) -> Index:
        """The open index. Raises StoreError or DiskFullError."""
        if self._opening is not None:
            return self._opening.result()
        if self._index is None:
            self._index = self._open()
        return self._index

    def _open(self) -> Index:
        from samara.registry.index import Index

        index = Index.open(self._home)
        try:
            for action in self._actions:
                action(index)
        except BaseException:
            index.close()
            raise
        return index
