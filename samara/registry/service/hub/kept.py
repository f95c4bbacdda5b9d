"""Values by key that are made once: those asked for last are kept, with a bound on their weight. For any thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """`room`: how much all of them may weigh; `weigh`: what one does."""

    def __init__(self, room: int, weigh: Callable[[V], int]) -> None:
        self._room = room
        self._weigh = weigh
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    @property
    def weight(self) -> int:
        """Of all that is kept."""
        return self._weight

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept, or is made now; what alone would be too heavy isn't kept. Two threads may make the same."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        weight = self._weigh(made) + 1
        with self._lock:
            if weight <= self._room and key not in self._values:
                self._values[key] = made
                self._weight += weight
                while self._weight > self._room:
                    _, gone = self._values.popitem(last=False)
                    self._weight -= self._weigh(gone) + 1
        return made
