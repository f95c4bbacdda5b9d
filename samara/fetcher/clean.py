"""`ls`, `du`, `rm`, `prune`: thin I/O around `samara.fetcher.housekeeping`, which decides what may go.

Removal goes from claim to bytes: the index forgets, then names go, then bytes. A process killed in between leaves blobs
that no release has, or names of them, which `samara prune` finds; never a release whose bytes are half gone. A blob is
unlinked while the index is held for writing, and only if no release needs it by then: a pull in another process either
made it needed before, or finds no file. Whoever has it open, a seeder say, keeps its bytes until it lets go.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samara.fetcher import space_facts
from samara.fetcher.housekeeping import Item, Plan, Rules, frees_alone, held_elsewhere, plan_prune, removal
from samara.fetcher.partial import Partial
from samara.fetcher.space_facts import Known, Publishers, disk_bytes, partial_bytes, survey, tree_bytes
from samara.registry.durable import io_error, io_errors
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.records import Location
from samara.registry.store import stamp_at
from samara.registry.sweep import IMPORT_LOCK
from samara.schemas.digests import b3_hex
from samara.schemas.errors import NotFoundError, SamaraError, StoreError, UsageError
from samara.schemas.events import OnEvent, Warned, ignore


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One release in `ls`. Bytes of content: `size` in all (None: not known here), `here` whole and untouched in the
    store, `in_place` where its owner keeps it, `partial` on its way. `state`: whole, in place, partial or absent.
    """

    reference: str
    identity: str
    manifest: str
    version: int
    size: int | None
    here: int
    in_place: int
    partial: int
    state: str
    withdrawn: str | None
    newer: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Bytes of disk by what they are for, each file once. `frees`: (reference, manifest, bytes that forgetting this
    release alone gives back). `temporary`: made aside, not (yet) renamed; `orphans`: of `blobs`, what no release has.
    """

    blobs: int
    orphans: int
    partials: int
    view_copies: int
    announced: int
    index: int
    temporary: int
    frees: tuple[tuple[str, str, int], ...]

    @property
    def total(self) -> int:
        """All of it; keys and trust, some kilobytes, aside."""
        return self.blobs + self.partials + self.view_copies + self.announced + self.index + self.temporary


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """What was planned, and what of it was done: nothing in a dry run. `troubles`: what stayed, and why."""

    plan: Plan
    done: tuple[Item, ...]
    troubles: tuple[str, ...] = ()

    @property
    def freed(self) -> int:
        """Bytes given back."""
        return sum(item.bytes for item in self.done)


def list_releases(home: Home, models: Sequence[str] = (), *, everything: bool = False) -> tuple[Row, ...]:
    """The releases this machine knows, by name and version. `models`: globs of `model`, `publisher/model` or
    references. `everything`: also those that only a known catalog lists. Raises NotFoundError if none match.
    """
    publishers = Publishers(home)
    index = Index.open_existing(home)
    rows: list[Row] = []
    held: tuple[Known, ...] = ()
    if index is not None:
        with index:
            holdings = index.holdings()
        held = space_facts.known_releases(publishers, holdings.releases)
        rows = [_row(home, one, holdings.locations.get) for one in held]
    if everything:
        for one in space_facts.listed_elsewhere(publishers, [known.held for known in held]):
            rows.append(
                Row(
                    reference=one.reference, identity=publishers.identity(one.reference.partition("/")[0]) or "",
                    manifest=one.manifest, version=one.version, size=None, here=0, in_place=0, partial=0,
                    state="absent", withdrawn=one.withdrawn, newer=None,
                )
            )  # fmt: skip
    chosen = [row for row in rows if not models or any(_matches(row.reference, model) for model in models)]
    if models and not chosen:
        raise NotFoundError(f"no release here is called {' or '.join(models)}", next_step="see: samara ls")
    return tuple(sorted(chosen, key=lambda row: (row.reference.partition("@")[0].partition(":")[0], row.version)))


def usage(home: Home) -> Usage:
    """What takes how much room below SAMARA_HOME. Files in place are their owner's and don't count."""
    index = Index.open_existing(home)
    with index or contextlib.nullcontext():
        facts = survey(home, index, Publishers(home))
    needed = {b3 for release in facts.releases for b3 in release.blobs}
    alone = frees_alone(facts)
    return Usage(
        blobs=sum(blob.bytes for blob in facts.blobs),
        orphans=sum(blob.bytes for blob in facts.blobs if blob.b3 not in needed),
        partials=sum(partial.bytes for partial in facts.partials),
        view_copies=sum(view.bytes for view in facts.views),
        announced=tree_bytes(home.root / "announced"),
        index=sum(_bytes_of_file(home.index.with_name(home.index.name + tail)) for tail in ("", "-wal", "-shm")),
        temporary=sum(stray.bytes for stray in facts.strays),
        frees=tuple((one.reference, one.manifest, alone[one.manifest]) for one in facts.releases),
    )


def remove(home: Home, references: Sequence[str], *, dry_run: bool = False) -> Cleaned:
    """Forget these releases on this machine, and remove what only they need. Files in place, keys and trust stay.

    Raises NotFoundError for what isn't known here, UsageError for what this machine's own catalog or the registry here
    lists, StoreError if another process is pulling one of them; then nothing was removed.
    """
    index = Index.open_existing(home)
    if index is None:
        raise _unknown(references[0])
    with index:
        publishers = Publishers(home)
        known = space_facts.known_releases(publishers, index.holdings().releases)
        chosen = _chosen(known, publishers, references)
        for one in chosen:
            if one.is_own and one.means_now is not None:
                raise UsageError(
                    f"{one.means_now} is yours: your catalog promises it to others",
                    next_step=f"first: samara unpublish {one.means_now}",
                )
            if one.held.is_listed and not one.is_own:
                raise UsageError(
                    f"the registry here lists {one.reference}",
                    next_step="first: samara listed remove …; what was merely mirrored goes by a smaller --quota",
                )
        manifests = [one.held.manifest for one in chosen]
        facts = survey(home, index, publishers)
        absent = next((one for one in facts.releases if one.manifest in manifests and one.is_elsewhere), None)
        if absent is not None:
            raise NotFoundError(
                f"nothing of {absent.reference} is here: another machine that shares the database has it",
                next_step="see: samara db status",
            )
        held = held_elsewhere(facts, manifests)
        if held:
            raise _in_use(held[0].path)
        plan = removal(facts, manifests)
        if dry_run:
            return Cleaned(plan=plan, done=())
        return _carry_out(home, index, plan)


def prune(
    home: Home, rules: Rules, keep: Sequence[str] = (), *, now: float, dry_run: bool, on_event: OnEvent = ignore
) -> Cleaned:
    """Remove releases and leftovers by these rules. `keep`: references to keep beside `rules.kept`; `now`: UTC epoch
    seconds. Raises NotFoundError for a reference that isn't known here: a keep rule must never miss its aim.
    """
    index = Index.open_existing(home)
    with index or contextlib.nullcontext():
        publishers = Publishers(home)
        if keep:
            known = () if index is None else space_facts.known_releases(publishers, index.holdings().releases)
            chosen = {one.held.manifest for one in _chosen(known, publishers, keep)}
            rules = replace(rules, kept=rules.kept | chosen)
        facts = survey(home, index, publishers)
        missing = rules.locked - {release.manifest for release in facts.releases}
        if missing:
            on_event(Warned(message=f"{len(missing)} of the releases that a lockfile names are not here"))
        plan = plan_prune(facts, rules, now=now)
        if dry_run or index is None:
            return Cleaned(plan=plan, done=()) if dry_run else _carry_out_without_index(plan)
        return _carry_out(home, index, plan)


def _row(home: Home, known: Known, places_of: Callable[[str], tuple[Location, ...] | None]) -> Row:
    held = known.held
    here = in_place = partial = size = 0
    for b3, bytes_ in {file.b3: file.size for file in held.files}.items():
        size += bytes_
        place = _whole(places_of(b3) or ())
        if place is None:
            partial += partial_bytes(home, b3)
        elif place.in_store:
            here += bytes_
        else:
            in_place += bytes_
    whole = here + in_place == size
    state = ("in place" if in_place else "whole") if whole else "partial" if here + in_place + partial else "absent"
    return Row(
        reference=known.reference,
        identity=held.identity,
        manifest=held.manifest,
        version=held.version,
        size=size,
        here=here,
        in_place=in_place,
        partial=partial,
        state=state,
        withdrawn=known.withdrawn,
        newer=known.newer,
    )


def _whole(places: Sequence[Location]) -> Location | None:
    """A place that still holds the blob untouched; the store's own first."""
    for place in sorted(places, key=lambda one: not one.in_store):
        with contextlib.suppress(StoreError):
            if stamp_at(place.path) == place.stamp:
                return place
    return None


