"""A model as a repository with many tags, for the Hub's clients: its newest tags, one of them, one release by the first
digits of its manifest. Queries of `samara.registry.listings` on rows; each reads few and small ones, however many
releases, and however long descriptions, the model has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import select

from samara.registry.index_columns import digest_of, text_of
from samara.registry.tables import ListingRow, ModelRow, PublisherRow, ReleaseRow
from samara.schemas.digests import b3_raw

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """What one tag of a model means now: a listing without what people read. `retracted`: why it was withdrawn."""

    tag: str
    manifest: str
    version: int
    created: str
    license: str | None
    architecture: str | None
    quantisation: str | None
    parameters: int | None
    context_length: int | None
    retracted: str | None

    @property
    def commit(self) -> str:
        """40 hex digits that stand for this very release where a commit is expected."""
        return self.manifest[3:43]


def tags(
    session: Session,
    identity: str,
    model: str,
    *,
    limit: int,
    current: bool,
    named: Collection[str] | None,
    manifests: Collection[str] | None,
) -> tuple[Tag, ...]:
    """See `Listings.tags`."""
    chosen = (
        select(ListingRow.id)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity, ModelRow.name == model)
        .order_by(ListingRow.version.desc(), ListingRow.tag)
        .limit(limit)
    )
    if current:
        chosen = chosen.where(ListingRow.retracted.is_(None))
    if named is not None:
        chosen = chosen.where(ListingRow.tag.in_(named))
    if manifests is not None:
        digests = list(map(b3_raw, manifests))
        chosen = chosen.join(ReleaseRow, ListingRow.release_id == ReleaseRow.id).where(
            ReleaseRow.manifest_digest.in_(digests)
        )
    # in two steps: what comes after a long description in a row costs a walk over it, so only the chosen rows pay
    wanted = (
        select(
            ListingRow.tag,
            ReleaseRow.manifest_digest,
            ListingRow.version,
            ReleaseRow.created,
            ListingRow.license,
            ListingRow.architecture,
            ListingRow.quantisation,
            ListingRow.parameters,
            ListingRow.context_length,
            ListingRow.retracted,
        )
        .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
        .where(ListingRow.id.in_(chosen))
        .order_by(ListingRow.version.desc(), ListingRow.tag)
    )
    return tuple(
        Tag(
            tag=text_of(tag),
            manifest=digest_of(digest),
            version=int(version),
            created=text_of(created),
            license=licence,
            architecture=architecture,
            quantisation=quantisation,
            parameters=parameters,
            context_length=context_length,
            retracted=retracted,
        )
        for (
            tag,
            digest,
            version,
            created,
            licence,
            architecture,
            quantisation,
            parameters,
            context_length,
            retracted,
        ) in session.execute(wanted)
    )


def kept_release(session: Session, identity: str, model: str, first: bytes) -> str | None:
    """See `Listings.kept_release`."""
    digest = session.scalar(
        select(ReleaseRow.manifest_digest)
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(
            PublisherRow.identity == identity,
            ModelRow.name == model,
            sa.between(ReleaseRow.manifest_digest, first.ljust(32, b"\0"), first.ljust(32, b"\xff")),
        )
        .limit(1)
    )
    return None if digest is None else digest_of(digest)
