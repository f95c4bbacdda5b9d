"""What the operator of this registry bars from it: publishers, names, and digests of blobs or manifests.

What is barred isn't listed: listings go within the transaction that bars (`takedowns`), and none comes in
(`publications`). So nobody who asks for what is listed pays for this; whoever finds nothing is told here whether that
is why. Releases that are kept but not listed are looked at whenever they are given: small files travel in them.

The bars of one registry are nobody else's: who follows it decides for themselves. Proofs stay: catalogs, keys and
equivocations of a barred publisher are remembered, so that what it signs later is still held against them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from samara.registry.index_columns import bytes_of, text_of
from samara.registry.index_database import Database
from samara.registry.tables import BarRow, BlobRow, FileRow, ModelRow, PublisherRow, ReleaseRow, TorrentRow
from samara.schemas.digests import b3_raw, b3_text
from samara.schemas.errors import NotFoundError, UsageError
from samara.schemas.references import is_identity, is_name

MAX_WHY = 500  # characters
_BARE_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_AT_ONCE = 500  # values in one question: SQLite takes a limited number


class Kind(StrEnum):
    """What is barred."""

    IDENTITY = "identity"  # a publisher: it publishes nothing here
    NAME = "name"  # nobody can have it here
    DIGEST = "digest"  # a blob, wherever it comes from, or a manifest: no release that has it is listed


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What may be barred. `value`: an identity, a name, or `b3:…`."""

    kind: Kind
    value: str

    def __str__(self) -> str:
        return self.value if self.kind is Kind.DIGEST else f"{self.kind} {self.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar. `why`: told to everybody; `at`: UTC epoch seconds."""

    subject: Subject
    why: str
    at: float


class BarredError(NotFoundError):
    """It isn't here because the operator took it down. Over HTTP 410, or 403 for who publishes it."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} was taken down by this registry's operator: {why}", next_step="if that is wrong, tell the operator"
        )
        self.why = why


def parse_subject(text: str) -> Subject:
    """An identity, a name, or `b3:` and 64 hex digits. Raises UsageError."""
    if text.startswith("b3:"):
        b3_raw(text)
        return Subject(kind=Kind.DIGEST, value=text)
    if _BARE_DIGEST.fullmatch(text):  # as b3sum and addresses have it: a name it could be, meant it is not
        raise UsageError("a digest without its kind", expected=f"b3:{text.lower()}", actual=text)
    if is_identity(text):
        return Subject(kind=Kind.IDENTITY, value=text)
    if is_name(text):
        return Subject(kind=Kind.NAME, value=text)
    raise UsageError("nothing that can be barred", expected="an identity, a name or b3:DIGEST", actual=repr(text[:80]))


def check_why(text: str) -> str:
    """A reason, in one line. Raises UsageError."""
    told = " ".join(text.split())
    if not told or len(told) > MAX_WHY or not told.isprintable():
        raise UsageError(
            "not a reason", expected=f"1 to {MAX_WHY} printable characters, for everybody to read",
            actual=repr(text[:80]),
        )  # fmt: skip
    return told


def raw_value(subject: Subject) -> bytes:
    """A subject's value as the table has it."""
    return b3_raw(subject.value) if subject.kind is Kind.DIGEST else subject.value.encode("ascii")


def bar_of(row: BarRow) -> Bar:
    """A row as a value."""
    kind, raw = Kind(text_of(row.kind)), bytes_of(row.value)
    value = b3_text(raw) if kind is Kind.DIGEST else raw.decode("ascii")
    return Bar(subject=Subject(kind=kind, value=value), why=text_of(row.why), at=float(row.at))


# -- queries, for transactions of this room ------------------------------------------------------------------------


def why(session: Session, kind: Kind, value: str) -> str | None:
    """Why something is barred; None if it isn't."""
    raw = raw_value(Subject(kind=kind, value=value))
    return session.scalar(select(BarRow.why).where(BarRow.kind == kind.value, BarRow.value == raw))


