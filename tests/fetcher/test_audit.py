"""`audit`: each rule by its facts alone, then real stores with one thing wrong each."""

from __future__ import annotations

import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from support.pulls import pull_half
from support.world import Shelf, flip, one_blob, trusting_home

from samara.fetcher.audit import (
    BlobFact,
    Facts,
    Finding,
    LeftoverFact,
    Level,
    LocationFact,
    ReleaseFact,
    findings,
    outcome,
)
from samara.fetcher.audit_facts import collect
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import ExitCode, NotFoundError

GOOD_PLACE = LocationFact(
    b3="b3:00", path="/m/x", in_store=True, exists=True, stamp_matches=True, is_read_only=True, bad_blocks=(),
    whole_matches=True,
)  # fmt: skip
GOOD_BLOB = BlobFact(b3="b3:00", name="acme/x:y", is_known=True, blocks_match=True, locations=1)


def rules(facts: Facts) -> list[str]:
    """The rules that speak, worst first."""
    return [finding.rule for finding in findings(facts)]


def test_nothing_wrong_gives_no_finding_and_exit_0() -> None:
    facts = Facts(
        releases=(ReleaseFact(name="acme/x:y", manifest="b3:11", problem=None),),
        blobs=(GOOD_BLOB,),
        locations=(GOOD_PLACE,),
    )
    assert findings(facts) == ()
    assert outcome(()) is ExitCode.OK


@pytest.mark.parametrize(
    ("facts", "rule", "level"),
    [
        (Facts(index_damage=("row 3 missing",)), "index-damaged", Level.ERROR),
        (Facts(releases=(ReleaseFact(name="x", manifest="m", problem="no"),)), "manifest-bad", Level.ERROR),
        (
            Facts(releases=(ReleaseFact(name="x", manifest="m", problem="no", is_trust_problem=True),)),
            "signature-bad",
            Level.ERROR,
        ),
        (Facts(blobs=(replace(GOOD_BLOB, is_known=False),)), "blob-unknown", Level.ERROR),
        (Facts(blobs=(replace(GOOD_BLOB, blocks_match=False),)), "index-blocks-differ", Level.ERROR),
        (Facts(blobs=(replace(GOOD_BLOB, locations=0),)), "blob-not-here", Level.NOTE),
        (Facts(locations=(replace(GOOD_PLACE, exists=False),)), "file-gone", Level.ERROR),
        (Facts(locations=(replace(GOOD_PLACE, exists=False, in_store=False),)), "file-gone", Level.WARNING),
        (Facts(locations=(replace(GOOD_PLACE, bad_blocks=("block 3",)),)), "block-bad", Level.ERROR),
        (Facts(locations=(replace(GOOD_PLACE, whole_matches=False),)), "whole-bad", Level.ERROR),
        (Facts(locations=(replace(GOOD_PLACE, stamp_matches=False),)), "stamp-changed", Level.WARNING),
        (Facts(locations=(replace(GOOD_PLACE, is_read_only=False),)), "blob-writable", Level.WARNING),
        (Facts(locations=(replace(GOOD_PLACE, unreadable="io error"),)), "unchecked", Level.UNCHECKED),
        (Facts(leftovers=(LeftoverFact(kind="blob", path="p", size=1),)), "leftover-blob", Level.WARNING),
        (Facts(leftovers=(LeftoverFact(kind="temporary", path="p", size=1),)), "leftover-temporary", Level.WARNING),
        (Facts(leftovers=(LeftoverFact(kind="view", path="p", size=1),)), "leftover-view", Level.WARNING),
        (Facts(leftovers=(LeftoverFact(kind="partial", path="p", size=1),)), "leftover-partial", Level.NOTE),
        (Facts(lost_partials=("b3:00",)), "partial-gone", Level.NOTE),
        (Facts(unchecked=(("x", "why"),)), "unchecked", Level.UNCHECKED),
    ],
)
def test_each_rule_speaks_of_its_fact_alone(facts: Facts, rule: str, level: Level) -> None:
    (finding,) = findings(facts)
    assert (finding.rule, finding.level) == (rule, level)


def test_a_touched_file_in_place_is_no_error_and_a_writable_one_is_its_owners_business() -> None:
    in_place = replace(GOOD_PLACE, in_store=False, is_read_only=False)
    assert rules(Facts(locations=(in_place,))) == []


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ([Level.NOTE], ExitCode.OK),
        ([Level.WARNING], ExitCode.FINDINGS),
        ([Level.UNCHECKED], ExitCode.UNCHECKED),
        ([Level.UNCHECKED, Level.ERROR], ExitCode.FINDINGS),
    ],
)
def test_exit_codes_tell_clean_findings_and_unchecked_apart(levels: list[Level], code: ExitCode) -> None:
    assert outcome(Finding(rule="r", level=level, subject="s", message="m") for level in levels) is code


@pytest.fixture
def published(tmp_path: Path) -> Shelf:
    """A release of one blob, in its publisher's home."""
    return one_blob(tmp_path, size=1 << 20)


def test_a_publishers_store_is_clean(published: Shelf) -> None:
    facts = collect(published.home)
    assert findings(facts) == ()
    assert len(facts.releases) == len(facts.blobs) == len(facts.locations) == 1


def test_rot_in_a_published_file_names_the_block(published: Shelf) -> None:
    flip(published.source, 100)
    (finding,) = findings(collect(published.home))
    assert finding.rule == "block-bad"
    assert "block 0 (bytes 0–" in finding.message


def test_rot_is_not_looked_for_when_blocks_are_skipped(published: Shelf) -> None:
    flip(published.source, 100)
    assert findings(collect(published.home, read_blocks=False)) == ()


