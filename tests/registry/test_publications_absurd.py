"""Publications that are valid by every signature and absurd: what one costs a registry is bounded by what it weighs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from catalog_kit import Edition, raw_entry
from service_kit import author
from sqlalchemy import event
from support.world import random_file
from trust_kit import NOW, Line, line_of

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications import accept as accepting
from samara.registry.publications import listing_rows
from samara.registry.publications.accept import Accepted, Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.trust.release import ProvenRelease, prove_listed
from samara.registry.trust.signing import sign_payload
from samara.schemas.digests import b3, sha256_text
from samara.schemas.errors import MalformedError
from samara.schemas.manifest import (
    BlockEntry,
    FileEntry,
    Predicate,
    PublisherEntry,
    Release,
    build_payload,
    parse_manifest,
)
from samara.schemas.publication import Publication
from samara.schemas.release_file import ReleaseBundle

RULES = Rules(claims=ClaimRules(origin="http://127.0.0.1:8642"))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty registry's."""
    with Index.open(Home(tmp_path / "registry")) as opened:
        yield opened


@pytest.fixture
def line() -> Line:
    """A publisher who signs by hand."""
    return line_of(1)


def manifest(
    line: Line,
    *,
    model: str = "tiny",
    tag: str = "v1",
    version: int = 1,
    text: bytes = b"a",
    texts: Sequence[bytes] | None = None,
    mirrors: list[str] | None = None,
) -> bytes:
    """A manifest of one file, or as many as `texts`, which travel inline."""
    contents = [text] if texts is None else texts
    files = [
        FileEntry(
            path=f"{number}.txt", size=len(one), role="other", layout="fixed-4MiB-v1",
            blocks=[BlockEntry(size=len(one), b3=b3(one))], inline=base64.b64encode(one).decode(), mirrors=mirrors,
        )
        for number, one in enumerate(contents)
    ]  # fmt: skip
    predicate = Predicate(
        publisher=PublisherEntry(identity=line.identity, name="acme"), model=model, tag=tag, version=version,
        created="2026-01-02T03:04:05Z", files=files,
    )  # fmt: skip
    return build_payload(predicate, [(b3(one), sha256_text(hashlib.sha256(one).digest())) for one in contents])


def release(line: Line, payload: bytes) -> ReleaseBundle:
    """Signed."""
    return ReleaseBundle(roots=(), envelope=sign_payload(payload, line.online_keys[:1]), torrents=())


def taken(index: Index, edition: Edition, *releases: ReleaseBundle, rules: Rules = RULES) -> Accepted:
    """Into the index, at the time of the kit."""
    return accept(index, Publication(metadata=edition.bundle, releases=releases), rules, now=NOW)


def refused(index: Index, edition: Edition, *releases: ReleaseBundle, rules: Rules = RULES) -> Reason:
    """Why it wasn't taken; nothing changed."""
    before = index.listings.metadata(edition.line.identity), index.listings.count()
    with pytest.raises(PublicationRefusedError) as caught:
        taken(index, edition, *releases, rules=rules)
    assert (index.listings.metadata(edition.line.identity), index.listings.count()) == before
    return caught.value.reason


def listed(index: Index, line: Line, model: str = "tiny") -> set[str]:
    """The tags of a model that mean something."""
    owner = index.listings.owner(line.identity)
    return {one.tag for one in index.listings.model(owner, model)} if owner is not None else set()


def named(payload: bytes, count: int, version: int = 1) -> Mapping[str, Any]:
    """So many tags of one release."""
    return {f"tiny/t{number}": raw_entry(payload, version=version) for number in range(count)}


