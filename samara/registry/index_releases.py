"""Releases and their names in the index: signed manifests byte for byte, the torrents they name, versions and tags.

Queries of `samara.registry.index` on rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import index_blobs
from samara.registry.index_columns import bytes_of, digest_of, text_of
from samara.registry.records import StoredRelease
from samara.registry.tables import BlobRow, FileRow, ModelRow, PublisherRow, ReleaseRow, TorrentRow
from samara.schemas.digests import b3_raw
from samara.schemas.envelope import MAX_SIGNATURES, Envelope, Signature
from samara.schemas.errors import StoreError
from samara.schemas.manifest import Release, ReleaseFile

_AT_ONCE = 500  # values in one question: SQLite takes a limited number
_BLOCKS_AT_ONCE = 50_000  # written together: some ten megabytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A release to be recorded, checked; `torrents`: b3 text of a blob → canonical .torrent bytes."""

    release: Release
    envelope: Envelope
    torrents: Mapping[str, bytes]


def add(
    session: Session,
    release: Release,
    envelope: Envelope,
    torrents: Mapping[str, bytes],
    *,
    now: float,
    must_be_newest: bool,
) -> None:
    """See `Index.add_release`."""
    digest = b3_raw(release.digest)
    found = session.scalar(select(ReleaseRow).where(ReleaseRow.manifest_digest == digest))
    if found is not None:
        _refresh(session, found, release, envelope, torrents)
        return
    if must_be_newest and release.version <= highest_version(session, release.identity, release.model):
        raise StoreError(
            f"another release of {release.model} was published as version {release.version} at the same time",
            next_step="run it again",
        )
    _add_new(session, [Recorded(release, envelope, torrents)], now=now)


def add_all(session: Session, releases: Iterable[Recorded], *, now: float) -> None:
    """The same for many, asked for and written many at a time: one publication may have thousands."""
    for group in _groups(releases):
        digests = [b3_raw(one.release.digest) for one in group]
        known: set[bytes] = set()
        for start in range(0, len(digests), _AT_ONCE):
            asked = ReleaseRow.manifest_digest.in_(digests[start : start + _AT_ONCE])
            known.update(map(bytes_of, session.scalars(select(ReleaseRow.manifest_digest).where(asked))))
        _add_new(session, [one for one, raw in zip(group, digests, strict=True) if raw not in known], now=now)
        for one, raw in zip(group, digests, strict=True):
            if raw in known:
                add(session, one.release, one.envelope, one.torrents, now=now, must_be_newest=False)


def _groups(releases: Iterable[Recorded]) -> Iterator[list[Recorded]]:
    """Some releases at a time, none twice: of no more blocks than fit in memory twice, and with one torrent a blob."""
    group: dict[str, Recorded] = {}
    torrents: dict[str, bytes] = {}
    blocks = 0
    for one in releases:
        blocks += sum(len(file.blocks) for file in one.release.files)
        is_other = any(torrents.get(b3, data) != data for b3, data in one.torrents.items())
        if group and (blocks > _BLOCKS_AT_ONCE or is_other or one.release.digest in group):
            yield list(group.values())
            group, torrents, blocks = {}, {}, sum(len(file.blocks) for file in one.release.files)
        group[one.release.digest] = one
        torrents |= one.torrents
    if group:
        yield list(group.values())


