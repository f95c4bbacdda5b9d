"""What may be removed: the rules of `rm`, `prune` and `du`. Facts and time in, a plan out; touches no disk or clock.

    removal(facts, manifests)      what forgetting these releases takes with it
    frees_alone(facts)             bytes that forgetting one alone gives back, of each
    plan_prune(facts, rules, now)  which releases and leftovers go, and what keeps the others

A blob goes when no release that stays has it; a name goes with its blob, or with the only release that gives it that
name. Files in place are their owner's: they are no facts here. What another process holds stays. Whatever stays
unexplained stays: nothing goes but by a rule that says why. Bytes are those of the disk, times UTC epoch seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

HOUR = 3600.0
DAY = 24 * HOUR
TEMPORARY_AGE = HOUR  # what a process makes aside it renames within seconds; the longest import takes less
ORPHAN_AGE = DAY  # a blob is here for a moment before its release is: never remove what only just came
ABANDONED_AGE = 30 * DAY  # a half download that nobody went on with, where no other age was told


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseFact:
    """A release the index holds. `name`: publisher identity, model and tag, which its later versions share.

    `reference`: how people name it. `names`: the views it gives its files (name below models/ → b3). `means_now`: the
    reference that a known catalog, or without one this machine, says means it now; None if none does. `is_own`: its
    publisher's keys lie on this machine. `is_listed`: this machine is a registry, and lists it. `is_elsewhere`:
    nothing of it is here, and another machine that shares the database has it.
    """

    manifest: str
    reference: str
    name: tuple[str, str, str]
    version: int
    added_at: float
    blobs: frozenset[str]
    names: Mapping[str, str] = field(default_factory=dict)
    means_now: str | None = None
    is_own: bool = False
    is_listed: bool = False
    is_elsewhere: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobFact:
    """A file in the store. `links_elsewhere`: hard links to it that lie neither among the blobs nor the views: its
    bytes stay as long as these do. `changed`: the latest of its times.
    """

    b3: str
    path: str
    bytes: int
    changed: float
    links_elsewhere: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialFact:
    """A transfer's folder. `touched`: the latest time in it. `is_held`: a process has its lock."""

    b3: str
    path: str
    bytes: int
    touched: float
    is_held: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewFact:
    """A name below models/. `b3`: the blob here that it is a link to; None for a copy, or a link to nothing here.
    `bytes`: of a copy; `size`: what it shows.
    """

    name: str
    path: str
    b3: str | None
    bytes: int
    size: int
    changed: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StrayFact:
    """`kind` temporary: made aside by a process; folder: one with nothing in it."""

    kind: str
    path: str
    bytes: int
    touched: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What lies in the store. `sizes`: b3 → bytes that its content has; `lost_partials`: transfers that the index notes
    and whose folder is gone.
    """

    releases: tuple[ReleaseFact, ...] = ()
    blobs: tuple[BlobFact, ...] = ()
    partials: tuple[PartialFact, ...] = ()
    views: tuple[ViewFact, ...] = ()
    strays: tuple[StrayFact, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    lost_partials: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What `prune` was told. Manifests in `locked` (by lockfiles) and `kept` stay. Of each name the newest
    `keep_latest` versions stay. `older_than` (seconds): what came later stays. Neither told: every release stays.
    """

    keep_latest: int | None = None
    older_than: float | None = None
    kept: frozenset[str] = frozenset()
    locked: frozenset[str] = frozenset()

    @property
    def removes_releases(self) -> bool:
        """Whether any release may go at all."""
        return self.keep_latest is not None or self.older_than is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that goes, and why. `kind`: release, view, blob, partial, temporary, folder or note (of the index).

    `what`: a manifest, a blob (b3) or a path; `bytes`: given back by this.
    """

    kind: str
    what: str
    path: str | None
    bytes: int
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What goes, in the order in which it must: records, names, bytes. `keeps`: (reference, why it stays)."""

    items: tuple[Item, ...] = ()
    keeps: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """Given back by all of it."""
        return sum(item.bytes for item in self.items)

    def of(self, *kinds: str) -> tuple[Item, ...]:
        """The items of these kinds."""
        return tuple(item for item in self.items if item.kind in kinds)


def removal(facts: Facts, manifests: Collection[str], *, why: str = "asked for") -> Plan:
    """What forgetting these releases takes with it. Names no release that isn't in `facts`."""
    return Plan(items=_ordered(_removal(facts, dict.fromkeys(manifests, why))))


