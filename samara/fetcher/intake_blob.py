"""One blob's fetch, in a thread of its own: what it is, whether it lies here, room for it, its lock, its transfer.

Part of `samara.fetcher.intake`, which says when. Where publishers contradict each other about a blob, one description
after the other is tried (`descriptions`), and nobody is given a byte before the whole is proven.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.arrivals import Arrivals
from samara.fetcher.coming import Coming
from samara.fetcher.descriptions import Described, Descriptions
from samara.fetcher.gather import gather
from samara.fetcher.intake_loop import Loop, Running
from samara.fetcher.keeping import Keeping
from samara.fetcher.options import PullOptions
from samara.fetcher.partial import Partial
from samara.fetcher.recheck import recheck
from samara.fetcher.transfer import Transfer
from samara.registry.durable import make_folder, write_durably
from samara.registry.giving import Giving
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.registries import blob_mirror
from samara.registry.store import READ_ONLY, clone, seal, whole_copy
from samara.schemas.errors import IntegrityError, NetworkError, NotFoundError, SamaraError, StoreError
from samara.schemas.events import Event, OnEvent, Warned
from samara.schemas.hops import Hops
from samara.schemas.manifest import ReleaseFile

SLOWEST_CONTESTED = 64 << 10  # bytes a second that a description must bring while others say something else


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """A blob on its way, and the thread that looks after it."""

    coming: Coming
    hops: Hops
    running: Running | None = None
    thread: threading.Thread | None = None


@dataclass(frozen=True, slots=True)
class _Opened:
    """An index that is open already."""

    index: Index

    def get(self) -> Index:
        return self.index


class BlobFetch:
    """What blobs' threads share. `on_here`: a blob has come; `origin`: this registry's own address and a slash."""

    def __init__(
        self,
        home: Home,
        index: Index,
        options: PullOptions,
        keeping: Keeping,
        descriptions: Descriptions,
        giving: Giving,
        loop: Loop,
        stopping: threading.Event,
        *,
        origin: str | None,
        on_here: Callable[[str], None],
        on_event: OnEvent,
    ) -> None:
        self._home = home
        self._index = index
        self._options = options
        self._keeping = keeping
        self._descriptions = descriptions
        self._giving = giving
        self._loop = loop
        self._stopping = stopping
        self._origin = origin
        self._on_here = on_here
        self._on_event = on_event
        self._arrivals = Arrivals(home, _Opened(index), on_event)

    def fetch(self, job: Job) -> None:
        """To its end. Raises what ended it early; what came is kept."""
        coming = job.coming
        if self._descriptions.is_contested(coming.b3):
            coming.withhold()
        trouble: SamaraError | None = None
        for described in self._descriptions.ranked(coming.b3, coming.wanted_size):
            if coming.withheld:
                coming.is_now(described.file.size)
            elif not coming.is_of(described.file.size):  # a reader of another size has come meanwhile
                continue
            try:
                self._fetch_as(job, described)
            except (IntegrityError, NetworkError) as error:
                self._descriptions.failed(coming.b3, described, error)
                trouble = error
                if isinstance(error, IntegrityError):  # no fault of who asks
                    trouble = NetworkError(f"what is given as {coming.b3} isn't it: {error}")
                if not coming.withheld or self._stopping.is_set():
                    raise trouble from None
            else:
                self._descriptions.came(coming.b3, described)
                return
        raise trouble or NotFoundError(f"{coming.b3} is in no release that is listed here")

    def _fetch_as(self, job: Job, described: Described) -> None:
        coming, file = job.coming, described.file
        if self._is_here(coming) or self._was_inline(coming, file):
            return
        partial = Partial(self._home, file.b3_hex, "" if described.torrent is None else described.torrent.v2)
        was_ours = self._keeping.is_ours(coming.b3)
        if not was_ours and partial.data.exists() and not self._giving.may_give(coming.b3, [partial.data]):
            raise _private(coming.b3)  # somebody here pulls it, for himself
        self._keeping.admit(coming.b3, file.size, for_reader=coming.for_reader)
        try:
            with partial.locked(on_wait=lambda: None, give_up=lambda: self._need_not_wait(coming)) as ours:
                if self._stopping.is_set():
                    raise stopped()
                if not was_ours and self._came_meanwhile(coming):
                    self._keeping.disown(coming.b3)  # and then it is to be seen whether it may be given
                if self._is_here(coming):
                    if ours:
                        self._arrivals.end_partial(file)
                    return
                if not ours:
                    raise StoreError(f"{coming.b3} was let go of by who fetched it", next_step="try again")
                if self._was_in_store(coming, file, partial, was_ours=was_ours):
                    return
                self._transfer(job, described, partial)
        finally:
            self._keeping.done(coming.b3)

    def _need_not_wait(self, coming: Coming) -> bool:
        blob = None if self._stopping.is_set() else self._index.blob(coming.b3)
        return self._stopping.is_set() or (blob is not None and whole_copy(blob) is not None)

    def _came_meanwhile(self, coming: Coming) -> bool:
        blob = self._index.blob(coming.b3)
        return blob is not None and whole_copy(blob) is not None

    def _is_here(self, coming: Coming) -> bool:
        blob = self._index.blob(coming.b3)
        place = None if blob is None else whole_copy(blob)
        if place is None:
            return False
        if not self._giving.may_give(coming.b3, [place.path]):
            raise _private(coming.b3)
        if not coming.is_of(place.stamp.size):
            raise NotFoundError(
                f"no {coming.b3} is that long", expected=coming.size, actual=place.stamp.size,
                next_step="tell the publisher of the release: its manifest is wrong",
            )  # fmt: skip
        coming.arrived(place.path)
        return True

    def _was_inline(self, coming: Coming, file: ReleaseFile) -> bool:
        if file.inline is None:
            return False
        path = self._home.blob(file.b3_hex)
        make_folder(path.parent)
        write_durably(path, file.inline, mode=READ_ONLY)
        self._arrivals.record(file, path)
        coming.arrived(path)
        return True

    def _was_in_store(self, coming: Coming, file: ReleaseFile, partial: Partial, *, was_ours: bool) -> bool:
        """A file in the store that the index doesn't vouch for: killed between rename and record, or damaged."""
        path = self._home.blob(file.b3_hex)
        if not path.is_file():
            return False
        if not was_ours:
            self._keeping.disown(coming.b3)
        if not self._giving.may_give(coming.b3, [path]):
            raise _private(coming.b3)
        if recheck(path, file).ok:
            seal(path)
            self._arrivals.record(file, path)
            self._arrivals.end_partial(file)
            coming.arrived(path)
            return True
        self._on_event(Warned(message=f"{path} is damaged; fetching what is wrong in it"))
        if not partial.data.exists():
            clone(path, partial.data)
        return False

    def _transfer(self, job: Job, described: Described, partial: Partial) -> None:
        coming, file, torrent = job.coming, described.file, described.torrent
        assert torrent is not None
        gather(self._home, partial, file, torrent, index=lambda: self._index, may_use=self._may_use, on_event=_quiet)
        self._index.start_partial(file.b3, described.manifest, now=time.time())
        setup = self._loop.ready()
        mirrors = self._mirrors_of(file, job.hops)
        transfer = Transfer(
            self._home,
            file,
            torrent,
            partial,
            pool=setup.pool,
            threads=setup.threads,
            mirrors=mirrors,
            in_order=coming.for_reader,
            handed_on=True,
            checkpoint_seconds=self._options.checkpoint_seconds,
            on_event=self._on_event,
        )
        running = Running(transfer=transfer, coming=coming, torrent=torrent, has_mirrors=bool(mirrors),
            slowest=SLOWEST_CONTESTED if coming.withheld else 0,
        )  # fmt: skip
        job.running = running
        try:
            coming.begun(partial.data, self._home.blob(file.b3_hex), file.blocks)
            self._loop.take(running)
            running.over.wait()
            if running.must_record:
                with contextlib.suppress(SamaraError):  # what ended it is the news, not that this failed too
                    transfer.finish_last_flush()
            if running.error is not None:
                raise running.error
        finally:
            transfer.close()
        assert transfer.location is not None
        self._arrivals.record(file, transfer.location)
        self._arrivals.end_partial(file)
        self._on_here(file.b3)

    def _may_use(self, b3: str | None, path: Path) -> bool:
        """Whether blocks may be taken from a file here: what is made of them is given to strangers."""
        place = None if b3 is not None else self._index.location_at(path)
        named = b3 if place is None else place[0]
        return named is not None and self._giving.may_give(named, [path])

    def _mirrors_of(self, file: ReleaseFile, hops: Hops) -> tuple[str, ...]:
        """Those that its publisher named, and registries that are followed; never this one."""
        if not self._options.mirrors:
            return ()
        registries = (blob_mirror(origin, file.b3_hex) for origin in self._options.registries)
        urls = dict.fromkeys((*file.mirrors, *registries))
        return tuple(hops.address(url) for url in urls if self._origin is None or not url.startswith(self._origin))


def stopped() -> StoreError:
    return StoreError("fetching was stopped", next_step="try again when the registry runs again")


def _private(b3: str) -> NotFoundError:
    """As if nobody had it: that it lies here is nobody's business."""
    return NotFoundError(f"{b3} isn't on this registry's disk", next_step="pull it: its swarm may have it")


def _quiet(_event: Event) -> None:
    """Progress of copying is nobody's business here."""
