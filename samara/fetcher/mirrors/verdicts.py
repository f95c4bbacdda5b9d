"""What is made of a mirror's answers and failures: what they cost it, and what is told. Pure: time and lot are given.

Changes a mirror's score and the notes on it. Who takes over its work then is the pool's business.
"""

from __future__ import annotations

from dataclasses import dataclass

from samara.fetcher.mirrors.blob import Mirror
from samara.fetcher.mirrors.piece import WrongPiece
from samara.registry.http import HttpError, HttpFailure
from samara.schemas.errors import SamaraError

COUNTS_FROM = 64 << 10  # bytes
NEWS_AFTER = 3  # failures in a row
_ABSENT = frozenset({404, 410})


@dataclass(frozen=True, kw_only=True, slots=True)
class MirrorRejected:
    """A mirror gave wrong bytes or failed. `banned`: it isn't asked for this blob again; else it rests for a while.
    `is_news`: nothing of the kind was told before. `absent`: it said that it doesn't have the blob (HTTP 404, 410).
    """

    torrent: str
    url: str
    reason: str
    banned: bool
    is_news: bool = True
    absent: bool = False
    wrong: WrongPiece | None = None


def delivered(mirror: Mirror, received: int, seconds: float, *, broke: bool) -> None:
    """A task is over that brought so many bytes. `broke`: it didn't end well."""
    mirror.bytes_in += received
    # who sends a few bytes each time before it breaks has delivered nothing: it must not be asked without rest
    if received >= (COUNTS_FROM if broke else 1):
        mirror.score = mirror.score.delivered(received, max(1e-3, seconds))


def saw_version(torrent: str, mirror: Mirror, validator: str | None) -> MirrorRejected | None:
    """It answered. What is told if its object is another one than before."""
    before, changed = mirror.validator, mirror.answered and mirror.validator != validator
    mirror.answered, mirror.validator = True, validator
    if not changed:
        return None
    return MirrorRejected(
        torrent=torrent,
        url=mirror.url,
        reason=f"changed while it was fetched ({before} → {validator})",
        banned=False,
    )


def ban(
    torrent: str, mirror: Mirror, reason: str, *, wrong: WrongPiece | None = None, is_news: bool = True
) -> MirrorRejected | None:
    """It isn't asked for this blob again. None if that was so already."""
    if mirror.score.is_banned:
        return None
    mirror.score = mirror.score.banned(reason)
    mirror.reported = True
    return MirrorRejected(
        torrent=torrent,
        url=mirror.url,
        reason=f"{reason}; not asked again",
        banned=True,
        is_news=is_news,
        wrong=wrong,
    )


def failed(
    torrent: str, mirror: Mirror, error: SamaraError, *, received: int, now: float, lot: float
) -> MirrorRejected:
    """A task ended with an error after so many bytes. `lot`: 0 … 1, by chance: how long it rests."""
    kind = error.kind if isinstance(error, HttpError) else HttpFailure.BROKEN
    retry_after = error.retry_after if isinstance(error, HttpError) else None
    status = error.status if isinstance(error, HttpError) else None
    mirror.score = mirror.score.failed(kind, now, lot, status=status, retry_after=retry_after)
    # a connection that ends after it has brought something is what links do, and no news
    is_news = not mirror.reported and (not received or mirror.score.failures >= NEWS_AFTER)
    mirror.reported |= is_news
    return MirrorRejected(
        torrent=torrent,
        url=mirror.url,
        reason=reason_of(error, mirror.url),
        banned=mirror.score.is_banned,
        is_news=is_news,
        absent=status in _ABSENT,
    )


def reason_of(error: SamaraError, url: str) -> str:
    """What went wrong, without the URL: that is named beside it."""
    said = str(SamaraError(error.what, expected=error.expected, actual=error.actual)).removeprefix(url).lstrip(" :")
    return f"{said}; --private-mirrors allows it" if is_policy(error) and said.endswith("address") else said


def is_policy(error: SamaraError) -> bool:
    """Whether it wasn't contacted because it must not be."""
    return isinstance(error, HttpError) and error.kind is HttpFailure.POLICY
