"""Values that many ask for, made once: those asked for last are kept, with a bound on their weight. For any thread.

What is made must be a pure function of its key: nothing is ever looked at again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """`room`: how much all of them may weigh; `weigh`: what one does, by one at least if there may be many."""

    def __init__(self, room: int, weigh: Callable[[V], int]) -> None:
        self._room = room
        self._weigh = weigh
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()
        self._making = threading.Lock()

    @property
    def weight(self) -> int:
        """Of all that is kept."""
        return self._weight

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept, or is made now, one at a time: a crowd that asks for the same makes it once. What alone would
        be too heavy isn't kept. Raises what `make` raises.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        with self._making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            made = make()
            weight = self._weigh(made)
            with self._lock:
                if weight <= self._room:
                    self._values[key] = made
                    self._weight += weight
                while self._weight > self._room:
                    _, gone = self._values.popitem(last=False)
                    self._weight -= self._weigh(gone)
            return made