def _add_new(session: Session, releases: Sequence[Recorded], *, now: float) -> None:
    """Releases that aren't here."""
    if not releases:
        return
    models = _model_ids(session, [one.release for one in releases], now=now)
    rows = [
        {
            "model_id": models[one.release.identity, one.release.model],
            "tag": one.release.tag,
            "version": one.release.version,
            "manifest_digest": b3_raw(one.release.digest),
            "payload": one.envelope.payload,
            "signatures": _signatures_text(one.envelope.signatures),
            "created": one.release.created,
            "added_at": now,
        }
        for one in releases
    ]
    connection = session.connection()
    connection.execute(sa.insert(cast(sa.Table, ReleaseRow.__table__)), rows)
    numbers: dict[str, int] = {}
    digests = [b3_raw(one.release.digest) for one in releases]
    for start in range(0, len(digests), _AT_ONCE):
        asked = ReleaseRow.manifest_digest.in_(digests[start : start + _AT_ONCE])
        found = connection.execute(select(ReleaseRow.manifest_digest, ReleaseRow.id).where(asked))
        numbers |= {digest_of(digest): int(number) for digest, number in found}
    files = [file for one in releases for file in one.release.files]
    blobs = index_blobs.blobs_of_files(session, files)
    torrents = {b3: data for one in releases for b3, data in one.torrents.items()}
    named = [file for one in releases for file in one.release.files if file.b3 in one.torrents]
    held = _torrent_ids(session, blobs, named, torrents)
    connection.execute(
        sa.insert(cast(sa.Table, FileRow.__table__)),
        [
            {
                "release_id": numbers[one.release.digest],
                "blob_id": blobs[file.b3],
                "ordinal": ordinal,
                "path": file.path,
                "role": file.role,
                "torrent_id": held.get(file.b3) if file.torrent is not None and file.b3 in one.torrents else None,
            }
            for one in releases
            for ordinal, file in enumerate(one.release.files)
        ],
    )


def newest(session: Session, identity: str, model: str, tag: str) -> StoredRelease | None:
    """The release with the highest version under a tag; of two with one version the one that came later."""
    row = session.scalar(
        select(ReleaseRow)
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity, ModelRow.name == model, ReleaseRow.tag == tag)
        .order_by(ReleaseRow.version.desc(), ReleaseRow.id.desc())
        .limit(1)
    )
    return None if row is None else _stored(session, row)


def by_digest(session: Session, digest: str) -> StoredRelease | None:
    """A release by its manifest's digest."""
    row = session.scalar(select(ReleaseRow).where(ReleaseRow.manifest_digest == b3_raw(digest)))
    return None if row is None else _stored(session, row)


def every(session: Session) -> tuple[StoredRelease, ...]:
    """Every release, oldest first."""
    return tuple(_stored(session, row) for row in session.scalars(select(ReleaseRow).order_by(ReleaseRow.id)))


def manifests(session: Session) -> tuple[str, ...]:
    """The digests of every release's manifest, oldest first."""
    return tuple(map(digest_of, session.scalars(select(ReleaseRow.manifest_digest).order_by(ReleaseRow.id))))


def latest(session: Session) -> int:
    """The number of the release that was added last; 0 when there is none."""
    return session.scalar(select(sa.func.max(ReleaseRow.id))) or 0


def of_blob(session: Session, b3: str) -> tuple[StoredRelease, ...]:
    """Every release that has a file with these bytes, newest first."""
    rows = session.scalars(
        select(ReleaseRow)
        .join(FileRow, FileRow.release_id == ReleaseRow.id)
        .join(BlobRow, FileRow.blob_id == BlobRow.id)
        .where(BlobRow.b3 == b3_raw(b3))
        .order_by(ReleaseRow.version.desc(), ReleaseRow.id.desc())
    )
    return tuple(_stored(session, row) for row in rows)


def highest_version(session: Session, identity: str, model: str) -> int:
    """The highest version known of a model; 0 when there is none."""
    highest = session.scalar(
        select(sa.func.max(ReleaseRow.version))
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
        .where(PublisherRow.identity == identity, ModelRow.name == model)
    )
    return int(highest or 0)


def _refresh(
    session: Session, row: ReleaseRow, release: Release, envelope: Envelope, torrents: Mapping[str, bytes]
) -> None:
    """A release that is known gets what it lacked, and what was checked just now in place of what rotted."""
    row.payload = envelope.payload
    # the newly checked first: a publisher that replaced its keys signs what it published before again
    row.signatures = _signatures_text((*envelope.signatures, *_signatures_left(row)))
    known = session.scalars(select(FileRow).where(FileRow.release_id == row.id).order_by(FileRow.ordinal)).all()
    blobs = {file.b3: file_row.blob_id for file_row, file in zip(known, release.files, strict=True)}
    held = _torrent_ids(session, blobs, release.files, torrents)
    for file_row, file in zip(known, release.files, strict=True):
        if file.torrent is not None:
            file_row.torrent_id = held.get(file.b3, file_row.torrent_id)


