"""The threads of one pull, shared by all its transfers: hundreds of shards need no more of them than one file.

Each kind waits only for kinds after it, so that none can wait for itself: commits → disk, commits → blocks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from samara.fetcher.blocks import BlockThreads

AT_ONCE = 2  # commits, and syncs: more would only make the disk seek


class Threads:
    """`blocks` check blocks, `commits` prove and publish whole files, `disk` syncs. Use as a context manager."""

    def __init__(self) -> None:
        self.blocks = BlockThreads()
        self.commits = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="commit")
        self.disk = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="disk")

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_exc: object) -> None:
        for pool in (self.commits, self.disk):
            pool.shutdown(wait=True, cancel_futures=True)
        self.blocks.__exit__()
