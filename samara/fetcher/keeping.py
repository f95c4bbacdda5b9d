"""The room that a registry may fill by itself: who is let in, what is kept, what goes. Rules: `keeping_rules`.

    admit(b3, size)   room for a blob about to be fetched: within the quota, and with the reserve left on the disk
    done(b3)          its fetch has ended, one way or the other
    touch(b3)         somebody was given it
    tidy()            forget what is gone, evict what is barred or too much

Only what its own file (`kept`) names is counted and evicted: what the operator pulled, and what lies in place outside
the store, isn't touched; nor is what was mirrored first and pulled by the operator later (it has names below models/).
An eviction's crash order: the index forgets the place, then the bytes go, then `kept` forgets the blob. Fetches
nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from samara.fetcher.keeping_rules import KeptFact, evictions
from samara.fetcher.kept import Kept, KeptFile
from samara.fetcher.partial import Partial
from samara.registry.barred import Barred
from samara.registry.durable import io_errors
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.listed_blobs import ListedBlob
from samara.registry.store import free_bytes
from samara.schemas.digests import b3_hex
from samara.schemas.errors import DiskFullError, SamaraError
from samara.schemas.events import Note, OnEvent, Warned

_NONE: frozenset[str] = frozenset()
RESERVE = 1 << 30  # bytes of the disk left to everybody else


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """How much may be filled. Bytes; `quota` None: as much as the disk has, but for `reserve`."""

    quota: int | None = None
    reserve: int = RESERVE


class Keeping:
    """Use as a context manager. Safe to use from several threads. `clock`: UTC epoch seconds."""

    def __init__(
        self,
        home: Home,
        index: Index,
        room: Room,
        *,
        clock: Callable[[], float],
        on_event: OnEvent,
        on_evicted: Callable[[str], None] = lambda _b3: None,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._home = home
        self._index = index
        self._room = room
        self._clock = clock
        self._on_event = on_event
        self._on_evicted = on_evicted
        self._free = free
        self._file = KeptFile(home)
        self._kept: dict[str, Kept] = {}
        self._coming: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._keep: frozenset[str] = frozenset()
        self._lock = threading.RLock()
        self.evicted = 0
        self.evicted_bytes = 0

    def __enter__(self) -> Keeping:
        self._file.__enter__()
        try:
            self._kept, trouble = self._file.read()
        except BaseException:
            self._file.__exit__()
            raise
        if trouble is not None:
            self._on_event(Warned(message=trouble))
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._lock, contextlib.suppress(SamaraError):  # when they were asked for last is no great loss
            self._save_asked()
        self._file.__exit__()

    @property
    def quota(self) -> int | None:
        """Bytes."""
        return self._room.quota

    # -- what is asked for ---------------------------------------------------------------------------------------

    def touch(self, b3: str) -> None:
        """Somebody was given this blob, or waits for it."""
        if b3 in self._kept or b3 in self._coming:
            self._asked[b3] = int(self._clock())

    def asked_at(self, b3: str) -> float:
        """When somebody had it last; 0 if nobody did, or it isn't ours."""
        kept = self._kept.get(b3)
        return float(max(self._asked.get(b3, 0), 0 if kept is None else kept.asked))

    def is_ours(self, b3: str) -> bool:
        """Whether it is here, or on its way, by the registry's own doing."""
        return b3 in self._kept

    def set_targets(self, keep: frozenset[str]) -> None:
        """What mirroring wants to hold: it evicts none of that for another blob of its own."""
        self._keep = keep

    # -- room ----------------------------------------------------------------------------------------------------

    def admit(self, b3: str, size: int, *, for_reader: bool) -> None:
        """Make room for a blob, and record that it is ours, before its first byte comes. `done` ends it.

        Raises DiskFullError if there is no room, StoreError if what must go first can't.
        """
        with self._lock:
            quota = self._room.quota
            if quota is not None and size > quota:
                raise _no_room(b3, "is larger than the quota", expected=f"≤ {quota:,} bytes", actual=f"{size:,}")
            short = self._short_of(b3, size)
            if short > 0:
                self._make_room(b3, size, short, for_reader=for_reader)
            now = int(self._clock())
            before = self._kept.get(b3)
            if before is None or before.size != size:
                kept = dict(self._with_asked())
                kept[b3] = Kept(size=size, since=now, asked=now if for_reader else 0)
                self._file.write(kept)
                self._kept = kept
            if for_reader:
                self._asked[b3] = now
            self._coming[b3] = size

    def done(self, b3: str) -> None:
        """Its fetch has ended."""
        with self._lock:
            self._coming.pop(b3, None)

    def disown(self, b3: str) -> None:
        """It turned out to be here already, by somebody else's doing: never ours to evict."""
        with self._lock:
            if self._kept.pop(b3, None) is not None:
                self._file.write(self._kept)

    def held(self) -> tuple[frozenset[str], dict[str, int]]:
        """(blobs whose files are in the store, bytes of disk that each takes, half ones too)."""
        with self._lock:
            facts = {b3: self._bytes_of(b3) for b3 in self._kept}
        whole = frozenset(b3 for b3 in facts if self._home.blob(b3_hex(b3)).exists())
        return whole, facts

    def tidy(self) -> None:
        """Forget what is gone, write down what was asked for, evict what the quota has no room for.

        Raises StoreError, DiskFullError.
        """
        with self._lock:
            gone = [b3 for b3 in self._kept if b3 not in self._coming and not self._exists(b3)]
            for b3 in gone:
                del self._kept[b3]
                self._asked.pop(b3, None)
            self._heal_times(int(self._clock()))
            if gone or self._asked:
                self._save_asked()
            for b3 in self._kept:
                if b3 not in self._coming and self._home.blob(b3_hex(b3)).exists():
                    self._sweep_partial(b3)
            barred, rest = self._barred()
            if (barred | rest) - self._coming.keys():
                for fact in self._facts(self._index.listings.listed_blobs()):
                    if fact.b3 in barred and not fact.is_needed:
                        self._evict(fact, "it is barred here")
                    elif fact.b3 in rest and fact.listed_at is None and not fact.is_needed:
                        self._evict(fact, "its release or publisher is barred here")
            quota = self._room.quota
            if quota is not None and (over := self._charged() - quota) > 0:
                facts = self._facts(self._index.listings.listed_blobs())
                now = self._clock()
                going = evictions(facts, over, now=now, keep=self._keep) or evictions(facts, over, now=now)
                for fact in going or ():
                    self._evict(fact, "the quota is smaller than what is kept")

    def _heal_times(self, now: int) -> None:
        """The clock was set back: what was asked for "later" was asked for by now, or it would never go."""
        early = {b3: replace(one, asked=now) for b3, one in self._kept.items() if one.asked > now}
        self._asked = {b3: min(asked, now) for b3, asked in self._asked.items()}
        if early:
            self._kept = {**self._kept, **early}
            self._file.write(self._kept)

    def _barred(self) -> tuple[frozenset[str], frozenset[str]]:
        """What is kept and its operator has barred since; and what a barred release or publisher listed."""
        bars = Barred(self._index.database)
        return (bars.digests() & self._kept.keys(), bars.releases_blobs(self._kept)) if self._kept else (_NONE, _NONE)

    # -- inside --------------------------------------------------------------------------------------------------

    def _short_of(self, b3: str, size: int) -> int:
        """How many bytes must go first."""
        here = self._bytes_of(b3)
        on_the_way = sum(
            max(0, other_size - self._bytes_of(other)) for other, other_size in self._coming.items() if other != b3
        )
        wanted = max(0, size - here)
        short = wanted + on_the_way + self._room.reserve - self._free(self._home.root) if wanted else 0
        if self._room.quota is not None:
            short = max(short, self._charged(but=b3) + size - self._room.quota)
        return short

    def _charged(self, but: str | None = None) -> int:
        """What counts towards the quota: of blobs on their way all that they will take."""
        return sum(max(self._coming.get(b3, 0), self._bytes_of(b3)) for b3 in {*self._kept, *self._coming} if b3 != but)

    def _make_room(self, b3: str, size: int, short: int, *, for_reader: bool) -> None:
        facts = [fact for fact in self._facts(self._index.listings.listed_blobs()) if fact.b3 != b3]
        going = evictions(facts, short, now=self._clock(), keep=frozenset() if for_reader else self._keep)
        if going is None:
            raise _no_room(
                b3, "has no room here", expected=f"{size:,} bytes within the quota and the disk's reserve",
                actual=f"{max(0, size - short):,}",
            )  # fmt: skip
        for fact in going:
            self._evict(fact, f"room for {b3}")

    def _facts(self, listed: Iterable[ListedBlob]) -> list[KeptFact]:
        known: Mapping[str, ListedBlob] = {blob.b3: blob for blob in listed}
        shown = _shown(self._home)
        return [
            KeptFact(
                b3=b3,
                bytes=self._bytes_of(b3),
                asked_at=self.asked_at(b3),
                listed_at=known[b3].listed_at if b3 in known else None,
                withdrawn=b3 in known and known[b3].withdrawn,
                is_needed=b3 in self._coming or self._has_names(b3, shown),
            )
            for b3 in self._kept
        ]

    def _evict(self, fact: KeptFact, why: str) -> None:
        """Claim, bytes, record. Raises StoreError."""
        path = self._home.blob(b3_hex(fact.b3))
        partial = Partial(self._home, b3_hex(fact.b3))
        with contextlib.ExitStack() as stack:
            if partial.folder.exists():
                if not stack.enter_context(partial.locked(on_wait=lambda: None, give_up=lambda: True)):
                    return  # somebody pulls it just now
                _both(lambda: self._index.end_partial(fact.b3), partial.remove)
            self._on_evicted(fact.b3)
            _both(lambda: self._index.drop_location(path), lambda: _unlink(path))
        kept = dict(self._kept)
        kept.pop(fact.b3, None)
        self._file.write(kept)
        self._kept = kept
        self._asked.pop(fact.b3, None)
        self.evicted += 1
        self.evicted_bytes += fact.bytes
        self._on_event(Note(message=f"removed {fact.b3} ({fact.bytes:,} bytes): {why}"))

    def _sweep_partial(self, b3: str) -> None:
        """What a process leaves that was killed after the blob got its name."""
        partial = Partial(self._home, b3_hex(b3))
        if partial.folder.exists() and not partial.data.exists():
            with partial.locked(on_wait=lambda: None, give_up=lambda: True) as ours:
                if ours:
                    self._index.end_partial(b3)
                    partial.remove()

    def _exists(self, b3: str) -> bool:
        return self._home.blob(b3_hex(b3)).exists() or Partial(self._home, b3_hex(b3)).folder.exists()

    def _bytes_of(self, b3: str) -> int:
        """Bytes that it takes: a whole blob its size, a half one what the disk gave it."""
        try:
            return self._home.blob(b3_hex(b3)).stat().st_size
        except OSError:
            return Partial(self._home, b3_hex(b3)).allocated()

    def _has_names(self, b3: str, shown: frozenset[Path]) -> bool:
        """Whether somebody here gave it another name: a hard link, or a symbolic one below models/."""
        path = self._home.blob(b3_hex(b3))
        try:
            return path.stat().st_nlink > 1 or path in shown
        except OSError:
            return False

    def _with_asked(self) -> dict[str, Kept]:
        return {
            b3: replace(one, asked=max(one.asked, self._asked.get(b3, 0))) for b3, one in self._kept.items()
        }  # fmt: skip

    def _save_asked(self) -> None:
        kept = self._with_asked()
        if kept != self._written():
            self._file.write(kept)
        self._kept = kept
        self._asked = {}

    def _written(self) -> dict[str, Kept] | None:
        with contextlib.suppress(SamaraError):
            return self._file.read()[0]
        return None


def _both(forget: Callable[[], object], remove: Callable[[], object]) -> None:
    """First the claim goes, then the bytes; but where the disk is so full that the index can't forget anything, the
    bytes go first: a claim of a file that isn't there says nothing, since its stamp is looked at.
    """
    try:
        forget()
    except DiskFullError:
        remove()
        forget()
    else:
        remove()


def _unlink(path: Path) -> None:
    with io_errors(path):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _shown(home: Home) -> frozenset[Path]:
    """The blobs that symbolic links below models/ lead to: on disks without hard links these are the views."""
    blobs = home.blobs.resolve()
    found = set()
    for path in home.models.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_symlink() and (target := path.resolve()).is_relative_to(blobs):
                found.add(home.blobs / target.relative_to(blobs))
    return frozenset(found)


def _no_room(b3: str, why: str, *, expected: str, actual: str) -> DiskFullError:
    return DiskFullError(
        f"{b3} {why}", expected=expected, actual=actual, next_step="raise --quota, free some space, or try again later"
    )  # fmt: skip
