"""Which blocks of a release other models of this registry have too: one question in parts, bounded whatever is stored.

Only what is listed and not withdrawn is told: an index also knows releases that its owner merely pulled. Used by
`Listings` alone.

Each digest is looked up in the index of blocks, and of its places so many are looked at. Of a block that is in many
blobs that nobody lists, a listed one may thus be missed: a picture may be poorer, never slow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import bytes_of, text_of
from samara.registry.tables import FileRow, ListingRow, ModelRow, PublisherRow

MAX_DIGESTS = 16_384  # looked up at once
_AT_ONCE = 500  # digests in one question
_PLACES = 16  # of one digest that are looked at
# As text: what SQLAlchemy would make of it takes ten times as long to make as to run.
_PLACES_OF = sa.text(f"""
WITH asked(digest) AS (VALUES {", ".join(f"(:d{number})" for number in range(_AT_ONCE))})
SELECT asked.digest, (
    SELECT place.blob_id
    FROM (SELECT blob_id FROM blocks WHERE blocks.digest = asked.digest LIMIT {_PLACES}) AS place
    WHERE EXISTS (
        SELECT 1 FROM files JOIN listings ON listings.release_id = files.release_id
        WHERE files.blob_id = place.blob_id AND listings.retracted IS NULL AND listings.model_id <> :own
    )
    LIMIT 1
) FROM asked
""")  # noqa: S608  (only numbers of ours are put in)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedWith:
    """A model that has blocks of this release. `digests`: those of them that were found there first."""

    identity: str
    model: str
    digests: frozenset[bytes]


def shared_with(
    session: Session, digests: Collection[bytes], *, identity: str, model: str
) -> tuple[SharedWith, ...]:  # fmt: skip
    """Other models than this one that have some of these blocks. Each digest (32 bytes) is told of one of them."""
    asked = sorted(list(dict.fromkeys(digests))[:MAX_DIGESTS])  # in order of the index: neighbours in one page
    own = _model_id(session, identity, model)
    blob_of: dict[bytes, int] = {}
    for start in range(0, len(asked), _AT_ONCE):
        blob_of.update(_places(session, asked[start : start + _AT_ONCE], own))
    models = _models(session, sorted(set(blob_of.values())), own)
    found: dict[tuple[str, str], set[bytes]] = {}
    for digest, blob in blob_of.items():
        if blob in models:
            found.setdefault(models[blob], set()).add(digest)
    return tuple(
        SharedWith(identity=whose, model=name, digests=frozenset(theirs))
        for (whose, name), theirs in sorted(found.items())
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


def _places(session: Session, digests: Sequence[bytes], own: int) -> Mapping[bytes, int]:
    """Digest → a blob with such a block that another model lists."""
    filled = [*digests, *[digests[-1]] * (_AT_ONCE - len(digests))]  # one statement for all, made once
    values: dict[str, object] = {f"d{number}": digest for number, digest in enumerate(filled)}
    rows = session.execute(_PLACES_OF, values | {"own": own})
    return {bytes_of(digest): int(blob) for digest, blob in rows if blob is not None}


def _models(session: Session, blobs: Sequence[int], own: int) -> Mapping[int, tuple[str, str]]:
    """Blob → (identity, model): of several the one that was there first."""
    first: dict[int, tuple[str, str]] = {}
    for start in range(0, len(blobs), _AT_ONCE):
        rows = session.execute(
            select(FileRow.blob_id, PublisherRow.identity, ModelRow.name)
            .join(ListingRow, ListingRow.release_id == FileRow.release_id)
            .join(ModelRow, ListingRow.model_id == ModelRow.id)
            .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            .where(
                FileRow.blob_id.in_(blobs[start : start + _AT_ONCE]),
                ListingRow.retracted.is_(None),
                ListingRow.model_id != own,
            )
            .order_by(ModelRow.id.desc())
        )
        first.update({int(blob): (text_of(identity), text_of(name)) for blob, identity, name in rows})
    return first
