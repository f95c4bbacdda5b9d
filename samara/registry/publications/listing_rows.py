"""What a catalog's names mean, as rows to search and show: kept equal to the catalog accepted last, within the
transaction that accepts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import barred
from samara.registry.index_columns import bytes_of, digest_of, text_of
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.tables import FileRow, ListingRow, ModelRow, PublisherRow, ReleaseRow, TorrentRow
from samara.schemas.catalog import Catalog, CatalogEntry
from samara.schemas.digests import b3, b3_raw
from samara.schemas.errors import MalformedError
from samara.schemas.manifest import Release, parse_manifest

MAX_WORDS = 16_384  # characters that are searched in


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """`listed`: names that mean something here now; `changed`: of these, new or other than before; `missing`: names
    whose release isn't here, or wasn't looked at this time; `barred`: name → why the operator won't have its release.
    """

    listed: int
    changed: int
    missing: tuple[str, ...]
    barred: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    id: int
    manifest: str
    retracted: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """A release that is here. `size`: bytes of its manifest."""

    id: int
    model: str
    model_id: int
    version: int
    size: int


def sync_listings(
    session: Session,
    publisher: PublisherRow,
    catalog: Catalog,
    fresh: Mapping[str, Release],
    *,
    now: float,
    read_bytes: int | None = None,
) -> Synced:
    """Make the rows of `publisher` say what `catalog` does. `fresh`: releases by manifest that are parsed already;
    `read_bytes`: so much of manifests that were here before is read, what is beyond counts as missing.

    Raises PublicationRefusedError for a name under which the catalog lists a release of another model or version.
    """
    before = _rows(session, publisher.id)
    known = _known(session, publisher.id)
    kept_out = barred.releases_of(session, publisher.id)
    missing: list[str] = []
    not_listed: dict[str, str] = {}
    changed = listed = 0
    read = 0 if read_bytes is None else -read_bytes
    last: tuple[str, Release] | None = None
    # by manifest: each is parsed once, however many names mean it, and one is held at a time
    for path, entry in sorted(catalog.entries.items(), key=lambda one: one[1].manifest):
        here = known.get(entry.manifest)
        if here is None:
            missing.append(path)
            continue
        _require_itself(entry, here)
        if here.id in kept_out:  # a row that is there goes with those that the catalog names no more
            not_listed[path] = kept_out[here.id]
            continue
        row = before.pop(path, None)
        if row is not None and (row.manifest, row.retracted) == (entry.manifest, entry.retracted):
            listed += 1
            continue
        if entry.manifest in fresh:
            last = (entry.manifest, fresh[entry.manifest])
        elif (row is None or row.manifest != entry.manifest) and (last is None or last[0] != entry.manifest):
            read += here.size
            if read_bytes is not None and read > 0:
                missing.append(path)
                if row is not None:
                    before[path] = row  # it means something else now: gone until the release is sent
                continue
            last = (entry.manifest, _stored(session, here.id, entry))
        listed += 1
        changed += 1
        if row is not None and row.manifest == entry.manifest:
            session.execute(
                sa.update(ListingRow).where(ListingRow.id == row.id).values(retracted=entry.retracted, listed_at=now)
            )
            continue
        if row is not None:
            session.execute(sa.delete(ListingRow).where(ListingRow.id == row.id))
        assert last is not None
        session.execute(sa.insert(ListingRow), [_values(entry, last[1], here.model_id, here.id, now)])
    gone = [row.id for row in before.values()]
    for start in range(0, len(gone), 500):
        session.execute(sa.delete(ListingRow).where(ListingRow.id.in_(gone[start : start + 500])))
    return Synced(listed=listed, changed=changed + len(gone), missing=tuple(sorted(missing)), barred=not_listed)


def words_of(release: Release, tag: str) -> str:
    """Everything about a release that somebody may search for, as one text."""
    facts = release.facts
    said = (
        release.publisher_name,
        release.model,
        tag,
        release.description or "",
        release.license or "",
        release.base_model or "",
        "" if release.upstream is None else release.upstream.repo,
        "" if facts is None else f"{facts.architecture} {facts.quantisation}",
        " ".join(file.path for file in release.files[:100]),
    )
    return "\n".join(one.replace("\0", " ") for one in said)[:MAX_WORDS]


def _values(entry: CatalogEntry, release: Release, model_id: int, release_id: int, now: float) -> dict[str, object]:
    facts = release.facts
    return {
        "model_id": model_id,
        "release_id": release_id,
        "tag": entry.tag,
        "version": entry.version,
        "retracted": entry.retracted,
        "license": _clean(release.license),
        "description": _clean(release.description),
        "architecture": None if facts is None else _clean(facts.architecture),
        "quantisation": None if facts is None else _clean(facts.quantisation),
        "parameters": None if facts is None else facts.parameter_count,
        "context_length": None if facts is None else facts.context_length,
        "has_chat_template": facts is not None and bool(facts.has_chat_template),
        "size": release.size,
        "words": words_of(release, entry.tag),
        "listed_at": now,
    }


def _clean(text: str | None) -> str | None:
    """PostgreSQL has no zero byte in text."""
    return None if text is None else text.replace("\0", " ")


def _rows(session: Session, publisher_id: int) -> dict[str, _Row]:
    rows = session.execute(
        select(ListingRow.id, ModelRow.name, ListingRow.tag, ReleaseRow.manifest_digest, ListingRow.retracted)
        .join(ModelRow, ListingRow.model_id == ModelRow.id)
        .join(ReleaseRow, ListingRow.release_id == ReleaseRow.id)
        .where(ModelRow.publisher_id == publisher_id)
    )
    return {
        f"{text_of(model)}/{text_of(tag)}": _Row(id=int(number), manifest=digest_of(digest), retracted=retracted)
        for number, model, tag, digest, retracted in rows
    }


def _known(session: Session, publisher_id: int) -> dict[str, _Known]:
    rows = session.execute(
        select(
            ReleaseRow.manifest_digest,
            ReleaseRow.id,
            ModelRow.name,
            ModelRow.id,
            ReleaseRow.version,
            sa.func.length(ReleaseRow.payload),
        )
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .where(ModelRow.publisher_id == publisher_id)
    )
    return {
        digest_of(digest): _Known(
            id=int(number), model=text_of(model), model_id=int(model_id), version=int(version), size=int(size)
        )
        for digest, number, model, model_id, version, size in rows
    }


def _require_itself(entry: CatalogEntry, here: _Known) -> None:
    """A release may have several tags, but no other model and no other version than its manifest says."""
    if (here.model, here.version) != (entry.model, entry.version):
        raise PublicationRefusedError(
            Reason.UNPROVEN, f"the catalog's {entry.path} is another release",
            expected=f"{entry.model} version {entry.version}", actual=f"{here.model} version {here.version}",
            next_step="publish a catalog without that name",
        )  # fmt: skip


def _stored(session: Session, release_id: int, entry: CatalogEntry) -> Release:
    """A release that was here before, if it still is what the catalog names."""
    payload = bytes_of(session.scalars(select(ReleaseRow.payload).where(ReleaseRow.id == release_id)).one())
    if b3(payload) != entry.manifest:
        raise MalformedError(f"the manifest of {entry.path} in the index is damaged", next_step="run: samara audit")
    return parse_manifest(payload)


def release_size(session: Session, publisher_id: int) -> tuple[int, int]:
    """(releases, bytes of their manifests and torrents) of one publisher."""
    mine = (
        select(ReleaseRow.id)
        .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
        .where(ModelRow.publisher_id == publisher_id)
    )
    count, manifests = session.execute(
        select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(ReleaseRow.payload)), 0))
        .select_from(ReleaseRow)
        .where(ReleaseRow.id.in_(mine))
    ).one()
    named = select(FileRow.torrent_id).where(FileRow.release_id.in_(mine))
    torrents = session.scalar(
        select(sa.func.coalesce(sa.func.sum(sa.func.length(TorrentRow.data)), 0)).where(TorrentRow.id.in_(named))
    )
    return int(count), int(manifests) + int(torrents or 0)


def row_of(session: Session, manifest: str) -> int | None:
    """The number of a release."""
    return session.scalar(select(ReleaseRow.id).where(ReleaseRow.manifest_digest == b3_raw(manifest)))
