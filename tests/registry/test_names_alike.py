"""Names that people take for another's can't be claimed; the database judges them as the rule does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from listing_kit import ACME, Listed, listing_index
from service_kit import ORIGIN, author
from sqlalchemy import select
from support.world import random_file

from samara.registry.barred import parse_subject
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.lookalikes import is_encoded, skeleton, skeleton_of
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.tables import NamespaceRow, PublisherRow
from samara.registry.takedowns import Takedowns

RULES = Rules(claims=ClaimRules(origin=ORIGIN))


@pytest.mark.parametrize(
    "other", ["meta_llama", "meta.llama", "metallama", "meta-1lama", "meta-11ama", "meta-iiama", "rneta-llama"]
)
def test_names_that_look_alike_have_one_skeleton(other: str) -> None:
    assert skeleton(other) == skeleton("meta-llama")


@pytest.mark.parametrize("other", ["meta-lama", "neta-llama", "meta-llama2", "llama-meta"])
def test_names_that_dont_have_several(other: str) -> None:
    assert skeleton(other) != skeleton("meta-llama")


def test_encoded_names_are_told_by_their_form() -> None:
    assert is_encoded("xn--llam-gra")
    assert is_encoded("a.xn--llam-gra")
    assert is_encoded("ab--c"), "reserved for other encodings (RFC 5890 §2.3.1)"
    assert not is_encoded("a--b")
    assert not is_encoded("meta-llama")


NAMES = ["meta-llama", "rn-vv.o0_l1i", "a", "vvv", "rrnn", "0.0", "x--y"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_database_says_the_same(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    request.param = database
    with listing_index(request, tmp_path, [Listed(model="m", namespace="first")]) as index:
        with index.database.write() as session:
            number = session.scalar(select(PublisherRow.id).where(PublisherRow.identity == ACME))
            session.execute(
                sa.insert(NamespaceRow), [{"name": n, "publisher_id": number, "claimed_at": 1.0} for n in NAMES]
            )
        with index.database.read() as session:
            found = dict(session.execute(select(NamespaceRow.name, skeleton_of(NamespaceRow.name))).all())
    assert found == {name: skeleton(name) for name in [*NAMES, "first"]}


def test_who_claims_a_name_like_anothers_is_told_whose(tmp_path: Path) -> None:
    first, second = author(tmp_path / "first", "first"), author(tmp_path / "second", "second")
    for who in (first, second):
        who.publish("m:v1", [random_file(tmp_path / f"{who.publisher.name}.bin", 100_000, seed=5)])
    with Index.open(Home(tmp_path / "registry")) as index:

        def claim(who: object, name: str) -> tuple[str, ...]:
            assert who in (first, second)
            asker = first if who is first else second
            return accept(index, asker.publication(claim=asker.claim(name)), RULES, now=datetime.now(UTC)).names

        assert claim(first, "meta-llama") == ("meta-llama",)
        with pytest.raises(PublicationRefusedError, match="looks like meta-llama") as refused:
            claim(second, "meta_1lama")
        assert refused.value.reason is Reason.NAME_TAKEN
        for name in ("xn--meta-llama-abc", "a.xn--b", "0fficial", "sarnara", "sa.mara"):
            with pytest.raises(PublicationRefusedError, match="can be nobody's here") as refused:
                claim(second, name)
            assert refused.value.reason is Reason.NAME_REFUSED
        assert claim(first, "metallama") == ("meta-llama", "metallama"), "whose name it looks like may have both"
        assert claim(second, "meta-lama") == ("meta-lama",)
        Takedowns(index.database).bar(parse_subject("reserved"), "for us", now=1.0)
        free = {
            name: index.listings.is_free(name, second.identity)
            for name in ("meta-llama", "meta.llama", "meta-lama", "me.ta.lama", "re.served", "another")
        }
        assert free == {
            "meta-llama": False, "meta.llama": False, "meta-lama": False, "me.ta.lama": True, "re.served": False,
            "another": True,
        }  # fmt: skip
