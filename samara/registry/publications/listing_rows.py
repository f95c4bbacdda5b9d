"""What a catalog's names mean, as rows to search and show: kept equal to the catalog accepted last, within the
transaction that accepts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry import barred, search_words
from samara.registry.index_columns import bytes_of, digest_of, text_of
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.search_words import Searchable, searchable, words_of
from samara.registry.tables import FileRow, ListingRow, ModelRow, PublisherRow, ReleaseRow, TorrentRow
from samara.schemas.catalog import Catalog, CatalogEntry
from samara.schemas.digests import b3
from samara.schemas.errors import MalformedError
from samara.schemas.manifest import Release, parse_manifest

_LISTINGS = cast(sa.Table, ListingRow.__table__)
_TOLD = (
    sa.update(_LISTINGS)
    .where(_LISTINGS.c.id == sa.bindparam("number"))
    .values(retracted=sa.bindparam("why"), listed_at=sa.bindparam("now"))
)

MAX_WORDS = 16_384  # characters that are searched in
_ROWS_AT_ONCE = 100  # handed to the database: 24 kB each at most
_NUMBERS_AT_ONCE = 500  # values in one question: SQLite takes a limited number
_COST_OF_ROW = 256  # of one without words, in characters of words


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """A release, and what is searched for in it whatever its tag is: words of `search_words`."""

    release: Release
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """`listed`: names that mean something here now; `changed`: of these, new or other than before; `missing`: names
    whose release isn't here, or wasn't looked at this time; `barred`: name → why the operator won't have its release;
    `later`: how many names were left for the next time; `read`: bytes of manifests that were read.
    """

    listed: int
    changed: int
    missing: tuple[str, ...]
    barred: Mapping[str, str] = field(default_factory=dict)
    later: int = 0
    read: int = 0


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What makes rows say what a catalog does. `kept`: names whose rows say so; `told`: rows to be changed, and why
    they are withdrawn now; `gone`: rows to be removed; `replaced`: of these the names that mean something else now;
    `new`: names that have no row, by manifest; `missing`, `barred`: see `Synced`.
    """

    kept: int
    told: dict[int, str | None]
    gone: list[int]
    replaced: set[str]
    new: list[CatalogEntry]
    missing: list[str]
    barred: dict[str, str]


def described(release: Release) -> Described:
    """A release, ready to be listed. Takes as long as it has words: not to be done while others wait."""
    return Described(release=release, words=searchable(_text(release)))


def sync_listings(
    session: Session,
    publisher: PublisherRow,
    catalog: Catalog,
    fresh: Mapping[str, Described],
    *,
    now: float,
    read_bytes: int | None = None,
    cost: int | None = None,
) -> Synced:
    """Make the rows of `publisher` say what `catalog` does. `fresh`: releases by manifest that are parsed already;
    `read_bytes`: so much of manifests that were here before is read, what is beyond counts as missing; `cost`: about so
    many characters are made searchable (a megabyte takes some tenths of a second), and what is beyond isn't listed
    until the next time. Nothing that means something else by now stays listed.

    Raises PublicationRefusedError for a name under which the catalog lists a release of another model or version.
    """
    known = _known(session, publisher.id)
    plan = _plan(catalog, _rows(session, publisher.id), known, barred.releases_of(session, publisher.id))
    connection = session.connection()
    for start in range(0, len(plan.gone), _NUMBERS_AT_ONCE):
        numbers = plan.gone[start : start + _NUMBERS_AT_ONCE]
        connection.execute(sa.delete(_LISTINGS).where(_LISTINGS.c.id.in_(numbers)))
    if plan.told:
        told = [{"number": number, "why": why, "now": now} for number, why in plan.told.items()]
        connection.execute(_TOLD, told)
    missing, rows = plan.missing, list[dict[str, object]]()
    added = again = later = read = spent = 0
    last: tuple[str, Described] | None = None
    for entry in plan.new:  # by manifest: each is parsed once, however many names mean it, and one is held at a time
        here = known[entry.manifest]
        if cost is not None and spent >= cost:
            later += 1
            again += entry.path in plan.replaced  # counted when it comes back
            continue
        if entry.manifest in fresh:
            last = (entry.manifest, fresh[entry.manifest])
        elif last is None or last[0] != entry.manifest:
            if read_bytes is not None and read + here.size > read_bytes:
                missing.append(entry.path)
                continue
            read += here.size
            spent += here.size // 4  # parsing it
            last = (entry.manifest, described(_stored(session, here.id, entry)))
        rows.append(_values(entry, last[1], here.model_id, here.id, now))
        spent += _COST_OF_ROW + len(last[1].words)
        added += 1
        again += entry.path in plan.replaced
        if len(rows) == _ROWS_AT_ONCE:
            connection.execute(sa.insert(_LISTINGS), rows)
            rows = []
    if rows:
        connection.execute(sa.insert(_LISTINGS), rows)
    return Synced(
        listed=plan.kept + len(plan.told) + added,
        changed=len(plan.told) + len(plan.gone) + added - again,
        missing=tuple(sorted(missing)),
        barred=plan.barred,
        later=later,
        read=read,
    )


def _plan(
    catalog: Catalog, before: dict[str, _Row], known: Mapping[str, _Known], kept_out: Mapping[int, str]
) -> _Plan:  # fmt: skip
    """What is to be done. Uses `before` (by name) up."""
    plan = _Plan(kept=0, told={}, gone=[], replaced=set(), new=[], missing=[], barred={})
    kept = 0
    for path, entry in sorted(catalog.entries.items(), key=lambda one: one[1].manifest):
        here = known.get(entry.manifest)
        if here is None:
            plan.missing.append(path)
            continue
        _require_itself(entry, here)
        if here.id in kept_out:  # a row that is there goes with those that the catalog names no more
            plan.barred[path] = kept_out[here.id]
            continue
        row = before.get(path)
        if row is None or row.manifest != entry.manifest:
            plan.new.append(entry)
            if row is not None:
                plan.replaced.add(path)
            continue
        del before[path]
        if row.retracted == entry.retracted:
            kept += 1
        else:
            plan.told[row.id] = entry.retracted
    plan.gone.extend(row.id for row in before.values())
    return replace(plan, kept=kept)


def _text(release: Release) -> str:
    """Everything about a release that somebody may search for but its tag, as one text."""
    facts = release.facts
    said = (
        release.publisher_name,
        release.model,
        release.description or "",
        release.license or "",
        release.base_model or "",
        "" if release.upstream is None else release.upstream.repo,
        "" if facts is None else f"{facts.architecture} {facts.quantisation}",
        " ".join(file.path for file in release.files[:100]),
    )
    return "\n".join(one.replace("\0", " ") for one in said)[:MAX_WORDS]


def _values(entry: CatalogEntry, told: Described, model_id: int, release_id: int, now: float) -> dict[str, object]:
    release = told.release
    facts = release.facts
    words = dict.fromkeys((*words_of(entry.tag), *told.words.split()))
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
        "words": Searchable(" ".join(islice(words, search_words.MAX_WORDS))),
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
