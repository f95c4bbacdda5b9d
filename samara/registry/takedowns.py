"""What the operator of a registry takes away: listings, names, and what may not come back. Each act is one transaction
and one line in a journal.

    Takedowns(index).remove(…)        listings go; they come back with their publisher's next publication
    Takedowns(index).remove_name(…)   a name is free again
    Takedowns(index).bar(…)           the same, and it can't come back (`barred`)
    Takedowns(index).lift(…)          it may; what its publishers' catalogs here name is listed again

Works beside a registry that serves: everybody sees it with their next look. No bytes are touched: mirrored copies are
let go of by who keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import barred
from samara.registry.barred import Bar, Kind, Subject, bar_of, check_why, raw_value
from samara.registry.index_columns import bytes_of, digest_of, text_of
from samara.registry.index_database import Database
from samara.registry.publications.listing_rows import sync_listings
from samara.registry.tables import (
    BarRow,
    BlobRow,
    CatalogRow,
    FileRow,
    ListingRow,
    ModelRow,
    NamespaceRow,
    PublisherRow,
    ReleaseRow,
    TakedownRow,
)
from samara.registry.trust.catalogs import read_catalog
from samara.schemas.errors import NotFoundError, UsageError
from samara.schemas.metadata_bundle import unpack_metadata
from samara.schemas.references import is_identity, is_name

_AT_ONCE = 500  # values in one question: SQLite takes a limited number


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Some of what is listed: a publisher's, of one model, of one tag. `owner`: a name or an identity."""

    owner: str
    model: str | None = None
    tag: str | None = None

    def __str__(self) -> str:
        shown = self.owner if self.model is None else f"{self.owner}/{self.model}"
        return shown if self.tag is None else f"{shown}:{self.tag}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedName:
    """A listing as an operator looks at it. `owner`: its publisher's name here, None without one; `size`: bytes;
    `listed_at`: UTC epoch seconds; `withdrawn`: by its publisher.
    """

    identity: str
    owner: str | None
    model: str
    tag: str
    version: int
    size: int
    manifest: str
    listed_at: float
    withdrawn: bool

    @property
    def name(self) -> str:
        """What `remove` takes."""
        return f"{self.owner or self.identity}/{self.model}:{self.tag}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What an act did. `listings`: names that went, or came back; `owner`: whose the name was that went."""

    subject: str
    listings: tuple[str, ...] = ()
    owner: str | None = None
    changed: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """A line of the journal. `at`: UTC epoch seconds."""

    at: float
    act: str
    subject: str
    why: str | None


def parse_target(text: str) -> Target:
    """`NAME|IDENTITY[/model[:tag]]`. Raises UsageError."""
    owner, slash, rest = text.removeprefix("samara:").partition("/")
    model, colon, tag = rest.partition(":")
    fits = (is_identity(owner) or is_name(owner)) and (not slash or is_name(model)) and (not colon or is_name(tag))
    if not fits:
        raise UsageError("nothing that is listed", expected="NAME or IDENTITY[/model[:tag]]", actual=repr(text[:120]))
    return Target(owner=owner, model=model if slash else None, tag=tag if colon else None)


