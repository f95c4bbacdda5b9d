"""Taking a publication in: everything is proven first, without the database's lock; then one transaction, or nothing.

    unpack → TUF workflow against what is here → each release by the catalog → mirrors → names → quotas → commit

A catalog of very many new names is committed with the first of them listed; the others follow in transactions of their
own, so that nobody waits for long. Until then they are as names whose release isn't here; if that is broken off, the
next publication, of the same catalog too, goes on.
The commit is a compare-and-swap: if another publication of that publisher came first, the whole is judged again. What
is kept even when all is refused: both sides of an equivocation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from samara.registry import barred, index_releases
from samara.registry.http.dial import Resolve, system_resolve
from samara.registry.index import Index
from samara.registry.index_columns import text_of
from samara.registry.index_database import Database
from samara.registry.lookalikes import skeleton, skeleton_of
from samara.registry.publications.claims import ClaimRules, Grant, claimed_name, judge_claim, may_publish
from samara.registry.publications.judge import EquivocatedError, Judgement, judge_catalog, order_of
from samara.registry.publications.listing_rows import Described, Synced, described, release_size, sync_listings
from samara.registry.publications.mirrors import check_mirrors
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.tables import CatalogRow, EquivocationRow, NamespaceRow, PublisherRow
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.identity import identity_of
from samara.registry.trust.release import ProvenRelease, prove_listed
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3
from samara.schemas.envelope import MAX_JSON_MARKS
from samara.schemas.errors import IntegrityError, MalformedError, TrustError
from samara.schemas.metadata_bundle import MetadataBundle, pack_metadata, unpack_metadata
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication

MAX_EVIDENCE = 16  # pairs of documents against one publisher: one is proof enough, and who signs two may sign thousands
MAX_EVIDENCE_BYTES = 1 << 20  # with that much kept, nothing more is
_MARKS_OF_NAME = 40  # , [ { of a catalog's entry: a dozen, and four for each release that was withdrawn under it
_BARRED_TOLD = 100  # releases named in warnings
_LISTED_AT_ONCE = 2 << 20  # characters that are made searchable while others wait: about half a second
_PAUSE = 0.15  # seconds in between: who waits for an SQLite file looks every 0.1 s whether it is free
_TRIES = 4  # publications of one publisher at the same moment are rare, and each of them is judged in milliseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What this registry takes. `releases`, `stored_bytes`: of one publisher, all versions; `publishers`: in all.

    `listed`: names in one catalog; `read_bytes`: of manifests here that one publication makes the registry read again
    (None: no bound), the names beyond are told as missing. `policy`: where mirrors may lie; `resolve`: how their names
    are looked up; `aside`: around that, which may take seconds and holds nothing up.
    """

    claims: ClaimRules
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    releases: int = 10_000
    stored_bytes: int = 1 << 30
    publishers: int = 100_000
    listed: int = 1 << 20
    read_bytes: int | None = None
    resolve: Resolve = system_resolve
    aside: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """What came of a publication. `is_new`: its catalog was; `added`: releases that weren't here; `names`: all that
    belong to the publisher here; `missing`: paths of the catalog whose release isn't here yet.
    """

    identity: str
    root_version: int
    timestamp_version: int
    is_new: bool
    added: int
    listed: int
    changed: int
    names: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


class _OvertakenError(Exception):
    """Another publication came first."""


def accept(index: Index, publication: Publication, rules: Rules, *, now: datetime) -> Accepted:
    """Prove a publication and take it in. Raises PublicationRefusedError, MalformedError or StoreError."""
    identity = identity_of(publication.metadata.roots[0])
    if not may_publish(identity, rules.claims):
        raise PublicationRefusedError(
            Reason.NOT_LISTED, "this registry takes publications of listed publishers only", actual=identity,
            next_step="ask its operator to list you",
        )  # fmt: skip
    _require_few_values(publication, rules)
    for _ in range(_TRIES):
        before = index.listings.metadata(identity)
        try:
            judgement = judge_catalog(before, publication.metadata, now=now)
        except EquivocatedError as error:
            _keep_evidence(index.database, identity, error, now=now.timestamp())
            raise
        with index.database.read() as session:  # after the judgement: what it signs is still held against it
            _refuse_barred(session, identity)
        _require_few_names(judgement.state, rules)
        proven = _prove(publication, judgement.state)
        warnings = check_mirrors(
            [one.release for one in proven], rules.policy, resolve=rules.resolve, aside=rules.aside
        )  # fmt: skip
        try:
            return _commit(index.database, publication, rules, judgement, proven, before, warnings, now=now)
        except _OvertakenError:
            continue
    raise PublicationRefusedError(
        Reason.CONFLICT, "other publications of this publisher came first", next_step="publish again"
    )


