"""Listings written straight into the tables, for tests and measurements of searching. No test in here."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.tables import ListingRow, ModelRow, NamespaceRow, PublisherRow, ReleaseRow

ACME = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
UMBRA = "4vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
NAMES = {ACME: "acme", UMBRA: "umbra"}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One name and what it means; `words` are what `samara.registry.publications` would make of it."""

    model: str
    tag: str = "q8_0"
    identity: str = ACME
    namespace: str | None = None
    version: int = 1
    description: str | None = None
    license: str | None = None
    architecture: str | None = "llama"
    quantisation: str | None = "Q8_0"
    size: int = 1000
    retracted: str | None = None
    listed_at: float = 1000.0

    @property
    def words(self) -> str:
        """Everything that is searched in."""
        said = (NAMES.get(self.identity), self.model, self.tag, self.description, self.license, self.architecture)
        return "\n".join(one for one in (*said, self.quantisation) if one)


@contextlib.contextmanager
def listing_index(request: pytest.FixtureRequest, folder: Path, listed: Sequence[Listed]) -> Iterator[Index]:
    """An index with these listings in the database that a fixture's parameter names: sqlite or postgresql."""
    with contextlib.ExitStack() as stack:
        home = Home(folder)
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            home = Home(folder, server.url(stack.enter_context(server.database())))
        opened = stack.enter_context(Index.open(home))
        list_all(opened, listed)
        yield opened


def list_all(index: Index, listed: Sequence[Listed]) -> None:
    """Record them in one transaction."""
    with index.database.write() as session:
        publishers = {row.identity: row.id for row in session.scalars(sa.select(PublisherRow))}
        models: dict[tuple[int, str], int] = {
            (row.publisher_id, row.name): row.id for row in session.scalars(sa.select(ModelRow))
        }
        for identity in dict.fromkeys(one.identity for one in listed):
            if identity not in publishers:
                row = PublisherRow(identity=identity, name=NAMES.get(identity, "somebody"), first_seen=1.0)
                publishers[identity] = _added(session, row)
        for one in listed:
            key = (publishers[one.identity], one.model)
            if key not in models:
                models[key] = _added(session, ModelRow(publisher_id=key[0], name=one.model))
            if one.namespace is not None and session.get(NamespaceRow, one.namespace) is None:
                session.add(NamespaceRow(name=one.namespace, publisher_id=key[0], statement=None, claimed_at=1.0))
        _add_rows(session, listed, [models[publishers[one.identity], one.model] for one in listed])


def _add_rows(session: Session, listed: Sequence[Listed], model_ids: Sequence[int]) -> None:
    start = session.scalar(sa.select(sa.func.max(ReleaseRow.id))) or 0
    releases, rows = [], []
    for number, (one, model_id) in enumerate(zip(listed, model_ids, strict=True), start=start + 1):
        releases.append(
            {
                "id": number,
                "model_id": model_id,
                "tag": one.tag,
                "version": one.version,
                "manifest_digest": hashlib.sha256(b"%d" % number).digest(),
                "payload": b"{}",
                "signatures": "[]",
                "created": "2026-01-02T03:04:05Z",
                "added_at": one.listed_at,
            }
        )
        rows.append(
            {
                "model_id": model_id,
                "release_id": number,
                "tag": one.tag,
                "version": one.version,
                "retracted": one.retracted,
                "license": one.license,
                "description": one.description,
                "architecture": one.architecture,
                "quantisation": one.quantisation,
                "parameters": 10**9,
                "context_length": 4096,
                "has_chat_template": True,
                "size": one.size,
                "words": one.words,
                "listed_at": one.listed_at,
            }
        )
    session.execute(sa.insert(ReleaseRow), releases)
    session.execute(sa.insert(ListingRow), rows)


def _added(session: Session, row: PublisherRow | ModelRow) -> int:
    session.add(row)
    session.flush()
    return row.id