class Takedowns:
    """The operator's acts on one index. `now`: UTC epoch seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listed(self, target: Target | None = None, *, limit: int, offset: int = 0) -> tuple[ListedName, ...]:
        """What is listed, in the order in which it came, withdrawn ones too. Raises NotFoundError."""
        namespace = (
            select(NamespaceRow.name)
            .where(NamespaceRow.publisher_id == PublisherRow.id)
            .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
            .limit(1)
            .scalar_subquery()
        )
        with self._database.read() as session:
            rows = session.execute(
                select(
                    PublisherRow.identity, namespace, ModelRow.name, ListingRow.tag, ListingRow.version,
                    ListingRow.size, ReleaseRow.manifest_digest, ListingRow.listed_at, ListingRow.retracted,
                )
                .join(ModelRow, ListingRow.model_id == ModelRow.id)
                .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
                .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
                .where(*([] if target is None else _conditions(target, _publisher(session, target.owner).id)))
                .order_by(ListingRow.id)
                .limit(limit)
                .offset(offset)
            ).all()  # fmt: skip
        return tuple(
            ListedName(
                identity=text_of(identity),
                owner=owner,
                model=text_of(model),
                tag=text_of(tag),
                version=int(version),
                size=int(size),
                manifest=digest_of(manifest),
                listed_at=float(listed_at),
                withdrawn=retracted is not None,
            )
            for identity, owner, model, tag, version, size, manifest, listed_at, retracted in rows
        )

    def remove(self, target: Target, *, now: float, why: str | None = None) -> Taken:
        """List it no longer. Raises NotFoundError if it isn't listed."""
        told = None if why is None else check_why(why)
        with self._database.write() as session:
            publisher = _publisher(session, target.owner)
            gone = _unlist(session, _listings(session, *_conditions(target, publisher.id)))
            if not gone:
                raise NotFoundError(f"nothing of {target} is listed here", next_step="see: samara listed list")
            _note(session, "remove", str(target), told, now)
        return Taken(subject=str(target), listings=gone)

    def remove_name(self, name: str, *, now: float, why: str | None = None) -> Taken:
        """Take a name from whose it is: it may be claimed again. Raises NotFoundError if it is nobody's."""
        told = None if why is None else check_why(why)
        with self._database.write() as session:
            owner = _free(session, name)
            if owner is None:
                raise NotFoundError(f"the name {name[:64]!r} is nobody's here", next_step="see: samara listed list")
            _note(session, "remove-name", name, told, now)
        return Taken(subject=name, owner=owner)

    def bar(self, subject: Subject, why: str, *, now: float) -> Taken:
        """It goes, and doesn't come back until it is let. Barred again it gets another reason. Raises UsageError."""
        told = check_why(why)
        raw = raw_value(subject)
        with self._database.write() as session:
            found = session.scalar(select(BarRow).where(BarRow.kind == subject.kind.value, BarRow.value == raw))
            changed = found is None or found.why != told
            if found is None:
                session.add(BarRow(kind=subject.kind.value, value=raw, why=told, at=now))
            else:
                found.why = told
            owner = _free(session, subject.value) if subject.kind is Kind.NAME else None
            gone: tuple[str, ...] = ()
            if subject.kind is Kind.IDENTITY:
                gone = _unlist(session, _listings(session, PublisherRow.identity == subject.value))
            elif subject.kind is Kind.DIGEST:
                gone = _unlist(session, _with_digest(session, raw))
            if changed or gone or owner:
                _note(session, "bar", str(subject), told, now)
        return Taken(subject=str(subject), listings=gone, owner=owner, changed=changed)

    def lift(self, subject: Subject, *, now: float) -> Taken:
        """It may come back, and what its publishers' catalogs here name is listed again at once. A name isn't given
        back. Raises NotFoundError if it isn't barred.
        """
        raw = raw_value(subject)
        with self._database.write() as session:
            found = session.scalar(select(BarRow).where(BarRow.kind == subject.kind.value, BarRow.value == raw))
            if found is None:
                raise NotFoundError(f"{subject} isn't barred here", next_step="see: samara listed barred")
            told = found.why
            session.delete(found)
            session.flush()
            back: list[str] = []
            for publisher in _concerned(session, subject, raw):
                back += _list_again(session, publisher, now)
            _note(session, "unbar", str(subject), told, now)
        return Taken(subject=str(subject), listings=tuple(back))

    def bars(self) -> tuple[Bar, ...]:
        """All that is barred, the latest first."""
        with self._database.read() as session:
            return tuple(map(bar_of, session.scalars(select(BarRow).order_by(BarRow.id.desc()))))

    def journal(self, *, limit: int) -> tuple[Act, ...]:
        """What was done last, the latest first."""
        with self._database.read() as session:
            rows = session.scalars(select(TakedownRow).order_by(TakedownRow.id.desc()).limit(limit))
            return tuple(
                Act(at=float(row.at), act=text_of(row.act), subject=text_of(row.subject), why=row.why) for row in rows
            )


