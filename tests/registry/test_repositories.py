"""A model's tags as the Hub's clients need them, on SQLite and on PostgreSQL: in order, few at a time, small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from listing_kit import ACME, UMBRA, Listed, listing_index
from sqlalchemy.engine import Engine

from samara.registry.index import Index
from samara.registry.listed_publishers import Owner

LISTED = (
    Listed(model="m", tag="a", namespace="acme", version=1, description="d" * 8000),
    Listed(model="m", tag="b", version=3),
    Listed(model="m", tag="c", version=2, retracted="broken"),
    Listed(model="m", tag="d", version=4),
    Listed(model="other", tag="a", version=9),
    Listed(model="m", tag="e", identity=UMBRA, version=7),
)
OWNER = Owner(identity=ACME, name="acme", namespace="acme")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with listing_index(request, tmp_path_factory.mktemp("repositories"), LISTED) as opened:
        yield opened


def tags(index: Index, **wanted: object) -> list[str]:
    return [one.tag for one in index.listings.tags(OWNER, "m", **{"limit": 10, **wanted})]  # type: ignore[arg-type]


def test_the_newest_come_first_and_only_so_many(index: Index) -> None:
    assert tags(index) == ["d", "b", "c", "a"]
    assert tags(index, limit=2) == ["d", "b"]
    assert tags(index, current=True) == ["d", "b", "a"]
    assert tags(index, named=("a", "c", "e", "x")) == ["c", "a"]
    assert tags(index, named=("c",), current=True) == []
    assert index.listings.tags(OWNER, "nothing", limit=10) == ()


def test_a_tag_says_what_it_means(index: Index) -> None:
    (withdrawn,) = index.listings.tags(OWNER, "m", limit=1, named=("c",))
    (listing,) = (one for one in index.listings.model(OWNER, "m") if one.tag == "c")
    assert (withdrawn.retracted, withdrawn.version, withdrawn.manifest) == ("broken", 2, listing.manifest)
    assert (withdrawn.architecture, withdrawn.license, withdrawn.created, withdrawn.commit) == (
        listing.architecture, listing.license, listing.created, listing.commit,
    )  # fmt: skip
    assert index.listings.tags(OWNER, "m", limit=9, manifests=(listing.manifest,)) == (withdrawn,)


def test_a_release_is_found_by_how_its_digest_begins_in_its_own_model_only(index: Index) -> None:
    for listing in index.listings.model(OWNER, "m"):
        first = bytes.fromhex(listing.commit)
        assert index.listings.kept_release(OWNER, "m", first) == listing.manifest
        assert index.listings.kept_release(OWNER, "other", first) is None
        assert index.listings.kept_release(OWNER, "m", first[:-1] + bytes([first[-1] ^ 1])) is None


def test_what_people_read_is_not_read_for_it(index: Index) -> None:
    """A model may have ten thousand tags, each with eight kilobytes of description."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", note)
    try:
        tags(index)
        index.listings.kept_release(OWNER, "m", bytes(20))
    finally:
        sa.event.remove(Engine, "before_cursor_execute", note)
    assert any("listings" in statement for statement in asked)
    assert not any(word in statement for statement in asked for word in ("description", "words", "payload"))