def _model_ids(session: Session, releases: Sequence[Release], *, now: float) -> dict[tuple[str, str], int]:
    """(identity, model) → number of the model; made where there is none, as is its publisher."""
    found: dict[tuple[str, str], int] = {}
    names = {release.identity: release.publisher_name for release in reversed(releases)}
    for identity, name in names.items():
        publisher = session.scalar(select(PublisherRow).where(PublisherRow.identity == identity))
        if publisher is None:
            publisher = PublisherRow(identity=identity, name=name, first_seen=now)
            session.add(publisher)
        session.flush()
        models = list(dict.fromkeys(release.model for release in releases if release.identity == identity))
        known = _models_of(session, publisher.id, models)
        new = [model for model in models if model not in known]
        if new:
            rows = [{"publisher_id": publisher.id, "name": model} for model in new]
            session.connection().execute(sa.insert(cast(sa.Table, ModelRow.__table__)), rows)
            known |= _models_of(session, publisher.id, new)
        found |= {(identity, model): number for model, number in known.items()}
    return found


def _models_of(session: Session, publisher_id: int, names: Sequence[str]) -> dict[str, int]:
    """The numbers of a publisher's models with these names."""
    found: dict[str, int] = {}
    for start in range(0, len(names), _AT_ONCE):
        asked = (ModelRow.publisher_id == publisher_id, ModelRow.name.in_(names[start : start + _AT_ONCE]))
        rows = session.connection().execute(select(ModelRow.name, ModelRow.id).where(*asked))
        found |= {text_of(name): int(number) for name, number in rows}
    return found


def _torrent_ids(
    session: Session, blobs: Mapping[str, int], files: Sequence[ReleaseFile], torrents: Mapping[str, bytes]
) -> dict[str, int]:
    """`b3:…` → number of the torrent that these files name for it; made, or brought to what was checked just now."""
    wanted = {
        (blobs[file.b3], bytes.fromhex(file.torrent.v2)): file.b3
        for file in files
        if file.torrent is not None and file.b3 in torrents
    }
    numbers = sorted({blob_id for blob_id, _ in wanted})
    rows = [
        row
        for start in range(0, len(numbers), _AT_ONCE)
        for row in session.scalars(select(TorrentRow).where(TorrentRow.blob_id.in_(numbers[start : start + _AT_ONCE])))
    ]
    known = {(row.blob_id, bytes_of(row.v2)): row for row in rows}
    for key, b3 in wanted.items():
        if key not in known:
            known[key] = TorrentRow(blob_id=key[0], v2=key[1], data=torrents[b3])
            session.add(known[key])
        known[key].data = torrents[b3]
    session.flush()
    return {b3: known[key].id for key, b3 in wanted.items()}


def _stored(session: Session, row: ReleaseRow) -> StoredRelease:
    torrents = session.scalars(
        select(TorrentRow.data)
        .join(FileRow, FileRow.torrent_id == TorrentRow.id)
        .where(FileRow.release_id == row.id)
        .order_by(FileRow.ordinal)
    )
    return StoredRelease(
        manifest=digest_of(row.manifest_digest),
        envelope=Envelope(payload=bytes_of(row.payload), signatures=_signatures(row)),
        torrents=tuple(dict.fromkeys(map(bytes_of, torrents))),
    )


def _signatures(row: ReleaseRow) -> tuple[Signature, ...]:
    return tuple(Signature(keyid=text_of(k), sig=bytes.fromhex(s)) for k, s in json.loads(row.signatures))


def _signatures_left(row: ReleaseRow) -> tuple[Signature, ...]:
    """The same, for who is about to write them anew: none where they rotted."""
    try:
        return _signatures(row)
    except (ValueError, TypeError):
        return ()


def _signatures_text(signatures: Sequence[Signature]) -> str:
    """The first signature of each key, as many as an envelope may have."""
    first: dict[str, str] = {}
    for one in signatures:
        first.setdefault(one.keyid, one.sig.hex())
    return json.dumps(list(first.items())[:MAX_SIGNATURES])