def _prove(publication: Publication, state: CatalogState) -> tuple[ProvenRelease, ...]:
    """Every release by an entry of the catalog: as what a name means now, or as one that was withdrawn."""
    if not publication.releases:
        return ()
    entries = _by_manifest(state)
    proven = []
    seen: set[str] = set()
    for bundle in publication.releases:
        manifest = b3(bundle.envelope.payload)
        if manifest in seen:  # a thousand times the same compresses to nothing: it is proven once
            continue
        seen.add(manifest)
        entry = entries.get(manifest)
        if entry is None:
            raise PublicationRefusedError(
                Reason.UNLISTED, "a release that the catalog doesn't list", actual=manifest,
                next_step="publish what the catalog names, and nothing else",
            )  # fmt: skip
        try:
            proven.append(prove_listed(bundle, entry, state.chain))
        except (TrustError, IntegrityError) as error:
            raise PublicationRefusedError(
                Reason.UNPROVEN, error.what, expected=error.expected, actual=error.actual
            ) from None
    return tuple(proven)


def _require_few_values(publication: Publication, rules: Rules) -> None:
    """What takes time and memory is the number of JSON's values, and a million empty lists compress to nothing."""
    names = _marks(publication.metadata.targets)
    if names > rules.listed * _MARKS_OF_NAME:
        raise MalformedError(
            "catalog with too many values for its names", expected=f"≤ {rules.listed * _MARKS_OF_NAME}", actual=names
        )
    values = sum(_marks(bundle.envelope.payload) for bundle in publication.releases)
    if values > MAX_JSON_MARKS:
        raise MalformedError(
            "releases with too many values for one publication", expected=f"≤ {MAX_JSON_MARKS} of , [ {{",
            actual=values, next_step="send them in several publications of the same catalog",
        )  # fmt: skip


def _marks(data: bytes) -> int:
    return sum(map(data.count, (b",", b"[", b"{")))


def _require_few_names(state: CatalogState, rules: Rules) -> None:
    if len(state.catalog.entries) > rules.listed:
        raise PublicationRefusedError(
            Reason.QUOTA, "this registry lists no more names of one publisher", expected=f"≤ {rules.listed}",
            actual=len(state.catalog.entries), next_step="take some out of the catalog, or ask its operator",
        )  # fmt: skip


def _by_manifest(state: CatalogState) -> Mapping[str, CatalogEntry]:
    return {entry.manifest: entry for entry in state.catalog.entries.values()}


def _commit(
    database: Database,
    publication: Publication,
    rules: Rules,
    judgement: Judgement,
    proven: tuple[ProvenRelease, ...],
    before: MetadataBundle | None,
    warnings: tuple[str, ...],
    *,
    now: datetime,
) -> Accepted:
    state, moment = judgement.state, now.timestamp()
    identity = state.chain.identity
    root_version, timestamp_version = order_of(state.bundle)
    fresh = {one.release.digest: described(one.release) for one in proven}  # here, where it holds up nobody
    with database.write() as session:
        _refuse_barred(session, identity)
        publisher = session.scalar(select(PublisherRow).where(PublisherRow.identity == identity))
        row = None if publisher is None else session.get(CatalogRow, publisher.id)
        if (None if row is None else unpack_metadata(row.bundle)) != before:
            raise _OvertakenError
        if publisher is None:
            publisher = PublisherRow(identity=identity, name=_name(proven, identity), first_seen=moment)
            session.add(publisher)
            session.flush()
        if row is None:
            _require_room(session, rules)
            row = CatalogRow(publisher_id=publisher.id)
            session.add(row)
        if judgement.is_new:
            row.root_version, row.timestamp_version = root_version, timestamp_version
            row.bundle, row.accepted_at = pack_metadata(state.bundle), moment
        if proven:
            publisher.name = proven[-1].release.publisher_name
        counted = release_size(session, publisher.id)
        index_releases.add_all(session, map(_recorded, proven), now=moment)
        session.flush()
        count, size = release_size(session, publisher.id)
        if count > counted[0] and (count > rules.releases or size > rules.stored_bytes):
            raise PublicationRefusedError(
                Reason.QUOTA, "this registry keeps no more of one publisher",
                expected=f"≤ {rules.releases} releases of ≤ {rules.stored_bytes} bytes",
                actual=f"{count} releases of {size} bytes", next_step="ask its operator",
            )  # fmt: skip
        names = _name_it(session, publisher, publication, judgement, rules, now)
        synced = sync_listings(
            session, publisher, state.catalog, fresh, now=moment, read_bytes=rules.read_bytes, cost=_LISTED_AT_ONCE
        )  # fmt: skip
    synced = _list_the_rest(database, state, fresh, synced, rules, moment)
    return Accepted(
        identity=identity,
        root_version=root_version,
        timestamp_version=timestamp_version,
        is_new=judgement.is_new,
        added=count - counted[0],
        listed=synced.listed,
        changed=synced.changed,
        names=names,
        missing=synced.missing,
        warnings=(*warnings, *_told(synced.barred)),
    )


def _recorded(proven: ProvenRelease) -> index_releases.Recorded:
    torrents = {blob: torrent.canonical for blob, torrent in proven.torrents.items()}
    return index_releases.Recorded(proven.release, proven.envelope, torrents)