def frees_alone(facts: Facts) -> dict[str, int]:
    """Manifest → bytes that forgetting this release alone gives back: `removal(…).bytes` of each, in one go."""
    users = Counter(b3 for release in facts.releases for b3 in release.blobs)
    namers = Counter(name for release in facts.releases for name in release.names)
    bytes_of: Counter[str] = Counter()
    for item in _bytes_of(facts, users, ""):
        bytes_of[item.what] += item.bytes
    copies = [view for view in facts.views if view.b3 is None and view.bytes]
    found = {}
    for release in facts.releases:
        alone = sum(bytes_of[b3] for b3 in release.blobs if users[b3] == 1)
        found[release.manifest] = alone
    for release in facts.releases if copies else ():
        for view in copies:
            given = release.names.get(view.name)
            if given is not None and namers[view.name] == 1 and _is_given(view, given, facts.sizes):
                found[release.manifest] += view.bytes
    return found


def held_elsewhere(facts: Facts, manifests: Collection[str]) -> tuple[PartialFact, ...]:
    """Transfers of these releases that another process has locked: then they can't be forgotten now."""
    blobs = {b3 for release in facts.releases if release.manifest in manifests for b3 in release.blobs}
    return tuple(partial for partial in facts.partials if partial.is_held and partial.b3 in blobs)


def plan_prune(facts: Facts, rules: Rules, *, now: float) -> Plan:
    """Which releases and leftovers go by these rules at this time, and why the other releases stay."""
    order = _Order(facts)
    going: dict[str, str] = {}
    keeps: list[tuple[str, str]] = []
    for release in facts.releases:
        reason = _stays(release, order, rules, now)
        if reason is None:
            going[release.manifest] = _why_it_goes(rules)
        else:
            keeps.append((release.reference, reason))
    items = [*_removal(facts, going), *_leftovers(facts, rules, going, now)]
    known = {b3 for release in facts.releases for b3 in release.blobs}
    keeps += [
        (
            blob.path,
            "older than all that the index knows, which may have been lost: pull its release again, or delete it",
        )
        for blob in facts.blobs
        if blob.b3 not in known and _is_from_before(facts, blob.changed)
    ]
    return Plan(items=_ordered(items), keeps=tuple(keeps))


def _stays(release: ReleaseFact, order: _Order, rules: Rules, now: float) -> str | None:
    """What keeps a release; None where nothing does."""
    if release.manifest in rules.locked:
        return "a lockfile names it"
    if release.manifest in rules.kept:
        return "told to keep it"
    if release.is_elsewhere:
        return "nothing of it is here, and another machine that shares the database has it"
    if release.is_listed and not release.is_own:
        return "the registry here lists it"
    if release.means_now is not None:
        return f"{release.means_now} means it now"
    if release.is_own and release.version >= order.highest[release.name[:2]]:
        return "yours, and the next version is counted from it"
    if not rules.removes_releases:
        return "no rule removes it"
    if rules.keep_latest is not None and order.rank[release.manifest] < rules.keep_latest:
        return f"among the newest {rules.keep_latest}"
    if rules.older_than is not None and now - release.added_at < rules.older_than:
        return "not old enough"
    if not order.held.isdisjoint(release.blobs):
        return "another process is pulling it"
    return None


class _Order:
    """How releases stand to each other. `rank`: how many of its name are newer; `highest`: version of each model, under
    whatever tag; `held`: blobs that another process is pulling.
    """

    def __init__(self, facts: Facts) -> None:
        named: defaultdict[tuple[str, str, str], list[ReleaseFact]] = defaultdict(list)
        self.highest: Counter[tuple[str, ...]] = Counter()
        for release in facts.releases:
            named[release.name].append(release)
            self.highest[release.name[:2]] = max(self.highest[release.name[:2]], release.version)
        self.rank = {
            release.manifest: rank
            for same in named.values()
            for rank, release in enumerate(
                sorted(same, key=lambda one: (one.version, one.added_at, one.manifest), reverse=True)
            )
        }
        self.held = {partial.b3 for partial in facts.partials if partial.is_held}


def _why_it_goes(rules: Rules) -> str:
    parts = []
    if rules.keep_latest is not None:
        parts.append(f"not among the newest {rules.keep_latest}")
    if rules.older_than is not None:
        parts.append(f"here for more than {rules.older_than / DAY:g} days")
    return ", ".join(parts)


def _removal(facts: Facts, going: Mapping[str, str]) -> Iterator[Item]:
    """The releases in `going` (manifest → why), and what no other release needs."""
    gone = [release for release in facts.releases if release.manifest in going]
    staying = [release for release in facts.releases if release.manifest not in going]
    needed = {b3 for release in staying for b3 in release.blobs}
    names = {name for release in staying for name in release.names}
    dropped = {b3: release for release in gone for b3 in release.blobs if b3 not in needed}
    for release in gone:
        yield Item(
            kind="release",
            what=release.manifest,
            path=None,
            bytes=0,
            why=f"{release.reference}: {going[release.manifest]}",
        )
    given = {name: b3 for release in gone for name, b3 in release.names.items()}
    for view in facts.views:
        if view.b3 in dropped or (view.name not in names and _is_given(view, given.get(view.name), facts.sizes)):
            yield _view(view, "its release goes")
    yield from _bytes_of(facts, dropped, "no other release needs it")