def _publisher(session: Session, owner: str) -> PublisherRow:
    if is_identity(owner):
        found = session.scalar(select(PublisherRow).where(PublisherRow.identity == owner))
    else:
        named = select(PublisherRow).join(NamespaceRow, NamespaceRow.publisher_id == PublisherRow.id)
        found = session.scalar(named.where(NamespaceRow.name == owner))
    if found is None:
        raise NotFoundError(f"no publisher {owner[:64]!r} here", next_step="see: samara listed list")
    return found


def _conditions(target: Target, publisher_id: int) -> list[sa.ColumnElement[bool]]:
    found = [ModelRow.publisher_id == publisher_id]
    if target.model is not None:
        found.append(ModelRow.name == target.model)
    if target.tag is not None:
        found.append(ListingRow.tag == target.tag)
    return found


def _listings(session: Session, *conditions: sa.ColumnElement[bool]) -> dict[int, str]:
    """Number → identity/model:tag."""
    rows = session.execute(
        select(ListingRow.id, PublisherRow.identity, ModelRow.name, ListingRow.tag)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(*conditions)
        .order_by(ListingRow.id)
    )
    return {
        int(number): f"{text_of(identity)}/{text_of(model)}:{text_of(tag)}" for number, identity, model, tag in rows
    }


def _with_digest(session: Session, raw: bytes) -> dict[int, str]:
    by_file = select(FileRow.release_id).join(BlobRow, FileRow.blob_id == BlobRow.id).where(BlobRow.b3 == raw)
    by_manifest = select(ReleaseRow.id).where(ReleaseRow.manifest_digest == raw)
    return _listings(session, sa.or_(ListingRow.release_id.in_(by_file), ListingRow.release_id.in_(by_manifest)))


def _unlist(session: Session, rows: Mapping[int, str]) -> tuple[str, ...]:
    numbers = list(rows)
    for start in range(0, len(numbers), _AT_ONCE):
        session.execute(sa.delete(ListingRow).where(ListingRow.id.in_(numbers[start : start + _AT_ONCE])))
    return tuple(rows.values())


def _free(session: Session, name: str) -> str | None:
    """Whose it was."""
    owner = session.scalar(
        select(PublisherRow.identity)
        .join(NamespaceRow, NamespaceRow.publisher_id == PublisherRow.id)
        .where(NamespaceRow.name == name)
    )
    session.execute(sa.delete(NamespaceRow).where(NamespaceRow.name == name))
    return None if owner is None else text_of(owner)


def _concerned(session: Session, subject: Subject, raw: bytes) -> list[PublisherRow]:
    """Whose listings a bar may have kept away."""
    found = select(PublisherRow).join(CatalogRow, CatalogRow.publisher_id == PublisherRow.id)
    if subject.kind is Kind.IDENTITY:
        return list(session.scalars(found.where(PublisherRow.identity == subject.value)))
    if subject.kind is Kind.NAME:
        return []
    releases = select(ModelRow.publisher_id).join(ReleaseRow, ReleaseRow.model_id == ModelRow.id)
    by_file = (
        releases.join(FileRow, FileRow.release_id == ReleaseRow.id)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == raw)
    )
    by_manifest = releases.where(ReleaseRow.manifest_digest == raw)
    return list(session.scalars(found.where(sa.or_(PublisherRow.id.in_(by_file), PublisherRow.id.in_(by_manifest)))))


def _list_again(session: Session, publisher: PublisherRow, now: float) -> list[str]:
    if barred.why(session, Kind.IDENTITY, text_of(publisher.identity)) is not None:
        return []
    data = session.scalars(select(CatalogRow.bundle).where(CatalogRow.publisher_id == publisher.id)).one()
    before = set(_listings(session, PublisherRow.id == publisher.id).values())
    catalog = read_catalog(text_of(publisher.identity), unpack_metadata(bytes_of(data)))
    sync_listings(session, publisher, catalog, {}, now=now)
    session.flush()
    return [name for name in _listings(session, PublisherRow.id == publisher.id).values() if name not in before]


def _note(session: Session, act: str, subject: str, why: str | None, now: float) -> None:
    session.add(TakedownRow(at=now, act=act, subject=subject, why=why))
