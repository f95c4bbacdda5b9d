"""Which other models have the same blocks: on both databases, of what is listed alone, bounded whatever is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from index_kit import ACME, MALLORY, signed
from sqlalchemy.orm import Session

from samara.registry import block_sharing
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.listed_publishers import Owner
from samara.registry.tables import BlobRow, BlockRow, ListingRow, ReleaseRow

COMMON, OTHER = b"c" * 5000, b"o" * 3000


@pytest.fixture(params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with Index.open(Home(tmp_path, url)) as opened:
        yield opened


def listed(
    index: Index,
    model: str,
    files: dict[str, bytes],
    *,
    identity: str = ACME,
    tag: str = "v1",
    retracted: str | None = None,
    as_name: bool = True,
) -> dict[str, bytes]:
    """Record a release and list it; path → digest of its (only) block."""
    release = signed(files, identity=identity, model=model, tag=tag)
    release.add_to(index)
    if as_name:
        with index.database.write() as session:
            row = session.execute(
                sa.select(ReleaseRow.id, ReleaseRow.model_id).order_by(ReleaseRow.id.desc()).limit(1)
            ).one()
            session.add(
                ListingRow(
                    model_id=row[1], release_id=row[0], tag=tag, version=1, retracted=retracted,
                    has_chat_template=False, size=1, words="", listed_at=1.0,
                )
            )  # fmt: skip
    return {file.path: file.blocks[0].digest for file in release.release.files}


def test_models_that_share_a_block_are_told(index: Index) -> None:
    mine = listed(index, "mine", {"a": COMMON, "b": OTHER, "c": b"mine alone"})
    listed(index, "theirs", {"x": COMMON, "y": b"theirs alone"}, identity=MALLORY)
    listed(index, "second", {"z": OTHER})
    found = index.listings.shared_with(mine.values(), identity=ACME, model="mine")
    assert {(one.identity, one.model): one.digests for one in found} == {
        (MALLORY, "theirs"): frozenset({mine["a"]}),
        (ACME, "second"): frozenset({mine["b"]}),
    }


def test_a_model_s_own_releases_are_not_others(index: Index) -> None:
    mine = listed(index, "mine", {"a": COMMON}, tag="v1")
    listed(index, "mine", {"a": COMMON, "b": OTHER}, tag="v2")
    assert index.listings.shared_with(mine.values(), identity=ACME, model="mine") == ()
    assert len(index.listings.shared_with(mine.values(), identity=MALLORY, model="mine")) == 1  # another's model


@pytest.mark.parametrize("how", ["withdrawn", "merely known"])
def test_what_isn_t_listed_is_not_told(index: Index, how: str) -> None:
    """An index also holds what its owner pulled: nobody else's business."""
    mine = listed(index, "mine", {"a": COMMON})
    listed(
        index, "theirs", {"x": COMMON}, identity=MALLORY, retracted="no" if how == "withdrawn" else None,
        as_name=how == "withdrawn",
    )  # fmt: skip
    assert index.listings.shared_with(mine.values(), identity=ACME, model="mine") == ()


def test_what_isn_t_listed_doesn_t_hide_what_is(index: Index) -> None:
    mine = listed(index, "mine", {"a": COMMON})
    block = [b"s" * 32]
    listed(index, "withdrawn", {"x": b"1"}, identity=MALLORY, retracted="no")
    add_blocks(index, block)
    listed(index, "mine", {"a": b"2"}, tag="v2")
    add_blocks(index, block)
    listed(index, "theirs", {"x": b"3"}, identity=MALLORY)
    add_blocks(index, block)
    found = index.listings.shared_with([*mine.values(), *block], identity=ACME, model="mine")
    assert [one.model for one in found] == ["theirs"]


def test_each_digest_is_told_once_and_none_is_asked_twice(index: Index) -> None:
    mine = listed(index, "mine", {"a": COMMON})
    for number in range(3):
        listed(index, f"theirs-{number}", {"x": COMMON, "y": b"%d" % number}, identity=MALLORY)
    found = index.listings.shared_with([*mine.values()] * 3, identity=ACME, model="mine")
    assert [len(one.digests) for one in found] == [1]
    assert index.listings.shared_with([], identity=ACME, model="mine") == ()


@pytest.mark.long
def test_16k_blocks_that_all_are_shared(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one is found, in few questions."""
    mine = listed(index, "mine", {"a": COMMON})
    listed(index, "theirs", {"x": OTHER}, identity=MALLORY)
    digests = [number.to_bytes(32, "big") for number in range(16_384)]
    add_blocks(index, digests)
    asked: list[int] = []
    real = block_sharing._places

    def places(session: Session, some: Sequence[bytes]) -> Mapping[bytes, tuple[int, ...]]:
        asked.append(len(some))
        return real(session, some)

    monkeypatch.setattr(block_sharing, "_places", places)
    found = index.listings.shared_with([*mine.values(), *digests], identity=ACME, model="mine")
    assert [(one.model, len(one.digests)) for one in found] == [("theirs", 16_383)]  # the last one is over the bound
    assert (len(asked), sum(asked)) == (33, 16_384)


def add_blocks(index: Index, digests: list[bytes]) -> None:
    """Let the last blob have these blocks too."""
    with index.database.write() as session:
        blob = session.scalar(sa.select(sa.func.max(BlobRow.id)))
        session.execute(
            sa.insert(BlockRow),
            [
                {"blob_id": blob, "ordinal": 1 + number, "offset": number, "size": 1, "digest": digest}
                for number, digest in enumerate(digests)
            ],
        )


def test_how_much_is_listed(index: Index) -> None:
    listed(index, "mine", {"a": COMMON, "b": OTHER})
    listed(index, "theirs", {"x": COMMON, "y": b"12345"}, identity=MALLORY)
    listed(index, "withdrawn", {"z": b"gone"}, retracted="no")
    found = index.listings.overview()
    assert (found.models, found.names, found.blobs, found.size) == (2, 2, 3, len(COMMON) + len(OTHER) + 5)
    assert (found.blobs_here, found.size_here) == (0, 0)
    assert found.database in {"SQLite", "PostgreSQL"}


def test_a_publisher_s_models_come_in_pages(index: Index) -> None:
    for number in range(5):
        listed(index, f"model-{number}", {"a": b"%d" % number})
    listed(index, "model-3", {"a": b"another"}, tag="v2", retracted="no")
    listed(index, "not-listed", {"a": b"x"}, as_name=False)
    listed(index, "elsewhere", {"a": b"y"}, identity=MALLORY)
    owner = Owner(identity=ACME, name="acme", namespace=None)
    pages = [index.listings.owners_models(owner, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[(one.model, one.names) for one in page.models] for page in pages] == [
        [("model-0", 1), ("model-1", 1)],
        [("model-2", 1), ("model-3", 2)],
        [("model-4", 1)],
        [],
    ]
    assert {page.total for page in pages} == {5}
