"""Which blocks of a release other models of this registry have too: one question in parts, bounded whatever is stored.

Only what is listed and not withdrawn is told: an index also knows releases that its owner merely pulled. Used by
`Listings` alone.

Each digest is looked up in the index of blocks, and of its places so many are looked at. Of a block that is in many
blobs that nobody lists, a listed one may thus be missed: a picture may be poorer, never slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import bytes_of, text_of
from samara.registry.tables import FileRow, ListingRow, ModelRow, PublisherRow, ReleaseRow

MAX_DIGESTS = 16_384  # looked up at once
MAX_BLOBS = 4_000  # that have any of them: those with the most
_AT_ONCE = 500  # digests, or blobs, in one question
_PLACES = 8  # of one digest that are looked at
_JOINED = {"sqlite": "group_concat", "postgresql": "string_agg"}
# As text: what SQLAlchemy would make of it takes ten times as long to make as to run.
_PLACES_OF = {
    dialect: sa.text(f"""
WITH asked(digest) AS (VALUES {", ".join(f"(:d{number})" for number in range(_AT_ONCE))})
SELECT asked.digest, (
    SELECT {function}(CAST(place.blob_id AS TEXT), ',')
    FROM (SELECT blob_id FROM blocks WHERE blocks.digest = asked.digest LIMIT {_PLACES}) AS place
) FROM asked
""")  # noqa: S608  (only numbers and names of ours are put in)
    for dialect, function in _JOINED.items()
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedWith:
    """A model that has blocks of this release. `digests`: those of them that were found there first."""

    identity: str
    model: str
    digests: frozenset[bytes]


def shared_with(
    session: Session, digests: Collection[bytes], *, identity: str, model: str
) -> tuple[SharedWith, ...]:  # fmt: skip
    """Other models than this one that have some of these blocks. Each digest (32 bytes) is told of one of them; of too
    many the first ones are asked for.
    """
    asked = sorted(list(dict.fromkeys(digests))[:MAX_DIGESTS])  # in order of the index: neighbours in one page
    blobs_of: dict[bytes, tuple[int, ...]] = {}
    for start in range(0, len(asked), _AT_ONCE):
        blobs_of.update(_places(session, asked[start : start + _AT_ONCE]))
    often = Counter(blob for blobs in blobs_of.values() for blob in set(blobs))
    models = _models(session, [blob for blob, _ in often.most_common(MAX_BLOBS)], _model_id(session, identity, model))
    found: dict[int, set[bytes]] = {}
    for digest, blobs in blobs_of.items():
        theirs = min((models[blob] for blob in blobs if blob in models), default=None)
        if theirs is not None:
            found.setdefault(theirs, set()).add(digest)
    return tuple(
        SharedWith(identity=whose, model=name, digests=frozenset(found[number]))
        for number, (whose, name) in _names(session, sorted(found)).items()
    )


def _model_id(session: Session, identity: str, model: str) -> int:
    return (
        session.scalar(
            select(ModelRow.id)
            .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            .where(PublisherRow.identity == identity, ModelRow.name == model)
        )
        or 0
    )


def _places(session: Session, digests: Sequence[bytes]) -> Mapping[bytes, tuple[int, ...]]:
    """Digest → some of the blobs that have such a block, listed or not."""
    filled = [*digests, *[digests[-1]] * (_AT_ONCE - len(digests))]  # one statement for all, made once
    values: dict[str, object] = {f"d{number}": digest for number, digest in enumerate(filled)}
    rows = session.execute(_PLACES_OF[session.get_bind().dialect.name], values)
    return {bytes_of(digest): tuple(map(int, text_of(blobs).split(","))) for digest, blobs in rows if blobs is not None}


def _models(session: Session, blobs: Sequence[int], own: int) -> Mapping[int, int]:
    """Blob → the first other model that lists it. Each is asked for once, however many blocks and names it has."""
    listed = select(ListingRow.release_id).where(ListingRow.retracted.is_(None))
    first: dict[int, int] = {}
    for start in range(0, len(blobs), _AT_ONCE):
        rows = session.execute(
            select(FileRow.blob_id, sa.func.min(ReleaseRow.model_id))
            .join(ReleaseRow, FileRow.release_id == ReleaseRow.id)
            .where(FileRow.blob_id.in_(blobs[start : start + _AT_ONCE]))
            .where(ReleaseRow.model_id != own, ReleaseRow.id.in_(listed))
            .group_by(FileRow.blob_id)
        )
        first.update({int(blob): int(model) for blob, model in rows})
    return first


def _names(session: Session, models: Sequence[int]) -> Mapping[int, tuple[str, str]]:
    """Model → (identity, name)."""
    names: dict[int, tuple[str, str]] = {}
    for start in range(0, len(models), _AT_ONCE):
        rows = session.execute(
            select(ModelRow.id, PublisherRow.identity, ModelRow.name)
            .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            .where(ModelRow.id.in_(models[start : start + _AT_ONCE]))
        )
        names.update({int(number): (text_of(identity), text_of(name)) for number, identity, name in rows})
    return names
