"""A pool's workers and their one box for news: at most so many connections, begun when there is work for them.

The threads of mirrors meet here and nowhere else. A worker that brings more than is written waits. What to do with the
news, and who gets what to do, is the pool's business; the thread that owns the pool calls everything here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from samara.fetcher.mirrors.worker import Came, Said, Task, Worker
from samara.registry.http import HttpClient

AT_ONCE = 8  # connections in all
WAITING = 32 << 20  # bytes that may wait to be written before workers pause
CLOSE_WITHIN = 0.5  # seconds


class Crew:
    """`client` is made with the first worker; `asking`, `pace` and `stall_timeout` (seconds): see `Worker`."""

    def __init__(
        self,
        client: Callable[[], HttpClient],
        *,
        asking: Callable[[str], AbstractContextManager[None]],
        pace: Callable[[int], float],
        stall_timeout: float,
    ) -> None:
        self._client = client
        self._asking = asking
        self._pace = pace
        self._stall_timeout = stall_timeout
        self._workers: list[Worker] = []
        self._said: list[Said] = []
        self._heard = threading.Condition()
        self._waiting = 0
        self._closed = False

    def __len__(self) -> int:
        """How many connections there are, idle ones included."""
        return len(self._workers)

    def close(self) -> None:
        """End every connection."""
        with self._heard:
            self._closed = True
            self._heard.notify_all()
        for worker in self._workers:
            worker.stop()
        until = time.monotonic() + CLOSE_WITHIN
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))

    # -- work ----------------------------------------------------------------------------------------------------

    @property
    def takes_work(self) -> bool:
        """Whether one more task could be begun now."""
        return not self._closed and sum(True for _ in self.tasks()) < AT_ONCE

    def tasks(self) -> Iterator[Task]:
        """Those that haven't ended, those that were given up among them."""
        return (worker.task for worker in self._workers if worker.task is not None)

    def do(self, task: Task) -> None:
        """Begin a task; only while the crew `takes_work`."""
        worker = next((worker for worker in self._workers if worker.task is None), None)
        if worker is None:
            assert len(self._workers) < AT_ONCE, "a task for nobody"
            worker = Worker(
                self._client(), self._hear, asking=self._asking, pace=self._pace, stall_timeout=self._stall_timeout
            )
            self._workers.append(worker)
        worker.do(task)

    def ended(self, task: Task) -> None:
        """Its worker has said so, and is idle."""
        for worker in self._workers:
            if worker.task is task:
                worker.task = None

    # -- news ----------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Until a worker has something to say."""
        with self._heard:
            if not self._said:
                self._heard.wait(seconds)

    def take_news(self) -> list[Said]:
        """What was said since this was asked last."""
        with self._heard:
            said, self._said = self._said, []
        return said

    def put_back(self, said: Sequence[Said]) -> None:
        """These wait to be taken once more, before all others."""
        with self._heard:
            self._said[:0] = said

    def is_off_our_hands(self, came: Came) -> None:
        """A piece waits no longer: its bytes are about to be written, or aren't needed."""
        with self._heard:
            self._waiting -= len(came.data)
            self._heard.notify_all()

    def _hear(self, said: Said) -> None:
        """Called by workers, in their threads."""
        with self._heard:
            if isinstance(said, Came):
                while self._waiting > WAITING and not self._closed:
                    self._heard.wait()
                self._waiting += len(said.data)
            self._said.append(said)
            self._heard.notify_all()
