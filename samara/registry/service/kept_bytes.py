"""Bytes that many ask for, made once: the last ones used are kept, so many bytes of them. For several threads.

What is made must be a pure function of its key: nothing is ever looked at again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class KeptBytes:
    """At most `limit` bytes in all. What alone is larger is made anew each time, one at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What is kept under `key`, or what `make` makes. Raises what `make` raises."""
        found = self._find(key)
        if found is not None:
            return found
        with self._making:  # a crowd that asks for the same makes it once
            found = self._find(key)
            if found is not None:
                return found
            made = make()
            self._keep(key, made)
            return made

    def _find(self, key: Hashable) -> bytes | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, key: Hashable, data: bytes) -> None:
        if len(data) > self._limit:
            return
        with self._lock:
            self._kept[key] = data
            self._size += len(data)
            while self._size > self._limit:
                _, gone = self._kept.popitem(last=False)
                self._size -= len(gone)