def _list_the_rest(
    database: Database, state: CatalogState, fresh: Mapping[str, Described], first: Synced, rules: Rules, moment: float
) -> Synced:  # fmt: skip
    """The names that were left for later, some at a time, so that others write in between. Ends early if another
    catalog of that publisher came meanwhile: whoever brought it lists what that one says.
    """
    done = first
    while done.later:
        _let_others()
        with database.write() as session:
            identity = state.chain.identity
            publisher = session.scalar(select(PublisherRow).where(PublisherRow.identity == identity))
            row = None if publisher is None else session.get(CatalogRow, publisher.id)
            if publisher is None or row is None or unpack_metadata(row.bundle) != state.bundle:
                break
            _refuse_barred(session, identity)
            left = None if rules.read_bytes is None else rules.read_bytes - done.read
            more = sync_listings(
                session, publisher, state.catalog, fresh, now=moment, read_bytes=left, cost=_LISTED_AT_ONCE
            )  # fmt: skip
        done = replace(more, changed=done.changed + more.changed, read=done.read + more.read)
    return done


def _let_others() -> None:
    time.sleep(_PAUSE)


def _refuse_barred(session: Session, identity: str) -> None:
    why = barred.why(session, barred.Kind.IDENTITY, identity)
    if why is not None:
        raise PublicationRefusedError(
            Reason.BARRED, f"the operator of this registry bars this publisher: {why}", actual=identity,
            next_step="if that is wrong, tell the operator",
        )  # fmt: skip


def _told(kept_out: Mapping[str, str]) -> tuple[str, ...]:
    shown = sorted(kept_out.items())[:_BARRED_TOLD]
    return tuple(f"{path} isn't listed: the operator of this registry bars it ({why})" for path, why in shown)


def _name(proven: tuple[ProvenRelease, ...], identity: str) -> str:
    return proven[-1].release.publisher_name if proven else identity[:8]


def _require_room(session: Session, rules: Rules) -> None:
    count = session.scalar(select(func.count()).select_from(CatalogRow)) or 0
    if count >= rules.publishers:
        raise PublicationRefusedError(
            Reason.QUOTA, "this registry has no room for another publisher", expected=f"at most {rules.publishers}",
            next_step="ask its operator",
        )  # fmt: skip


def _name_it(
    session: Session,
    publisher: PublisherRow,
    publication: Publication,
    judgement: Judgement,
    rules: Rules,
    now: datetime,
) -> tuple[str, ...]:
    """Give the publisher the names it claims, or that the operator lists for it; returns all that it has."""
    wanted = [name for name, identity in rules.claims.listed.items() if identity == publisher.identity]
    mine = [NamespaceRow.publisher_id == publisher.id]
    if publication.claim is not None:
        name = claimed_name(publication.claim)
        wanted.append(name)
        mine.append(skeleton_of(NamespaceRow.name) == skeleton(name))
    rows = session.execute(
        select(NamespaceRow.name, PublisherRow.identity)
        .join(PublisherRow, NamespaceRow.publisher_id == PublisherRow.id)
        .where(or_(*mine, NamespaceRow.name.in_(wanted)))
    )
    owned = {text_of(name): text_of(identity) for name, identity in rows}
    nobodys = barred.names(session)
    for grant in judge_claim(
        publication.claim, judgement.state.chain, rules.claims, owned, now=now, barred=nobodys
    ):  # fmt: skip
        if owned.get(grant.name) is None:
            session.add(_namespace(grant, publisher, now.timestamp()))
            owned[grant.name] = publisher.identity
    return tuple(sorted(name for name, identity in owned.items() if identity == publisher.identity))


def _namespace(grant: Grant, publisher: PublisherRow, moment: float) -> NamespaceRow:
    return NamespaceRow(name=grant.name, publisher_id=publisher.id, statement=grant.statement, claimed_at=moment)


def _keep_evidence(database: Database, identity: str, error: EquivocatedError, *, now: float) -> None:
    with database.write() as session:
        publisher_id = session.scalar(select(PublisherRow.id).where(PublisherRow.identity == identity))
        if publisher_id is None:
            return
        known = session.scalar(
            select(EquivocationRow.id).where(
                EquivocationRow.publisher_id == publisher_id, EquivocationRow.digest == error.digest
            )
        )
        kept, size = session.execute(
            select(
                func.count(),
                func.coalesce(func.sum(func.length(EquivocationRow.known) + func.length(EquivocationRow.offered)), 0),
            ).where(EquivocationRow.publisher_id == publisher_id)
        ).one()
        if known is None and (not kept or (kept < MAX_EVIDENCE and size < MAX_EVIDENCE_BYTES)):
            session.add(
                EquivocationRow(
                    publisher_id=publisher_id,
                    version=error.version,
                    digest=error.digest,
                    known=error.known,
                    offered=error.offered,
                    seen_at=now,
                )
            )
