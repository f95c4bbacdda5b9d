"""Which blobs and torrents this registry lists: for who brings and keeps them, and for its tracker. Queries of
`samara.registry.listings` on rows.

Small rows for many blobs: torrents are read one by one, blocks not at all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_blobs import locations
from samara.registry.index_columns import bytes_of, digest_of, text_of
from samara.registry.records import Location
from samara.registry.tables import (
    BlobRow,
    FileRow,
    ListingRow,
    ModelRow,
    PublisherRow,
    ReleaseRow,
    TorrentRow,
)
from samara.schemas.digests import b3_raw

_AT_ONCE = 500  # values in one question: SQLite takes a limited number


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedBlob:
    """A blob of a listed release that travels by a swarm.

    `identity`: who listed it first; `listed_at`: UTC epoch seconds when it was last listed anew; `withdrawn`: every
    listing of it was. `places`: where it was recorded to lie.
    """

    b3: str
    size: int
    identity: str
    listed_at: float
    withdrawn: bool
    places: tuple[Location, ...] = ()


def listed_blobs(session: Session) -> tuple[ListedBlob, ...]:
    """Every one, in the order in which they became known."""
    places = locations(session)
    found: dict[int, ListedBlob] = {}
    rows = session.execute(
        select(
            BlobRow.id, BlobRow.b3, BlobRow.size, PublisherRow.identity, ListingRow.listed_at, ListingRow.retracted
        )
        .join(FileRow, FileRow.blob_id == BlobRow.id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(FileRow.torrent_id.is_not(None))
        .order_by(BlobRow.id, ListingRow.release_id, ListingRow.id)
    )  # fmt: skip
    for number, b3, size, identity, listed_at, retracted in rows:
        before = found.get(number)
        counts = retracted is None
        if before is None or (before.withdrawn and counts):
            digest = digest_of(b3)
            found[number] = ListedBlob(
                b3=digest,
                size=int(size),
                identity=text_of(identity),
                listed_at=float(listed_at),
                withdrawn=not counts,
                places=places.get(digest, ()),
            )
        elif counts and float(listed_at) > before.listed_at:
            found[number] = replace(before, listed_at=float(listed_at))
    return tuple(found.values())


def manifests_of(session: Session, b3: str) -> tuple[tuple[str, str], ...]:
    """(identity, manifest) of the listed releases, none withdrawn, that have a file with these bytes; who came first
    first.
    """
    rows = session.execute(
        select(PublisherRow.identity, ReleaseRow.manifest_digest)
        .join(ModelRow, ModelRow.publisher_id == PublisherRow.id)
        .join(ReleaseRow, ReleaseRow.model_id == ModelRow.id)
        .join(ListingRow, ListingRow.release_id == ReleaseRow.id)
        .join(FileRow, FileRow.release_id == ReleaseRow.id)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3), ListingRow.retracted.is_(None))
        .order_by(ReleaseRow.id)
    )
    return tuple(dict.fromkeys((text_of(identity), digest_of(digest)) for identity, digest in rows))


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedAs:
    """A file of a listed release. `tag`: under which it is listed; `made_as`: its manifest's own."""

    identity: str
    model: str
    tag: str
    made_as: str
    path: str


def listed_as(
    session: Session, blobs: Collection[str], identities: Collection[str]
) -> dict[str, tuple[ListedAs, ...]]:  # fmt: skip
    """As what these publishers list these blobs (`b3:…`), withdrawn releases left out; what none lists isn't told."""
    found: dict[str, list[ListedAs]] = {}
    asked = list(blobs) if identities else []
    for start in range(0, len(asked), _AT_ONCE):
        rows = session.execute(
            select(
                BlobRow.b3, PublisherRow.identity, ModelRow.name, ListingRow.tag, ReleaseRow.tag, FileRow.path
            )
            .join(FileRow, FileRow.blob_id == BlobRow.id)
            .join(ReleaseRow, FileRow.release_id == ReleaseRow.id)
            .join(ListingRow, ListingRow.release_id == ReleaseRow.id)
            .join(ModelRow, ListingRow.model_id == ModelRow.id)
            .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            .where(
                BlobRow.b3.in_(map(b3_raw, asked[start : start + _AT_ONCE])),
                PublisherRow.identity.in_(identities),
                ListingRow.retracted.is_(None),
            )
        )  # fmt: skip
        for b3, identity, model, tag, made_as, path in rows:
            found.setdefault(digest_of(b3), []).append(
                ListedAs(
                    identity=text_of(identity),
                    model=text_of(model),
                    tag=text_of(tag),
                    made_as=text_of(made_as),
                    path=text_of(path),
                )
            )
    return {b3: tuple(names) for b3, names in found.items()}


