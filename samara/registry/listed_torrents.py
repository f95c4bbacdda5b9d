"""Which torrents this registry lists, by name alone: for its tracker. A query of `samara.registry.listings` on rows."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import bytes_of, digest_of
from samara.registry.tables import BlobRow, FileRow, ListingRow, TorrentRow


def listed_torrents(session: Session) -> tuple[tuple[int, str, bytes], ...]:
    """(number, b3 text of the blob, v2 infohash) of every torrent that a listed release, not withdrawn, names.

    In the order in which they became known.
    """
    listed = (
        select(FileRow.torrent_id)
        .join(ListingRow, ListingRow.release_id == FileRow.release_id)
        .where(ListingRow.retracted.is_(None), FileRow.torrent_id.is_not(None))
    )
    rows = session.execute(
        select(TorrentRow.id, BlobRow.b3, TorrentRow.v2)
        .join(BlobRow, TorrentRow.blob_id == BlobRow.id)
        .where(TorrentRow.id.in_(listed))
        .order_by(TorrentRow.id)
    )
    return tuple((int(number), digest_of(b3), bytes_of(v2)) for number, b3, v2 in rows)


def torrent_data(session: Session, number: int) -> bytes | None:
    """The .torrent of a number of `listed_torrents`."""
    data = session.scalar(select(TorrentRow.data).where(TorrentRow.id == number))
    return None if data is None else bytes_of(data)
