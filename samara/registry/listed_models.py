"""What a publisher's names mean now, and which releases are kept here. Queries of `samara.registry.listings` on rows.

Facts that people choose by are the publisher's words, out of its signed manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import barred
from samara.registry.index_columns import digest_of, text_of
from samara.registry.listed_publishers import Owner
from samara.registry.tables import ListingRow, ModelRow, PublisherRow, ReleaseRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What one name means by its publisher's current catalog. `size`: bytes of all files; `listed_at`: UTC epoch
    seconds when it came to mean that; `retracted`: why it was withdrawn.
    """

    owner: Owner
    model: str
    tag: str
    manifest: str
    version: int
    created: str
    license: str | None
    description: str | None
    architecture: str | None
    quantisation: str | None
    parameters: int | None
    context_length: int | None
    has_chat_template: bool
    size: int
    retracted: str | None
    listed_at: float

    @property
    def commit(self) -> str:
        """40 hex digits that stand for this very release where a commit is expected."""
        return self.manifest[3:43]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRelease:
    """A release that this registry keeps, current or not."""

    manifest: str
    tag: str
    version: int
    created: str


def _listings(session: Session, owner: Owner, *conditions: sa.ColumnElement[bool]) -> tuple[Listing, ...]:
    """What names of a publisher mean, the newest first."""
    rows = session.execute(
        listing_columns()
        .where(PublisherRow.identity == owner.identity, *conditions)
        .order_by(ListingRow.version.desc(), ListingRow.tag)
    )
    return tuple(listing_of(owner, row, model, digest, created) for row, model, digest, created in rows)


def listing(session: Session, owner: Owner, model: str, tag: str) -> Listing | None:
    """See `Listings.listing`."""
    found = _listings(session, owner, ModelRow.name == model, ListingRow.tag == tag)
    if not found:
        _say_if_barred(session, owner, model, tag)
    return next(iter(found), None)


def model(session: Session, owner: Owner, name: str) -> tuple[Listing, ...]:
    """See `Listings.model`."""
    found = _listings(session, owner, ModelRow.name == name)
    if not found:
        _say_if_barred(session, owner, name)
    return found


def _say_if_barred(session: Session, owner: Owner, model: str, tag: str | None = None) -> None:
    why = barred.why_no_model(session, owner.identity, model, tag)
    if why is not None:
        raise barred.BarredError(f"{owner.slug}/{model}" + ("" if tag is None else f":{tag}"), why)


def count(session: Session) -> int:
    """See `Listings.count`."""
    return session.scalar(select(sa.func.count()).select_from(ListingRow)) or 0


def history(session: Session, owner: Owner, model: str, *, barred_too: bool) -> tuple[KnownRelease, ...]:
    """See `Listings.history`."""
    rows = session.execute(
        select(
            ReleaseRow.id, ModelRow.publisher_id, ReleaseRow.manifest_digest, ReleaseRow.tag, ReleaseRow.version,
            ReleaseRow.created,
        )
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == owner.identity, ModelRow.name == model)
        .order_by(ReleaseRow.version.desc(), ReleaseRow.id.desc())
    ).all()  # fmt: skip
    kept_out = barred.releases_of(session, rows[0].publisher_id) if rows and not barred_too else {}
    return tuple(
        KnownRelease(manifest=digest_of(digest), tag=text_of(tag), version=int(version), created=text_of(at))
        for number, _, digest, tag, version, at in rows
        if number not in kept_out
    )


def listing_columns() -> sa.Select[ListingRow, str, bytes, str]:
    """For this room: what `listing_of` wants, over listings, models, publishers and releases."""
    return (
        select(ListingRow, ModelRow.name, ReleaseRow.manifest_digest, ReleaseRow.created)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
    )


def listing_of(owner: Owner, row: ListingRow, model: str, digest: bytes, created: str) -> Listing:
    """For this room: a row as a value."""
    return Listing(
        owner=owner,
        model=text_of(model),
        tag=text_of(row.tag),
        manifest=digest_of(digest),
        version=int(row.version),
        created=text_of(created),
        license=row.license,
        description=row.description,
        architecture=row.architecture,
        quantisation=row.quantisation,
        parameters=row.parameters,
        context_length=row.context_length,
        has_chat_template=row.has_chat_template,
        size=int(row.size),
        retracted=row.retracted,
        listed_at=float(row.listed_at),
    )