def descriptions_of(session: Session, b3: str) -> tuple[tuple[str, str, bytes | None], ...]:
    """(identity, manifest, v2 infohash) of the listed releases, none withdrawn, that have a file with these bytes; who
    came first first. None for bytes that travel inside the manifest.
    """
    rows = session.execute(
        select(PublisherRow.identity, ReleaseRow.manifest_digest, TorrentRow.v2)
        .join(ModelRow, ModelRow.publisher_id == PublisherRow.id)
        .join(ReleaseRow, ReleaseRow.model_id == ModelRow.id)
        .join(ListingRow, ListingRow.release_id == ReleaseRow.id)
        .join(FileRow, FileRow.release_id == ReleaseRow.id)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .join(TorrentRow, FileRow.torrent_id == TorrentRow.id, isouter=True)
        .where(BlobRow.b3 == b3_raw(b3), ListingRow.retracted.is_(None))
        .order_by(ReleaseRow.id, FileRow.ordinal)
    )
    found = {
        (text_of(identity), digest_of(digest)): None if v2 is None else bytes_of(v2) for identity, digest, v2 in rows
    }
    return tuple((identity, manifest, v2) for (identity, manifest), v2 in found.items())


def file_name(session: Session, b3: str, wanted: str | None) -> str | None:
    """The last part of a path that a listed release, not withdrawn, gives these bytes: `wanted` if any does; without,
    the first that one gave.
    """
    found = (
        select(FileRow.path)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3), ListingRow.retracted.is_(None))
    )
    if wanted is not None:
        found = found.where(sa.or_(FileRow.path == wanted, FileRow.path.endswith("/" + wanted, autoescape=True)))
    paths = session.scalars(found.order_by(FileRow.id))
    names = (text_of(path).rsplit("/", 1)[-1] for path in paths)
    return next((name for name in names if wanted in {None, name}), None)  # LIKE doesn't mind capitals


def listed_torrents(
    session: Session, identity: str | None = None, since: float = 0.0
) -> tuple[tuple[int, str, bytes], ...]:
    """(number, b3 text of the blob, v2 infohash) of every torrent that a listed release, not withdrawn, names.

    `identity`: of those of one publisher that came to be listed since then (UTC epoch seconds) only. In the order in
    which they became known.
    """
    named = _named()
    if identity is not None:
        named = (
            named.join(ModelRow, ListingRow.model_id == ModelRow.id)
            .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            .where(PublisherRow.identity == identity, ListingRow.listed_at >= since)
        )
    rows = session.execute(
        select(TorrentRow.id, BlobRow.b3, TorrentRow.v2)
        .join(BlobRow, TorrentRow.blob_id == BlobRow.id)
        .where(TorrentRow.id.in_(named))
        .order_by(TorrentRow.id)
    )
    return tuple((int(number), digest_of(b3), bytes_of(v2)) for number, b3, v2 in rows)


def torrent_data(session: Session, number: int) -> bytes | None:
    """The .torrent of a number of `listed_torrents`."""
    data = session.scalar(select(TorrentRow.data).where(TorrentRow.id == number))
    return None if data is None else bytes_of(data)


def torrent(session: Session, v2: str) -> bytes | None:
    """See `Listings.torrent`."""
    data = session.scalar(
        select(TorrentRow.data).where(TorrentRow.v2 == bytes.fromhex(v2), TorrentRow.id.in_(_named()))
    )
    return None if data is None else bytes_of(data)


def _named() -> sa.Select[int | None]:
    """The torrents that listed releases name, none withdrawn."""
    return (
        select(FileRow.torrent_id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .where(ListingRow.retracted.is_(None), FileRow.torrent_id.is_not(None))
    )
