"""Following another registry: what its publishers proved there is asked for and proven here, through the same door.

Nothing of what the other registry says is believed (`upstream` bounds it), and no publisher's failure is another one's:
who can't be taken in is told with the reason, the others are taken. Those who are listed here already come first, the
rest in an order by lot: a registry that is slow with some can't keep the same ones from their turn for ever. What was
taken in stays, so that a run that ends early, however it ends, is gone on with by the next one.

Names are another matter: a claim is for one registry alone. With `names` those are taken over that a publisher claimed
there with a signed statement and that are free here, because the operator says so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from samara.registry.http import HttpClient
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import claimed_by
from samara.registry.publications.judge import order_of
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.publications.upstream import Listed, Patience, Source, Upstream, is_about_one_file
from samara.registry.trust.catalogs import read_catalog
from samara.registry.trust.identity import identity_of
from samara.registry.trust.repository import read_repository, read_timestamp
from samara.schemas.digests import b3, b3_hex
from samara.schemas.errors import (
    DiskFullError,
    IntegrityError,
    MalformedError,
    NetworkError,
    NotFoundError,
    SamaraError,
    StoreError,
    TrustError,
)
from samara.schemas.events import Note, OnEvent, Warned
from samara.schemas.metadata_bundle import MetadataBundle
from samara.schemas.publication import Publication
from samara.schemas.release_file import ReleaseBundle, unpack_release_object

MAX_MUTE = 20  # publishers in a row for whom no answer came, after which a run ends
MAX_WASTED = 1 << 30  # bytes of publishers that couldn't be taken in, after which a run ends
MAX_TOLD = 100  # refusals with their reasons in a report
_BATCH_BYTES = 32 << 20  # release objects in memory at once
_MOST_WRONG = 8  # releases of one publisher that are not what its catalog names: more of that isn't worth the time


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """What wasn't taken over. `who`: a publisher, `what`: one release (its manifest), or None for all of it."""

    who: str
    why: str
    what: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncedFrom:
    """What came of following a registry once.

    Publishers seen there, changed here, whose catalog is older there than here, that couldn't be taken in; releases
    added; names taken over; of what was refused the first `MAX_TOLD`. `ended_early`: why not all had their turn.
    """

    origin: str
    publishers: int
    changed: int
    releases: int
    names: tuple[str, ...]
    failed: int
    behind: int = 0
    refused: tuple[Refused, ...] = ()
    ended_early: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncRules:
    """`names`: take names over; `reserved`: names that are an identity's own here, whoever claimed them there; `only`:
    publishers to follow, all if empty.
    """

    names: bool = False
    reserved: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    only: frozenset[str] = frozenset()
    patience: Patience = field(default_factory=Patience)


Seen = dict[str, bytes]  # identity → the timestamp there when all of it was here: nothing to do while it is the same


def sync_from(
    index: Index,
    origin: str,
    client: HttpClient,
    rules: Rules,
    *,
    now: datetime,
    names: bool = False,
    on_event: OnEvent,
    how: SyncRules | None = None,
    seen: Seen | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    pause: Callable[[float], object] = time.sleep,
    dice: random.Random | None = None,
) -> SyncedFrom:
    """Bring what is listed here up to date with what `origin` lists. `client`: made with `named=(origin,)`.

    Raises NetworkError where there is no such registry, StoreError or DiskFullError where nothing can be kept here.
    """
    how = replace(how or SyncRules(), names=names or (how is not None and how.names))
    upstream = Upstream(origin, client, how.patience, pause=pause)
    run = _Run(index, upstream, rules, how, now, on_event, {} if seen is None else seen)
    return run.through(is_stopped, dice or random.Random())  # noqa: S311  (whose turn it is)