def _matches(reference: str, model: str) -> bool:
    """Whether people may call a release that: by its whole reference, publisher/model, model, or publisher."""
    head = reference.partition("@")[0].rpartition(":")[0] if "@" not in reference else reference.partition("@")[0]
    publisher, _, name = head.rpartition("/")
    return any(fnmatch.fnmatchcase(text, model) for text in (reference, head, name, publisher))


def _chosen(known: Sequence[Known], publishers: Publishers, references: Sequence[str]) -> tuple[Known, ...]:
    chosen: dict[str, Known] = {}
    for reference in references:
        found = space_facts.select(known, publishers, reference)
        if not found:
            raise _unknown(reference)
        chosen.update((one.held.manifest, one) for one in found)
    return tuple(chosen.values())


def _carry_out(home: Home, index: Index, plan: Plan) -> Cleaned:
    """Records, names, bytes. Each thing by itself: what can't go stays for the next time, and is told."""
    done: list[Item] = []
    troubles: list[str] = []
    with contextlib.ExitStack() as locks:
        locks.enter_context(_no_import(home))
        for item in plan.of("partial"):
            if not _lock_partial(home, item.what, locks):
                if plan.of("release"):
                    raise _in_use(item.path or item.what)  # before anything was forgotten
                troubles.append(f"{item.path} is in use")
        let_go: set[str] = set()
        for item in plan.items:
            try:
                if _carry_out_one(home, index, item, let_go):
                    done.append(item)
            except SamaraError as error:
                troubles.append(str(error))
            except OSError as error:
                troubles.append(str(io_error(error, Path(item.path or item.what))))
    _remove_empty_parents(home, done)
    return Cleaned(plan=plan, done=tuple(done), troubles=tuple(troubles))