class TestOneReleaseUnderManyNames:
    @pytest.mark.parametrize("name", ["nosuch/v1", "other/v1"])
    def test_under_another_model_it_is_refused(self, index: Index, line: Line, name: str) -> None:
        tiny, other = manifest(line), manifest(line, model="other", version=2)
        entries = {"tiny/v1": raw_entry(tiny), "other/v2": raw_entry(other, version=2)}
        edition = Edition(line=line, entries=entries)
        taken(index, edition, release(line, tiny), release(line, other))
        assert refused(index, edition.next(entries={**entries, name: raw_entry(tiny)})) is Reason.UNPROVEN
        assert listed(index, line) == {"v1"}
        assert listed(index, line, "other") == {"v2"}

    def test_as_another_version_it_is_refused(self, index: Index, line: Line) -> None:
        tiny = manifest(line)
        edition = Edition(line=line, entries={"tiny/v1": raw_entry(tiny)})
        taken(index, edition, release(line, tiny))
        assert refused(index, edition.next(entries={"tiny/v1": raw_entry(tiny, version=9)})) is Reason.UNPROVEN

    def test_its_manifest_is_read_once(self, index: Index, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        tiny, parsed = manifest(line), 0

        def counted(payload: bytes) -> Release:
            nonlocal parsed
            parsed += 1
            return parse_manifest(payload)

        edition = Edition(line=line, entries={"tiny/v1": raw_entry(tiny)})
        taken(index, edition, release(line, tiny))
        monkeypatch.setattr(listing_rows, "parse_manifest", counted)
        assert taken(index, edition.next(entries=named(tiny, 50))).listed == 50
        assert len(listed(index, line)) == 50
        assert parsed == 1

    def test_a_registry_lists_so_many_names_of_one_publisher(self, index: Index, line: Line) -> None:
        tiny, few = manifest(line), replace(RULES, listed=5)
        edition = Edition(line=line, entries=named(tiny, 6))
        assert refused(index, edition, release(line, tiny), rules=few) is Reason.QUOTA
        assert taken(index, replace(edition, entries=named(tiny, 5)), release(line, tiny), rules=few).listed == 5


class TestOneReleaseTwice:
    def test_in_one_publication_it_is_proven_once(
        self, index: Index, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tiny, proven = manifest(line), 0

        def counted(*told: Any) -> ProvenRelease:
            nonlocal proven
            proven += 1
            return prove_listed(*told)

        monkeypatch.setattr(accepting, "prove_listed", counted)
        edition = Edition(line=line, entries={"tiny/v1": raw_entry(tiny)})
        assert taken(index, edition, *[release(line, tiny)] * 20).added == 1
        assert proven == 1


class TestTurningBackAndForth:
    """Who takes all names away and gives them again makes the registry read what it has: so much at a time."""

    def test_what_is_beyond_is_told_as_missing_and_may_be_sent(self, index: Index, line: Line) -> None:
        payloads = [manifest(line, version=number, text=b"%d" % number) for number in range(1, 5)]
        entries = {f"tiny/v{number}": raw_entry(one, version=number) for number, one in enumerate(payloads, 1)}
        full = Edition(line=line, entries=entries)
        rules = replace(RULES, read_bytes=2 * max(map(len, payloads)))
        assert taken(index, full, *(release(line, one) for one in payloads), rules=rules).listed == 4
        empty = full.next(entries={})
        assert taken(index, empty, rules=rules).listed == 0
        again = empty.next(entries=entries)
        first = taken(index, again, rules=rules)
        assert (first.listed, len(first.missing)) == (2, 2)
        sent = [
            release(line, one)
            for one in payloads
            if any(entries[path] == raw_entry(one, version=int(path[-1])) for path in first.missing)
        ]
        assert (taken(index, again, *sent, rules=rules).listed, listed(index, line)) == (4, {"v1", "v2", "v3", "v4"})

    def test_a_name_that_means_something_unread_means_nothing_for_now(self, index: Index, line: Line) -> None:
        old, new = manifest(line), manifest(line, version=2, text=b"b")
        edition = Edition(line=line, entries={"tiny/v1": raw_entry(old), "tiny/v2": raw_entry(new, version=2)})
        taken(index, edition, release(line, old), release(line, new))
        moved = edition.next(entries={"tiny/v1": raw_entry(new, version=2)})
        assert taken(index, moved, rules=replace(RULES, read_bytes=1)).missing == ("tiny/v1",)
        assert listed(index, line) == set()  # never what the catalog doesn't say any more


class TestEndlessEvidence:
    def test_of_one_publisher_so_much_is_kept(self, index: Index, line: Line) -> None:
        edition = Edition(line=line)
        taken(index, edition)
        for number in range(accepting.MAX_EVIDENCE + 5):
            other = replace(edition, entries={f"tiny/other{number}": raw_entry(b"other")})
            assert refused(index, other) is Reason.EQUIVOCATION
        assert len(index.listings.equivocations(line.identity)) == accepting.MAX_EVIDENCE

    def test_large_documents_fill_it_sooner(self, index: Index, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(accepting, "MAX_EVIDENCE_BYTES", 1)
        edition = Edition(line=line)
        taken(index, edition)
        for number in range(3):
            refused(index, replace(edition, entries={f"tiny/other{number}": raw_entry(b"other")}))
        assert len(index.listings.equivocations(line.identity)) == 1


class TestWhatItWeighs:
    def test_values_are_counted_before_they_are_read(self, index: Index, line: Line) -> None:
        tiny = manifest(line)
        entry = raw_entry(tiny)
        entry["custom"]["samara"]["filler"] = [[]] * 500
        edition = Edition(line=line, entries={"tiny/v1": entry})
        with pytest.raises(MalformedError, match="too many values for its names"):
            taken(index, edition, release(line, tiny), rules=replace(RULES, listed=2))
        assert taken(index, edition, release(line, tiny), rules=replace(RULES, listed=100)).added == 1

    def test_those_of_all_releases_together(self, index: Index, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        one, two = manifest(line), manifest(line, version=2, text=b"b")
        entries = {"tiny/v1": raw_entry(one), "tiny/v2": raw_entry(two, version=2)}
        edition = Edition(line=line, entries=entries)
        marks = sum(map(one.count, (b",", b"[", b"{")))
        monkeypatch.setattr(accepting, "MAX_JSON_MARKS", marks)
        with pytest.raises(MalformedError, match="several publications"):
            taken(index, edition, release(line, one), release(line, two))
        assert taken(index, edition, release(line, one)).missing == ("tiny/v2",)
        assert taken(index, edition, release(line, two)).missing == ()

    def test_torrents_count_for_the_quota(self, index: Index, tmp_path: Path) -> None:
        acme = author(tmp_path / "acme", "acme")
        acme.publish("blob:v1", [random_file(tmp_path / "blob.bin", 900_000, seed=1)])
        sent = acme.publication()
        payload = sum(len(one.envelope.payload) for one in sent.releases)
        torrents = sum(len(data) for one in sent.releases for data in one.torrents)
        small = replace(RULES, stored_bytes=payload + torrents - 1)
        with pytest.raises(PublicationRefusedError) as caught:
            accept(index, sent, small, now=datetime.now(UTC))
        assert caught.value.reason is Reason.QUOTA
        assert accept(index, sent, replace(small, stored_bytes=payload + torrents), now=datetime.now(UTC)).added == 1

    def test_a_release_of_many_files_is_written_in_few_questions(self, index: Index, line: Line) -> None:
        asked: list[str] = []

        def heard(*told: Any) -> None:
            asked.append(told[2])

        texts = [b"%d" % number for number in range(2000)]
        many = manifest(line, texts=texts)
        event.listen(sa.Engine, "before_cursor_execute", heard)
        try:
            taken(index, Edition(line=line, entries={"tiny/v1": raw_entry(many)}), release(line, many))
        finally:
            event.remove(sa.Engine, "before_cursor_execute", heard)
        stored = index.release_by_digest(b3(many))
        assert stored is not None
        assert stored.envelope.payload == many
        assert all(index.blob(b3(text)) is not None for text in (texts[0], texts[999], texts[-1]))
        assert len(index.blocks(b3(texts[-1]))) == 1
        assert len(asked) < 200, "one question a file: minutes of the database's lock for one publication"

    def test_names_of_mirrors_are_looked_up_aside(self, index: Index, line: Line) -> None:
        """Whoever has a slow DNS holds nobody up."""
        told: list[str] = []

        @contextmanager
        def aside() -> Iterator[None]:
            told.append("aside")
            yield
            told.append("back")

        def resolve(host: str, _port: int) -> Sequence[str]:
            told.append(host)
            return ("93.184.215.14",)

        tiny = manifest(line, mirrors=["https://mirror.example/tiny"])
        edition = Edition(line=line, entries={"tiny/v1": raw_entry(tiny)})
        taken(index, edition, release(line, tiny), rules=replace(RULES, resolve=resolve, aside=aside))
        assert told == ["aside", "mirror.example", "back"]