class _Run:
    """One run."""

    def __init__(
        self,
        index: Index,
        upstream: Upstream,
        rules: Rules,
        how: SyncRules,
        now: datetime,
        on_event: OnEvent,
        seen: Seen,
    ) -> None:
        self._index = index
        self._upstream = upstream
        self._rules = rules
        self._how = how
        self._now = now
        self._on_event = on_event
        self._seen = seen
        self._here = set(index.manifests())
        self._known = {owner.identity for owner in index.listings.owners()}
        self._changed = self._releases = self._failed = self._behind = self._mute = self._wasted = 0
        self._lost = 0.0
        self._gained: list[str] = []
        self._refused: list[Refused] = []

    def through(self, is_stopped: Callable[[], bool], dice: random.Random) -> SyncedFrom:
        """Everybody, each in turn."""
        turns, cut_short = self._turns(dice)
        ended = cut_short
        for there in turns:
            if is_stopped():
                ended = "it was stopped"
                break
            before = self._upstream.received
            self._upstream.begin()
            try:
                self._take(there)
            except (StoreError, DiskFullError):
                raise
            except SamaraError as error:
                if is_stopped():
                    ended = "it was stopped"
                    break
                self._lost += self._upstream.waited
                self._mute = self._mute + 1 if isinstance(error, NetworkError) else 0
                self._wasted += self._upstream.received - before
                self._fail(there, str(error))
            else:
                self._mute = 0
            if (ended := self._enough() or cut_short) != cut_short:
                break
        if ended is not None:
            self._on_event(Warned(message=f"{self._upstream.origin}: not all publishers had their turn: {ended}"))
        return SyncedFrom(
            origin=self._upstream.origin,
            publishers=len(turns),
            changed=self._changed,
            releases=self._releases,
            names=tuple(self._gained),
            failed=self._failed,
            behind=self._behind,
            refused=tuple(self._refused),
            ended_early=ended,
        )

    def _enough(self) -> str | None:
        """Why to ask it no longer in this run."""
        if self._lost > self._how.patience.lost:
            return "it is too slow"
        if self._mute >= MAX_MUTE:
            return "it doesn't answer any more"
        return "too much of it can't be taken in" if self._wasted > MAX_WASTED else None

    def _turns(self, dice: random.Random) -> tuple[list[Listed], str | None]:
        """Who is there, in the order of their turns, and why that isn't everybody."""
        found: list[Listed] = []
        why = None
        try:
            for one in self._upstream.publishers():
                if not self._how.only or one.identity in self._how.only:
                    found.append(one)
        except NetworkError as error:
            if not found:
                raise
            why = f"its list of publishers breaks off: {error}"
        old = [one for one in found if one.identity in self._known]
        new = [one for one in found if one.identity not in self._known]
        dice.shuffle(new)
        return [*old, *new], why

    def _fail(self, there: Listed, why: str) -> None:
        self._failed += 1
        self._refuse(there, why)

    def _refuse(self, there: Listed, why: str, what: str | None = None) -> None:
        if len(self._refused) < MAX_TOLD:
            self._refused.append(Refused(who=there.shown, why=why, what=what))
            about = there.shown if what is None else f"{what} of {there.shown}"
            self._on_event(Warned(message=f"{about} isn't taken over from {self._upstream.origin}: {why}"))

    # -- one publisher -------------------------------------------------------------------------------------------

    def _take(self, there: Listed) -> None:
        source = self._upstream.source(there.identity)
        timestamp = read_timestamp(source)
        if timestamp is None:
            raise NotFoundError(f"{self._upstream.origin} has no catalog of it")
        wants_name = self._how.names and self._may_gain(there)
        if self._seen.get(there.identity) == timestamp and not wants_name:
            return
        before = self._index.listings.metadata(there.identity)
        if before is not None and before.timestamp == timestamp:
            bundle, was_new = before, False
        else:
            bundle, was_new = self._offered(there, source, timestamp), True
            if before is not None and order_of(bundle) < order_of(before):
                self._behind += 1  # it will catch up, or be caught at telling old news
                self._on_event(Note(message=f"{there.shown}: {self._upstream.origin} has an older catalog than this"))
                return
        if was_new:
            accept(self._index, Publication(metadata=bundle), self._rules, now=self._now)
        if wants_name:
            self._name(there, bundle)
        added, complete = self._releases_of(there, source, bundle)
        if complete:
            self._seen[there.identity] = timestamp
        self._releases += added
        self._changed += was_new or bool(added)
        if was_new or added:
            self._on_event(Note(message=f"{there.shown}: {added} releases new here"))

    def _offered(self, there: Listed, source: Source, timestamp: bytes) -> MetadataBundle:
        bundle = read_repository(source, timestamp=timestamp)
        if bundle is None:
            raise NotFoundError(f"{self._upstream.origin} has no catalog of it")
        if identity_of(bundle.roots[0]) != there.identity:
            raise TrustError(
                "another publisher's metadata was given under its identity", expected=there.identity,
                actual=identity_of(bundle.roots[0]),
            )  # fmt: skip
        return bundle

    def _releases_of(self, there: Listed, source: Source, bundle: MetadataBundle) -> tuple[int, bool]:
        """(how many were added, whether all are here now)."""
        entries = read_catalog(there.identity, bundle).entries.values()
        lacking = [entry.manifest for entry in entries if entry.manifest not in self._here]
        added = wrong = absent = 0
        for batch in self._fetched(there, source, lacking):
            good = [one for one in batch if one is not None]
            absent += len(batch) - len(good)
            taken, refused = self._accept(there, bundle, good)
            added += taken
            wrong += refused
            if wrong > _MOST_WRONG:
                raise IntegrityError(f"more than {_MOST_WRONG} of its releases can't be taken in")
        return added, not wrong and not absent

    def _fetched(
        self, there: Listed, source: Source, manifests: Sequence[str]
    ) -> Iterator[list[ReleaseBundle | None]]:  # fmt: skip
        """Release objects, some at a time; None for one that the other registry hasn't, or gives as something else."""
        batch: list[ReleaseBundle | None] = []
        size = wrong = 0
        for manifest in manifests:
            found: ReleaseBundle | None = None
            trouble: SamaraError | None = None
            try:
                data = source.release(b3_hex(manifest))
                found = None if data is None else _release(data, manifest)
                size += len(data or b"")
            except NetworkError as error:
                if not is_about_one_file(error):
                    if batch:
                        yield batch  # what has come stays
                    raise
                trouble = error
            except MalformedError as error:
                trouble = error
            if trouble is not None:
                wrong += 1
                self._refuse(there, str(trouble), manifest)
                if wrong > _MOST_WRONG:
                    if batch:
                        yield batch
                    raise IntegrityError(f"{self._upstream.origin} gives other releases than it names")
            batch.append(found)
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _accept(self, there: Listed, bundle: MetadataBundle, releases: list[ReleaseBundle]) -> tuple[int, int]:
        """(added, refused): one that is refused keeps no other one out."""
        if not releases:
            return 0, 0
        try:
            done = accept(
                self._index, Publication(metadata=bundle, releases=tuple(releases)), self._rules, now=self._now
            )
        except (PublicationRefusedError, MalformedError) as error:
            if isinstance(error, PublicationRefusedError) and error.reason in {Reason.QUOTA, Reason.CONFLICT}:
                raise
            if len(releases) == 1:
                self._refuse(there, str(error), b3(releases[0].envelope.payload))
                return 0, 1
            middle = len(releases) // 2
            halves = [self._accept(there, bundle, half) for half in (releases[:middle], releases[middle:])]
            return sum(added for added, _ in halves), sum(refused for _, refused in halves)
        self._here.update(b3(one.envelope.payload) for one in releases)
        return done.added, 0

    # -- names ---------------------------------------------------------------------------------------------------

    def _may_gain(self, there: Listed) -> bool:
        name = there.namespace
        if name is None or not self._index.listings.is_free(name, there.identity):
            return False
        return self._how.reserved.get(name) in {None, there.identity}

    def _name(self, there: Listed, bundle: MetadataBundle) -> None:
        """Give it its name there, if it claimed that itself there."""
        name, origin = there.namespace, self._upstream.origin
        assert name is not None
        claim = self._upstream.claim(name)
        if claim is None:
            self._on_event(Note(message=f"the name {name} isn't taken over: no signed claim of it at {origin}"))
            return
        if not claimed_by(claim, bundle.roots, there.identity, name, origin):
            self._on_event(Warned(message=f"the name {name} isn't taken over: its claim at {origin} doesn't hold"))
            return
        claims = replace(self._rules.claims, listed={**self._rules.claims.listed, name: there.identity})
        try:
            accept(self._index, Publication(metadata=bundle), replace(self._rules, claims=claims), now=self._now)
        except PublicationRefusedError as error:  # its releases are another matter
            self._on_event(Warned(message=f"the name {name} isn't taken over: {error}"))
        else:
            self._gained.append(name)


def _release(data: bytes, manifest: str) -> ReleaseBundle:
    found = unpack_release_object(data)
    if b3(found.envelope.payload) != manifest:
        raise MalformedError("something else was given", expected=manifest, actual=b3(found.envelope.payload))
    return found