def _carry_out_one(home: Home, index: Index, item: Item, let_go: set[str]) -> bool:
    """Whether it is gone now by our doing. `let_go`: the releases forgotten so far that stay for another store's sake,
    which shares the database.
    """
    path = Path(item.path or "")
    if item.kind == "release":
        forgotten = index.forget_release(item.what)
        if forgotten is not None and forgotten.stays:
            let_go.add(item.what)
        return forgotten is not None
    if item.kind == "note":
        if not (home.partials / b3_hex(item.what)).exists():  # else a pull has begun anew
            index.end_partial(item.what)
            return True
        return False
    if item.kind == "blob":
        return index.unless_needed(item.what, lambda: _unlink(path), let_go=let_go)
    if item.kind == "partial":
        if path.is_dir():
            index.end_partial(item.what)
            Partial(home, b3_hex(item.what)).remove()
            return True
        return False
    if item.kind == "folder":
        with contextlib.suppress(OSError):  # something came into it
            path.rmdir()
        return not path.exists()
    if item.kind == "temporary" and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    _unlink(path)
    return True


def _carry_out_without_index(plan: Plan) -> Cleaned:
    """Where nothing was ever published or pulled there are only leftovers of what began."""
    done = []
    for item in plan.of("temporary", "folder"):
        path = Path(item.path or "")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _unlink(path)
        done.append(item)
    return Cleaned(plan=plan, done=tuple(done))


@contextlib.contextmanager
def _no_import(home: Home) -> Iterator[None]:
    """While no bundle is imported: an import uses blobs that it finds here before it records who needs them."""
    from filelock import FileLock, Timeout

    lock = FileLock(home.root / IMPORT_LOCK, timeout=0)
    with io_errors(home.root / IMPORT_LOCK):
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"a bundle is being imported into {home.root}", next_step="run it again when that has ended"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _lock_partial(home: Home, b3: str, locks: contextlib.ExitStack) -> bool:
    """Hold a transfer's lock, if its folder is still there; False if another process has it."""
    partial = Partial(home, b3_hex(b3))
    if not partial.folder.is_dir():
        return True
    return locks.enter_context(partial.locked(on_wait=lambda: None, give_up=lambda: True))


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        try:
            path.unlink()
        except PermissionError:
            if os.name != "nt":
                raise
            path.chmod(stat.S_IWRITE)  # Windows removes nothing that is read-only
            path.unlink()


def _remove_empty_parents(home: Home, done: Collection[Item]) -> None:
    """Folders that became empty, up to the store's rooms."""
    rooms = {home.models, home.blobs}
    for item in done:
        if item.kind not in {"view", "blob"} or item.path is None:
            continue
        for folder in _up_to(Path(item.path).parent, rooms):
            try:
                folder.rmdir()
            except OSError:
                break


def _up_to(folder: Path, rooms: Collection[Path]) -> Iterator[Path]:
    while folder not in rooms and folder != folder.parent:
        yield folder
        folder = folder.parent


def _bytes_of_file(path: Path) -> int:
    try:
        return disk_bytes(path.stat())
    except OSError:
        return 0


def _unknown(reference: str) -> NotFoundError:
    return NotFoundError(f"{reference} is not known here", next_step="see: samara ls")


def _in_use(path: str) -> StoreError:
    return StoreError(
        f"another process is pulling into {path}", next_step="wait until it has ended, or stop it, and run this again"
    )