def identities(session: Session) -> tuple[str, ...]:
    """The barred publishers."""
    rows = session.scalars(select(BarRow.value).where(BarRow.kind == Kind.IDENTITY.value))
    return tuple(bytes_of(raw).decode("ascii") for raw in rows)


def names(session: Session) -> frozenset[str]:
    """The names that nobody can have."""
    rows = session.scalars(select(BarRow.value).where(BarRow.kind == Kind.NAME.value))
    return frozenset(bytes_of(raw).decode("ascii") for raw in rows)


def digests(session: Session) -> frozenset[str]:
    """The barred digests, as `b3:…`."""
    rows = session.scalars(select(BarRow.value).where(BarRow.kind == Kind.DIGEST.value))
    return frozenset(b3_text(bytes_of(raw)) for raw in rows)


def releases_of(session: Session, publisher_id: int) -> Mapping[int, str]:
    """Number of a release → why it is barred: those of one publisher that are a barred digest, or have a file of it.

    From the bars, which are few, to the releases: a publisher may have ten thousand.
    """
    rows = session.execute(select(BarRow.value, BarRow.why).where(BarRow.kind == Kind.DIGEST.value))
    reasons = {bytes_of(raw): text_of(said) for raw, said in rows}
    found: dict[int, str] = {}
    asked = list(reasons)
    for some in (asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE)):
        by_file = (
            select(FileRow.release_id, BlobRow.b3)
            .join(BlobRow, FileRow.blob_id == BlobRow.id)
            .join(ReleaseRow, FileRow.release_id == ReleaseRow.id)
            .where(BlobRow.b3.in_(some))
        )
        by_manifest = select(ReleaseRow.id, ReleaseRow.manifest_digest).where(ReleaseRow.manifest_digest.in_(some))
        for query in (by_file, by_manifest):
            mine = query.join(ModelRow, ReleaseRow.model_id == ModelRow.id).where(ModelRow.publisher_id == publisher_id)
            found.update({int(number): reasons[bytes_of(raw)] for number, raw in session.execute(mine)})
    return found


def why_release(session: Session, manifest: bytes) -> str | None:
    """Why a release (by its manifest's digest, 32 bytes) is not given; its publisher may be the reason."""
    if session.scalar(select(BarRow.id).limit(1)) is None:  # as almost everywhere, and asked for every manifest
        return None
    identity = session.scalar(
        select(PublisherRow.identity)
        .join(ModelRow, ModelRow.publisher_id == PublisherRow.id)
        .join(ReleaseRow, ReleaseRow.model_id == ModelRow.id)
        .where(ReleaseRow.manifest_digest == manifest)
    )
    told = None if identity is None else why(session, Kind.IDENTITY, text_of(identity))
    if told is not None:
        return told
    return next(iter(_releases(session, ReleaseRow.manifest_digest == manifest).values()), None)


def why_no_model(session: Session, identity: str, model: str, tag: str | None = None) -> str | None:
    """Why a model, or one of its tags, isn't listed, if that is because of what its releases have in them."""
    mine = [PublisherRow.identity == identity, ModelRow.name == model]
    if tag is not None:
        mine.append(ReleaseRow.tag == tag)
    return next(iter(_releases(session, *mine).values()), None)


def why_torrent(session: Session, v2: str) -> str | None:
    """Why a torrent (v2 infohash, 64 hex digits) isn't given: its blob is barred."""
    return session.scalar(
        select(BarRow.why)
        .join(BlobRow, BlobRow.b3 == BarRow.value)
        .join(TorrentRow, TorrentRow.blob_id == BlobRow.id)
        .where(BarRow.kind == Kind.DIGEST.value, TorrentRow.v2 == bytes.fromhex(v2))
        .limit(1)
    )