def _is_given(view: ViewFact, b3: str | None, sizes: Mapping[str, int]) -> bool:
    """Whether a view is what a release calls by this name: a link to its blob, or what can only be a copy of it."""
    if b3 is None:
        return False
    return view.b3 == b3 or (view.b3 is None and (view.bytes == 0 or view.size == sizes.get(b3)))


def _bytes_of(facts: Facts, dropped: Collection[str], why: str) -> Iterator[Item]:
    for blob in facts.blobs:
        if blob.b3 in dropped:
            freed = 0 if blob.links_elsewhere else blob.bytes
            more = "; other names outside the store keep its bytes" if blob.links_elsewhere else ""
            yield Item(kind="blob", what=blob.b3, path=blob.path, bytes=freed, why=why + more)
    for partial in facts.partials:
        if partial.b3 in dropped and not partial.is_held:
            yield Item(kind="partial", what=partial.b3, path=partial.path, bytes=partial.bytes, why=why)


def _leftovers(facts: Facts, rules: Rules, going: Collection[str], now: float) -> Iterator[Item]:
    known = {b3 for release in facts.releases for b3 in release.blobs}
    orphans = {
        blob.b3
        for blob in facts.blobs
        if blob.b3 not in known and now - blob.changed >= ORPHAN_AGE and not _is_from_before(facts, blob.changed)
    }
    named = {name for release in facts.releases for name in release.names}
    for view in facts.views:
        if view.b3 in orphans:
            yield _view(view, "a name of a blob that no release here has")
        elif (
            view.b3 is None
            and view.name not in named
            and now - view.changed >= ORPHAN_AGE
            and not _is_from_before(facts, view.changed)
        ):
            yield _view(view, "no release here has a file of this name")
    yield from _bytes_of(
        Facts(blobs=facts.blobs), orphans, f"no release here has it, untouched for more than {ORPHAN_AGE / DAY:g} day"
    )
    yield from _abandoned(facts, rules, going, known, now)
    for stray in facts.strays:
        if now - stray.touched >= TEMPORARY_AGE:
            why = "left by a process that was killed" if stray.kind == "temporary" else "empty"
            yield Item(kind=stray.kind, what=stray.path, path=stray.path, bytes=stray.bytes, why=why)
    for b3 in facts.lost_partials:
        yield Item(kind="note", what=b3, path=None, bytes=0, why="a transfer of it is noted and its folder is gone")


def _is_from_before(facts: Facts, changed: float) -> bool:
    """Whether a thing is older than all that the index knows: to one that was lost and made anew, all are orphans."""
    return changed < min((release.added_at for release in facts.releases), default=float("inf"))


def _abandoned(
    facts: Facts, rules: Rules, going: Collection[str], known: Collection[str], now: float
) -> Iterator[Item]:
    """Half downloads that nobody went on with; those of releases that go are no leftovers, those kept by word stay."""
    spoken_for = rules.kept | rules.locked
    kept = {b3 for release in facts.releases if release.manifest in spoken_for for b3 in release.blobs}
    staying = {b3 for release in facts.releases if release.manifest not in going for b3 in release.blobs}
    stored = {blob.b3 for blob in facts.blobs}
    for partial in facts.partials:
        if partial.is_held or partial.b3 in kept or (partial.b3 in known and partial.b3 not in staying):
            continue
        if partial.b3 not in known and _is_from_before(facts, partial.touched):
            continue
        age = ABANDONED_AGE if rules.older_than is None else rules.older_than
        why = f"nobody went on with it for more than {age / DAY:g} days"
        if partial.b3 not in known:
            age, why = ORPHAN_AGE, "a transfer for no release that is known here"
        elif partial.b3 in stored and partial.bytes == 0:
            age, why = TEMPORARY_AGE, "its blob is here"
        if now - partial.touched >= age:
            yield Item(kind="partial", what=partial.b3, path=partial.path, bytes=partial.bytes, why=why)


def _view(view: ViewFact, why: str) -> Item:
    return Item(kind="view", what=view.name, path=view.path, bytes=view.bytes, why=why)


_ORDER = ("release", "note", "view", "blob", "partial", "temporary", "folder")


def _ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    """Each thing once, records before names before bytes; folders last, the innermost first."""
    once = {(item.kind, item.path or item.what): item for item in items}
    found = sorted(once.values(), key=lambda item: _ORDER.index(item.kind))
    folders = [item for item in found if item.kind == "folder"]
    return (
        *(item for item in found if item.kind != "folder"),
        *sorted(folders, key=lambda item: item.what, reverse=True),
    )
