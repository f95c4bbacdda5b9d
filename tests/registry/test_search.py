"""Searching a registry's listings, on SQLite and on PostgreSQL: the same is found, in the same order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listing_kit import ACME, UMBRA, Listed, list_all, listing_index
from sqlalchemy.orm import Session

from samara.registry import search
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.search import FACETS, MAX_OFFSET, MAX_TAGS, FacetValue, SearchPage, SearchQuery, Sort
from samara.registry.search_reading import Known, Stamp, read_listed
from samara.registry.search_words import _LETTERS, _MAX_KNOWN, MAX_LETTERS, searchable, words_of
from samara.registry.tables import ListingRow
from samara.schemas.errors import UsageError

GIB = 2**30
LISTED = (
    Listed(model="llama-3.2-1b", tag="q4_0", namespace="acme", quantisation="Q4_0", size=GIB, license="LLAMA3.2",
           version=2, listed_at=2000.0, description="Small and quick. Français, Straße, ﬁne."),
    Listed(model="llama-3.2-1b", tag="f16", quantisation="F16", size=3 * GIB, license="LLAMA3.2", version=1),
    Listed(model="my-llama", identity=UMBRA, namespace="umbra", size=2 * GIB, license="MIT", listed_at=3000.0,
           description="llama llama llama llama: repeating a word doesn't help"),
    Listed(model="llama", identity=UMBRA, size=5, license="Apache-2.0", listed_at=1.0),
    Listed(model="qwen2-0.5b", architecture="qwen2", quantisation="Q4_0", license="apache-2.0", size=7,
           description="Speaks 中文 and हिन्दी; 100% \"quoted\" NEAR(a b) — 2 > 1", listed_at=1500.0),
    Listed(model="withdrawn", retracted="broken", license="MIT", description="llama qwen2"),
    Listed(model="whisper", architecture=None, quantisation=None, license=None, size=9),
)  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with listing_index(request, tmp_path_factory.mktemp("search"), LISTED) as opened:
        yield opened


def names(page: SearchPage) -> list[str]:
    return [found.model for found in page.found]


def find(index: Index, text: str = "", **wanted: object) -> list[str]:
    return names(index.listings.search(SearchQuery(text=text, **wanted)))  # type: ignore[arg-type]


class TestWords:
    def test_without_words_all_is_found_but_what_was_withdrawn_the_newest_first(self, index: Index) -> None:
        page = index.listings.search(SearchQuery())
        assert names(page) == ["my-llama", "llama-3.2-1b", "qwen2-0.5b", "whisper", "llama"]
        assert (page.total, page.is_total) == (5, True)
        assert find(index, "  \n") == names(page)

    def test_names_count_more_than_descriptions_and_repeating_does_not_count(self, index: Index) -> None:
        assert find(index, "llama") == ["llama", "llama-3.2-1b", "my-llama", "qwen2-0.5b"][:3]

    def test_every_word_must_be_there(self, index: Index) -> None:
        assert find(index, "llama quick") == ["llama-3.2-1b"]
        assert find(index, "llama qwen2") == []

    def test_a_word_finds_those_that_begin_with_it(self, index: Index) -> None:
        assert find(index, "qw") == ["qwen2-0.5b"]
        assert find(index, "w") == ["whisper", "my-llama"]
        assert find(index, "hisper") == []

    @pytest.mark.parametrize("text", ["LLAMA-3.2-1B", "llama 3.2", "3.2 llama", "q4_0 llama", "Llama_3"])
    def test_capitals_and_what_stands_between_words_do_not_matter(self, index: Index, text: str) -> None:
        assert find(index, text)[0] == "llama-3.2-1b"

    @pytest.mark.parametrize("text", ["francais", "FRANÇAIS", "françai", "strasse", "STRASSE", "fine", "ﬁne"])
    def test_accents_and_forms_of_letters_do_not_matter(self, index: Index, text: str) -> None:
        assert find(index, text) == ["llama-3.2-1b"]

    @pytest.mark.parametrize("text", ["中文", "中", "हिन्दी", "हिन"])
    def test_other_scripts_are_searched_too(self, index: Index, text: str) -> None:
        assert find(index, text) == ["qwen2-0.5b"]

    def test_the_publisher_and_the_licence_are_searched_too(self, index: Index) -> None:
        assert find(index, "umbra") == ["my-llama", "llama"]
        assert find(index, "umbra mit") == ["my-llama"]

    def test_only_the_tags_that_fit_are_shown(self, index: Index) -> None:
        (found,) = index.listings.search(SearchQuery(text="f16 llama")).found
        assert [one.tag for one in found.listings] == ["f16"]
        (both,) = index.listings.search(SearchQuery(text="3.2")).found
        assert [(one.tag, one.version) for one in both.listings] == [("q4_0", 2), ("f16", 1)]
        assert both.matching == 2
        assert (both.owner.identity, both.owner.namespace, both.owner.name) == (ACME, "acme", "acme")


# what FTS5, tsquery, LIKE or SQL would make something of
HOSTILE = (
    '"', "'", '""', "llama AND", "AND", "OR llama", "NOT llama", "llama NOT quick", "NEAR(llama quick)", "(llama",
    "llama NEAR/2 x", "llama*", "*", "^llama", "words:llama", "{words}: llama", "-words : llama", "llama)", ")(",
    "llama + quick", "a:b", ":*", "llama & quick", "llama | quick", "!llama", "llama <-> quick", "llama <2> x", "%",
    "_", "ll_ma", "l%a", "\\", "\\'", "'; DROP TABLE listings; --", "$$", "%s", "%(x)s", ":x", "?", "llama\x1f", "\x7f",
    "l\u200blama", "\u202ellama", "ǅ", "\ufeff", "a" * 256, "a " * 128, "\u0301" * 256, "﷽" * 256, "🦙",
    "👩‍👩‍👧‍👦", "\U0010ffff",
)  # fmt: skip


class TestHostileTexts:
    def test_nothing_that_is_typed_means_anything_to_the_database(self, index: Index) -> None:
        for text in HOSTILE:
            page = index.listings.search(SearchQuery(text=text))
            words = words_of(text, 16)
            expected = {
                one.model
                for one in LISTED
                if one.retracted is None and all(any(w.startswith(x) for w in words_of(one.words)) for x in words)
            }
            assert set(names(page)) == (expected if words else set()), ascii(text)
            assert page.total == len(page.found)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(max_size=60))
    def test_whatever_is_typed_nothing_breaks(self, index: Index, text: str) -> None:
        if "\0" not in text:
            index.listings.search(SearchQuery(text=text))

    @pytest.mark.parametrize("name", ["architecture", "quantisation", "license", "publisher"])
    def test_filters_are_compared_and_nothing_else(self, index: Index, name: str) -> None:
        for value in ("' OR 1=1 --", "%", "_", "", "\\", "x" * 256):
            assert find(index, **{name: value}) == []

    @pytest.mark.parametrize(
        "wanted",
        [
            {"text": "x" * 257}, {"text": "a\0b"}, {"license": "a\0"}, {"text": "\ud800"}, {"license": "\udcff"},
            {"publisher": "x" * 257}, {"limit": 0}, {"limit": 101}, {"offset": -1}, {"offset": MAX_OFFSET + 1},
            {"min_size": -1}, {"max_size": 2**63},
        ],
    )  # fmt: skip
    def test_what_is_out_of_bounds_is_refused(self, wanted: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            SearchQuery(**wanted)  # type: ignore[arg-type]


class TestFilters:
    def test_each_alone(self, index: Index) -> None:
        assert find(index, architecture="qwen2") == ["qwen2-0.5b"]
        assert find(index, quantisation="Q4_0") == find(index, quantisation="q4_0") == ["llama-3.2-1b", "qwen2-0.5b"]
        assert find(index, license="APACHE-2.0") == ["qwen2-0.5b", "llama"]
        assert find(index, publisher="umbra") == find(index, publisher=UMBRA) == ["my-llama", "llama"]
        assert find(index, min_size=2 * GIB) == ["my-llama", "llama-3.2-1b"]
        assert find(index, max_size=7) == ["qwen2-0.5b", "llama"]

    def test_together_and_of_one_tag(self, index: Index) -> None:
        assert find(index, "llama", quantisation="Q4_0", min_size=GIB, publisher=ACME) == ["llama-3.2-1b"]
        assert find(index, quantisation="F16", max_size=GIB) == [], "no single tag of it is both"

    def test_a_publisher_that_nobody_is_has_nothing(self, index: Index) -> None:
        assert find(index, publisher="nobody") == find(index, publisher="a" * 52) == []


class TestOrder:
    def test_by_name_as_bytes(self, index: Index) -> None:
        assert find(index, sort=Sort.NAME) == ["llama", "llama-3.2-1b", "my-llama", "qwen2-0.5b", "whisper"]

    def test_by_the_smallest(self, index: Index) -> None:
        assert find(index, sort=Sort.SIZE) == ["llama", "qwen2-0.5b", "whisper", "llama-3.2-1b", "my-llama"]

    def test_by_age_even_with_words(self, index: Index) -> None:
        assert find(index, "llama", sort=Sort.NEWEST) == ["my-llama", "llama-3.2-1b", "llama"]

    def test_pages_join_without_gap_or_repetition(self, index: Index) -> None:
        pages = [find(index, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        assert [len(page) for page in pages] == [2, 2, 1, 0]
        assert [*pages[0], *pages[1], *pages[2]] == find(index)


class TestFacets:
    def test_models_are_counted_not_tags(self, index: Index) -> None:
        facets = index.listings.search(SearchQuery()).facets
        assert list(facets) == list(FACETS)
        assert facets["architecture"] == (FacetValue(value="llama", count=3), FacetValue(value="qwen2", count=1))
        assert facets["quantisation"] == (
            FacetValue(value="Q4_0", count=2), FacetValue(value="Q8_0", count=2), FacetValue(value="F16", count=1)
        )  # fmt: skip

    def test_a_facet_that_is_filtered_by_still_shows_its_other_values(self, index: Index) -> None:
        facets = index.listings.search(SearchQuery(quantisation="F16")).facets
        assert [one.value for one in facets["quantisation"]] == ["Q4_0", "Q8_0", "F16"]
        assert facets["architecture"] == (FacetValue(value="llama", count=1),)
        assert facets["license"] == (FacetValue(value="LLAMA3.2", count=1),)


class TestKeptUpToDate:
    """On databases of their own: they change what is listed."""

    @pytest.fixture(params=["sqlite", "postgresql"])
    def changing(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
        url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
        with Index.open(Home(tmp_path, url)) as opened:
            yield opened

    def test_what_is_changed_withdrawn_or_removed(self, changing: Index) -> None:
        list_all(changing, LISTED)
        assert find(changing, "quick") == ["llama-3.2-1b"]
        for change, expected in (
            (sa.update(ListingRow).values(words="Now something else", listed_at=5000.0), ([], True)),
            (sa.update(ListingRow).values(retracted="no", listed_at=5001.0), ([], False)),
            (sa.update(ListingRow).values(retracted=None, listed_at=5002.0), ([], True)),
            (sa.delete(ListingRow), ([], False)),
        ):
            with changing.database.write() as session:
                session.execute(change)
            assert (find(changing, "quick"), bool(find(changing, "something"))) == expected
        assert changing.damage() == ()

    def test_what_is_counted_is_counted_again_after_a_change(self, changing: Index) -> None:
        list_all(changing, LISTED)
        assert changing.listings.search(SearchQuery(license="mit")).total == 1
        publisher = changing.listings.search(SearchQuery(publisher="umbra"))
        assert (publisher.total, publisher.facets["license"][1].value) == (2, "MIT")
        with changing.database.write() as session:
            session.execute(
                sa.update(ListingRow).where(ListingRow.license == "MIT").values(retracted="no", listed_at=9000.5)
            )
        assert changing.listings.search(SearchQuery(license="mit")).total == 0
        publisher = changing.listings.search(SearchQuery(publisher="umbra"))
        assert (publisher.total, [one.value for one in publisher.facets["license"]]) == (1, ["Apache-2.0"])
        list_all(changing, [Listed(model="another", identity=UMBRA, namespace="second", listed_at=1.0)])
        assert changing.listings.search(SearchQuery(publisher="second")).total == 2

    def test_while_one_reads_what_changed_the_others_go_on(
        self, changing: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        list_all(changing, LISTED)
        assert find(changing, "whisper") == ["whisper"]
        with changing.database.write() as session:
            session.execute(sa.update(ListingRow).values(retracted="no", listed_at=9000.5))
        is_reading, may_go_on = threading.Event(), threading.Event()
        real = read_listed

        def slowly(session: Session, stamp: Stamp, before: Known | None) -> Known:
            is_reading.set()
            assert may_go_on.wait(60)
            return real(session, stamp, before)

        monkeypatch.setattr(search, "read_listed", slowly)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(find, changing, "llama")
            assert is_reading.wait(60)
            assert find(changing, "whisper") == [], "what was withdrawn isn't shown, whatever was known a moment ago"
            may_go_on.set()
            assert first.result(60) == []
        assert changing.listings.search(SearchQuery()).total == 0

    def test_of_many_tags_some_are_shown(self, changing: Index) -> None:
        many = MAX_TAGS + 5
        list_all(changing, [Listed(model="m", tag=f"t{n}", version=n, description="é" * 5000) for n in range(1, many)])
        (found,) = changing.listings.search(SearchQuery(text="m")).found
        assert [one.version for one in found.listings] == list(range(many - 1, many - 1 - MAX_TAGS, -1))
        assert found.matching == many - 1
        assert {len(one.description or "") for one in found.listings} == {500}

    def test_a_listing_full_of_words_can_be_kept(self, changing: Index) -> None:
        letters = [chr(code) for code in range(0x4E00, 0x4E00 + 8000)]
        list_all(
            changing, [Listed(model="m", description=" ".join(letters)), Listed(model="n", description="x" * 8192)]
        )
        assert find(changing, letters[5]) == ["m"]
        assert find(changing, "x" * 200) == ["n"]


class TestWordsAlone:
    @given(st.text(max_size=300))
    def test_what_is_searchable_stays_as_it_is(self, text: str) -> None:
        once = searchable(text)
        assert searchable(once) == once
        assert all(word.isalnum() and len(word) <= MAX_LETTERS for word in once.split(" ") if once)

    @given(st.text(st.characters(max_codepoint=127), max_size=300))
    def test_texts_of_plain_letters_are_read_in_a_shorter_way_to_the_same(self, text: str) -> None:
        assert words_of(text) == words_of(f"{text} \u03b1")[:-1]

    def test_letters_are_remembered_within_bounds(self) -> None:
        words_of("".join(map(chr, range(0x10000, 0x30000))))
        assert len(_LETTERS) <= _MAX_KNOWN
        assert words_of("straße — \U0001f999 中文") == ("strasse", "中文")

    def test_examples(self) -> None:
        assert words_of("Llama-3.2_1B  (Q4_0)\nllama!") == ("llama", "3", "2", "1b", "q4", "0")
        assert words_of("İstanbul ﬁn ½ Ⅷ", 3) == ("istanbul", "fin", "1")
        assert words_of("") == words_of("— “” …") == ()