def test_a_file_longer_than_its_blob_is_found(published: Shelf) -> None:
    with published.source.open("ab") as file:
        file.write(b"more")
    assert rules(collect(published.home)) == ["whole-bad"]


def test_a_touched_file_with_the_right_bytes_is_a_warning(published: Shelf) -> None:
    os.utime(published.source, ns=(1, 1))
    (finding,) = findings(collect(published.home))
    assert finding.rule == "stamp-changed"
    assert "its bytes are right" in finding.message


def test_a_deleted_file_is_found(published: Shelf) -> None:
    published.source.unlink()
    assert rules(collect(published.home)) == ["file-gone"]


def test_a_publisher_who_is_no_longer_pinned_makes_signature_and_blocks_findings(published: Shelf) -> None:
    TrustFolder(published.home.trust).remove(published.publisher.name)
    assert rules(collect(published.home)) == ["signature-bad", "unchecked"]


def sql(published: Shelf, statement: str, *values: object) -> None:
    """Change the index behind everybody's back."""
    with sqlite3.connect(published.home.index) as connection:
        connection.execute(statement, values)
    connection.close()


def test_a_bit_flipped_in_the_indexs_manifest_is_found(published: Shelf) -> None:
    with sqlite3.connect(published.home.index) as connection:
        payload = bytearray(connection.execute("SELECT payload FROM releases").fetchone()[0])
    connection.close()
    payload[payload.index(b"blob.bin")] ^= 1
    sql(published, "UPDATE releases SET payload = ?", bytes(payload))
    assert "manifest-bad" in rules(collect(published.home)) or "signature-bad" in rules(collect(published.home))


def test_a_bit_flipped_in_the_indexs_blocks_is_found(published: Shelf) -> None:
    sql(published, "UPDATE blocks SET digest = zeroblob(32) WHERE ordinal = 0")
    assert rules(collect(published.home)) == ["index-blocks-differ"]


def test_another_layout_in_the_index_switches_no_check_off(published: Shelf) -> None:
    sql(published, "UPDATE blobs SET layout = 'something-else'")
    sql(published, "UPDATE blocks SET digest = zeroblob(32) WHERE ordinal = 0")
    assert rules(collect(published.home)) == ["index-blocks-differ"]


@pytest.mark.parametrize(
    ("change", "unchecked"),
    [
        ("UPDATE releases SET signatures = 'no json'", True),
        ("UPDATE blobs SET size = 'many'", True),
        ("UPDATE blocks SET digest = 'text'", False),
    ],
)
def test_a_row_that_is_no_value_is_damage_and_the_rest_is_looked_at(
    published: Shelf, change: str, unchecked: bool
) -> None:
    sql(published, change)
    stray = published.home.blobs / "ab" / ".samara-tmp-1"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    found = rules(collect(published.home))
    assert {"index-damaged", "leftover-temporary"} <= set(found)
    assert ("unchecked" in found) is unchecked


def test_a_file_that_cannot_be_looked_at_is_unchecked_not_gone(published: Shelf) -> None:
    published.source.unlink()
    published.source.symlink_to(published.source)
    found = findings(collect(published.home))
    assert [finding.rule for finding in found] == ["unchecked"]
    assert outcome(found) is ExitCode.UNCHECKED


def test_a_folder_that_cannot_be_looked_into_is_unchecked(published: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str | os.PathLike[str]) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for folder in (published.home.blobs, published.home.models):
        folder.mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.setattr(os, "listdir", refused)
    facts = collect(published.home, read_blocks=False)
    places = {published.home.blobs, published.home.models, published.home.root}
    assert {str(place) for place in places} <= {subject for subject, _why in facts.unchecked}


def test_a_bit_flipped_in_the_indexs_torrent_is_found(published: Shelf) -> None:
    damaged = bytearray(published.torrent)
    damaged[-40] ^= 1
    sql(published, "UPDATE torrents SET data = ?", bytes(damaged))
    assert "manifest-bad" in rules(collect(published.home))


def test_an_orphaned_row_is_found(published: Shelf) -> None:
    sql(published, "UPDATE files SET blob_id = 4711")
    assert "index-damaged" in rules(collect(published.home))


def test_leftovers_of_every_kind_are_found(published: Shelf, tmp_path: Path) -> None:
    home = published.home
    stray = home.blob("ab" * 32)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")
    (stray.parent / ".samara-tmp-1").write_bytes(b"x")
    view = home.models / "acme" / "m" / "t" / "f"
    view.parent.mkdir(parents=True)
    view.symlink_to(tmp_path / "gone")
    found = rules(collect(home))
    assert found == ["leftover-blob", "leftover-temporary", "leftover-view"]


def test_an_unfinished_transfer_is_a_note(published: Shelf, tmp_path: Path) -> None:
    home = trusting_home(tmp_path / "puller", published)
    pull_half(home, published)
    found = findings(collect(home))
    assert {finding.rule for finding in found} == {"leftover-partial", "blob-not-here"}
    assert outcome(found) is ExitCode.OK


def test_a_removed_partial_is_temporary_and_a_noted_one_without_its_folder_is_noted(published: Shelf) -> None:
    (published.home.partials / ".samara-tmp-1").mkdir(parents=True)
    sql(published, "INSERT INTO partials (blob_id, release_id, started_at) SELECT id, 1, 1.0 FROM blobs")
    found = findings(collect(published.home))
    assert [finding.rule for finding in found] == ["leftover-temporary", "partial-gone"]


def test_there_is_nothing_to_audit_where_nothing_was_ever_kept(tmp_path: Path, published: Shelf) -> None:
    with pytest.raises(NotFoundError):
        collect(trusting_home(tmp_path / "empty", published))