def _releases(session: Session, *conditions: sa.ColumnElement[bool]) -> dict[int, str]:
    """Of few releases those that are barred, and why."""
    by_file = (
        select(FileRow.release_id, BarRow.why)
        .join(BlobRow, BlobRow.b3 == BarRow.value)
        .join(FileRow, FileRow.blob_id == BlobRow.id)
        .join(ReleaseRow, FileRow.release_id == ReleaseRow.id)
    )
    by_manifest = select(ReleaseRow.id, BarRow.why).join(ReleaseRow, ReleaseRow.manifest_digest == BarRow.value)
    found: dict[int, str] = {}
    for query in (by_file, by_manifest):
        rows = session.execute(
            query.join(ModelRow, ReleaseRow.model_id == ModelRow.id)
            .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            .where(BarRow.kind == Kind.DIGEST.value, *conditions)
        )
        found.update({int(number): text_of(said) for number, said in rows})
    return found


# -- for everybody else ---------------------------------------------------------------------------------------------


class Barred:
    """The bars of one index. Each answer is of one moment; safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def every(self) -> tuple[Bar, ...]:
        """All of them, the latest first."""
        with self._database.read() as session:
            return tuple(map(bar_of, session.scalars(select(BarRow).order_by(BarRow.id.desc()))))

    def counts(self) -> dict[Kind, int]:
        """How many there are of each kind."""
        with self._database.read() as session:
            rows = session.execute(select(BarRow.kind, sa.func.count()).group_by(BarRow.kind)).all()
        found = {text_of(kind): int(count) for kind, count in rows}
        return {kind: found.get(kind.value, 0) for kind in Kind}

    def digests(self) -> frozenset[str]:
        """The barred digests, as `b3:…`."""
        with self._database.read() as session:
            return digests(session)

    def releases_blobs(self, blobs: Iterable[str]) -> frozenset[str]:
        """Of these blobs (`b3:…`) those of releases that are barred themselves or by their publisher. Others may list
        the same bytes.
        """
        asked = [b3_raw(blob) for blob in blobs]
        with self._database.read() as session:
            if session.scalar(select(BarRow.id).where(BarRow.kind != Kind.NAME.value).limit(1)) is None:
                return frozenset()
            publishers, manifests = set(identities(session)), digests(session)
            query = (
                select(BlobRow.b3, PublisherRow.identity, ReleaseRow.manifest_digest)
                .join(FileRow, FileRow.blob_id == BlobRow.id)
                .join(ReleaseRow, FileRow.release_id == ReleaseRow.id)
                .join(ModelRow, ReleaseRow.model_id == ModelRow.id)
                .join(PublisherRow, ModelRow.publisher_id == PublisherRow.id)
            )
            found: set[str] = set()
            for start in range(0, len(asked), _AT_ONCE):
                rows = session.execute(query.where(BlobRow.b3.in_(asked[start : start + _AT_ONCE])).distinct())
                found.update(
                    b3_text(bytes_of(raw))
                    for raw, identity, manifest in rows
                    if text_of(identity) in publishers or b3_text(bytes_of(manifest)) in manifests
                )
        return frozenset(found)

    def check_digests(self, values: Iterable[str]) -> None:
        """Raises BarredError if one of these (`b3:…`) is barred."""
        with self._database.read() as session:
            for value in values:
                told = why(session, Kind.DIGEST, value)
                if told is not None:
                    raise BarredError(value, told)

    def check_release(self, manifest: str) -> None:
        """Raises BarredError if a release, something in it or its publisher is barred."""
        with self._database.read() as session:
            told = why_release(session, b3_raw(manifest))
        if told is not None:
            raise BarredError(f"the release {manifest}", told)

    def check_model(self, identity: str, model: str, tag: str | None = None) -> None:
        """Raises BarredError if something that is barred keeps a model, or one of its tags, from being listed."""
        with self._database.read() as session:
            told = why_no_model(session, identity, model, tag)
        if told is not None:
            raise BarredError(model if tag is None else f"{model}:{tag}", told)

    def check_torrent(self, v2: str) -> None:
        """Raises BarredError if a torrent (v2 infohash, 64 hex digits) is of a barred blob."""
        with self._database.read() as session:
            told = why_torrent(session, v2)
        if told is not None:
            raise BarredError(f"the torrent {v2}", told)
