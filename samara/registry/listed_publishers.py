"""Who publishes here: names, the newest catalog of each, what speaks against it. Queries of `samara.registry.listings`
on rows; nothing is proven here.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import barred
from samara.registry.index_columns import bytes_of, text_of
from samara.registry.lookalikes import skeleton, skeleton_of
from samara.registry.tables import (
    CatalogRow,
    EquivocationRow,
    ListingRow,
    ModelRow,
    NamespaceRow,
    PublisherRow,
    TakedownRow,
)
from samara.schemas.metadata_bundle import MetadataBundle, unpack_metadata
from samara.schemas.references import is_identity


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A publisher as this registry knows it. `name`: what it calls itself, proven by nothing; `namespace`: the name
    that is its own at this registry, the first one if it has several.
    """

    identity: str
    name: str
    namespace: str | None

    @property
    def slug(self) -> str:
        """What stands for it in URLs here."""
        return self.namespace or self.identity


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivocation:
    """Evidence against a publisher, or whoever has its key: two signed timestamps of one version."""

    version: int
    known: bytes
    offered: bytes
    seen_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogStamp:
    """Which catalog of a publisher is the newest here, and when it came (UTC epoch seconds)."""

    root_version: int
    timestamp_version: int
    accepted_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelNames:
    """A model that a publisher lists, and how many names it has, withdrawn ones too."""

    model: str
    names: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnersModels:
    """Some of a publisher's models by name; `total`: all of them."""

    models: tuple[ModelNames, ...]
    total: int


def owner(session: Session, name: str, *, barred_too: bool = False) -> Owner | None:
    """See `Listings.owner`."""
    found = select(PublisherRow).join(CatalogRow, CatalogRow.publisher_id == PublisherRow.id)
    if is_identity(name):
        row = session.scalar(found.where(PublisherRow.identity == name))
    else:
        named = found.join(NamespaceRow, NamespaceRow.publisher_id == PublisherRow.id)
        row = session.scalar(named.where(NamespaceRow.name == name))
    identity = name if row is None else text_of(row.identity)
    if not barred_too and is_identity(identity):
        why = barred.why(session, barred.Kind.IDENTITY, identity)
        if why is not None:
            raise barred.BarredError(f"what {name} publishes", why)
    return None if row is None else _owner(session, row)


def owners(session: Session, *, limit: int | None, offset: int) -> tuple[Owner, ...]:
    """See `Listings.owners`."""
    namespace = (
        select(NamespaceRow.name)
        .where(NamespaceRow.publisher_id == PublisherRow.id)
        .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
        .limit(1)
        .scalar_subquery()
    )
    rows = session.execute(
        select(PublisherRow.identity, PublisherRow.name, namespace)
        .join(CatalogRow, CatalogRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity.not_in(barred.identities(session)))
        .order_by(PublisherRow.id)
        .limit(limit)
        .offset(offset)
    )
    return tuple(Owner(identity=text_of(one), name=text_of(name), namespace=said) for one, name, said in rows)


def owners_count(session: Session) -> int:
    """See `Listings.owners_count`."""
    found = (
        select(sa.func.count())
        .select_from(CatalogRow)
        .join(PublisherRow, CatalogRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity.not_in(barred.identities(session)))
    )
    return session.scalar(found) or 0


def namespace_owner(session: Session, name: str) -> str | None:
    """See `Listings.namespace_owner`."""
    return session.scalar(
        select(PublisherRow.identity)
        .join(NamespaceRow, NamespaceRow.publisher_id == PublisherRow.id)
        .where(NamespaceRow.name == name)
    )


def is_free(session: Session, name: str, identity: str) -> bool:
    """See `Listings.is_free`."""
    shape = skeleton(name)
    if any(skeleton(one) == shape for one in barred.names(session)):
        return False
    rows = session.execute(
        select(NamespaceRow.name, PublisherRow.identity)
        .join(PublisherRow, NamespaceRow.publisher_id == PublisherRow.id)
        .where(skeleton_of(NamespaceRow.name) == shape)
    )
    return all(text_of(taken) != name and text_of(owner) == identity for taken, owner in rows)


def namespace_statement(session: Session, name: str) -> bytes | None:
    """See `Listings.namespace_statement`."""
    return session.scalar(select(NamespaceRow.statement).where(NamespaceRow.name == name))


def metadata(session: Session, identity: str) -> MetadataBundle | None:
    """See `Listings.metadata`."""
    data = session.scalar(
        select(CatalogRow.bundle)
        .join(PublisherRow, CatalogRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
    )
    return None if data is None else unpack_metadata(bytes_of(data))


def equivocations(session: Session, identity: str) -> tuple[Equivocation, ...]:
    """See `Listings.equivocations`."""
    rows = session.scalars(
        select(EquivocationRow)
        .join(PublisherRow, EquivocationRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
        .order_by(EquivocationRow.id.desc())
    )
    return tuple(
        Equivocation(
            version=int(row.version),
            known=bytes_of(row.known),
            offered=bytes_of(row.offered),
            seen_at=float(row.seen_at),
        )
        for row in rows
    )


def owners_models(session: Session, identity: str, *, limit: int, offset: int) -> OwnersModels:
    """The models of a publisher in the order of their names, so many from the `offset`-th on."""
    listed = (
        select(ModelRow.name, sa.func.count().label("names"))
        .join(ListingRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
        .group_by(ModelRow.id, ModelRow.name)
    )
    total = session.scalar(select(sa.func.count()).select_from(listed.subquery())) or 0
    rows = session.execute(listed.order_by(ModelRow.name).limit(limit).offset(offset))
    return OwnersModels(
        models=tuple(ModelNames(model=text_of(name), names=names) for name, names in rows), total=total
    )  # fmt: skip


def namespaces(session: Session, identity: str) -> tuple[str, ...]:
    """Every name at this registry that is a publisher's own, the first one first."""
    found = session.scalars(
        select(NamespaceRow.name)
        .join(PublisherRow, NamespaceRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
        .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
    )
    return tuple(map(text_of, found))


def catalog_stamp(session: Session, identity: str) -> CatalogStamp | None:
    """Which catalog of a publisher is the newest here."""
    row = session.execute(
        select(CatalogRow.root_version, CatalogRow.timestamp_version, CatalogRow.accepted_at)
        .join(PublisherRow, CatalogRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity)
    ).first()
    if row is None:
        return None
    return CatalogStamp(root_version=int(row[0]), timestamp_version=int(row[1]), accepted_at=float(row[2]))


def state(session: Session) -> tuple[int, int, float]:
    """Another value whenever a publisher's catalog here is another one, or the operator took something down. Cheap."""
    row = session.execute(
        select(
            sa.func.count(), sa.func.sum(CatalogRow.timestamp_version), sa.func.max(CatalogRow.accepted_at)
        ).select_from(CatalogRow)
    ).one()  # fmt: skip
    acts = session.scalar(select(sa.func.max(TakedownRow.id))) or 0  # neither number ever gets smaller
    return int(row[0]) + int(acts), int(row[1] or 0), float(row[2] or 0.0)


def _owner(session: Session, row: PublisherRow) -> Owner:
    namespace = session.scalar(
        select(NamespaceRow.name)
        .where(NamespaceRow.publisher_id == row.id)
        .order_by(NamespaceRow.claimed_at, NamespaceRow.name)
        .limit(1)
    )
    return Owner(identity=text_of(row.identity), name=text_of(row.name), namespace=namespace)
