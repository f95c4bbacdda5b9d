"""What a power cut or a bad disk leaves of the trust files. Nothing older gets through, whichever of them is gone."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from catalog_kit import DAY, Edition, Machine, machine
from trust_kit import NOW, Line, line_of

from samara.registry.trust.catalog_client import Accepted, Seen, _seen_bytes
from samara.schemas.errors import DiskFullError, StoreError, TrustError

FILES = ("metadata", "seen.json", "roots/1.root.json", "roots/2.root.json", "pin.json")
LOSSES = [some for count in range(1, len(FILES) + 1) for some in itertools.combinations(FILES, count)]


@pytest.fixture
def line() -> Line:
    return line_of(3)


@pytest.fixture
def acme(tmp_path: Path, line: Line) -> Machine:
    """Knows roots 1 and 2 and version 3 of everything."""
    made = machine(tmp_path, line)
    made.accept(Edition(line=line, root=2, timestamp=3, snapshot=3, targets=3).at())
    return made


def lose(acme: Machine, files: Sequence[str], left: bytes) -> None:
    for file in files:
        assert (acme.folder / file).is_file()
        (acme.folder / file).write_bytes(left)


@pytest.mark.parametrize("lost", LOSSES, ids="+".join)
def test_zero_length_files_let_nothing_older_through(acme: Machine, line: Line, lost: tuple[str, ...]) -> None:
    lose(acme, lost, b"")
    older = [
        Edition(line=line, root=2, timestamp=2, snapshot=3, targets=3),
        Edition(line=line, root=2, timestamp=4, snapshot=2, targets=3),
        Edition(line=line, root=2, timestamp=4, snapshot=4, targets=2),
        Edition(line=line, root=1, timestamp=9, snapshot=9, targets=9),
    ]
    for edition in older:
        with pytest.raises((TrustError, StoreError)):
            acme.accept(edition.at())


@pytest.mark.parametrize("lost", LOSSES, ids="+".join)
def test_the_next_catalog_heals_what_it_can_and_the_rest_says_what_to_type(
    acme: Machine, line: Line, lost: tuple[str, ...]
) -> None:
    lose(acme, lost, b"")
    following = Edition(line=line, root=2, timestamp=4, snapshot=4, targets=4).at()
    if {"metadata", "seen.json"} <= set(lost) or "pin.json" in lost:
        with pytest.raises(StoreError, match="damaged") as caught:
            acme.accept(following)
        assert f"samara trust remove {line.identity}" in str(caught.value)
        acme.trust.remove(line.identity)
        acme.trust.add("acme", line.identity, now=NOW)
    acme.accept(following)
    assert acme.version == 4
    assert acme.client.damage() is None
    assert acme.client.seen().versions["timestamp"] == 4
    known = acme.trust.stored_chain(line.identity)
    assert known is not None
    assert known.version == 2


@pytest.mark.parametrize("left", [b"{", b"\x00" * 512, b'{"format": "samara-seen-1"}', b"d6:formati1ee"])
def test_damage_of_other_kinds_is_no_better_than_nothing(acme: Machine, line: Line, left: bytes) -> None:
    lose(acme, ("metadata", "seen.json"), left)
    with pytest.raises(StoreError):
        acme.accept(Edition(line=line, root=2, timestamp=2, snapshot=2, targets=2).at())


def test_a_memory_without_a_catalog_is_as_bad_as_none_at_all(acme: Machine, line: Line) -> None:
    """seen.json can't be read and the catalog is gone altogether: how new it was, nobody knows."""
    (acme.folder / "metadata").unlink()
    lose(acme, ("seen.json",), b"")
    with pytest.raises(StoreError):
        acme.accept(Edition(line=line, root=2, timestamp=2, snapshot=2, targets=2).at())


def test_the_floor_of_time_outlives_a_lost_catalog(acme: Machine, line: Line) -> None:
    acme.accept(Edition(line=line, root=2, timestamp=4, snapshot=4, targets=4).at(), now=NOW + 10 * DAY)
    lose(acme, ("metadata",), b"")
    short = Edition(line=line, root=2, timestamp=5, snapshot=5, targets=5, expires={"timestamp": NOW + DAY})
    with pytest.raises(TrustError, match="expired"):
        acme.accept(short.at(), now=NOW)


def test_a_told_root_is_not_forgotten_with_a_damaged_pin(tmp_path: Path, line: Line) -> None:
    """Trust was told to begin with root 2. A pin that can't be read is no pin without that condition."""
    acme = machine(tmp_path / "told", line)
    acme.trust.add("acme", line.identity, now=NOW, root=(2, "ab" * 32))
    with pytest.raises(TrustError, match="not the one you told"):
        acme.check(Edition(line=line, root=2).at())
    lose(acme, ("pin.json",), b"")
    with pytest.raises(StoreError):
        acme.check(Edition(line=line, root=2).at())


@pytest.mark.long
def test_what_is_remembered_always_fits_its_own_bound(acme: Machine, line: Line) -> None:
    """Or a publisher with long numbers, or a source with a long name, could make the memory unreadable."""
    long = Edition(line=line, root=2, timestamp=2**53 - 1, snapshot=2**53 - 1, targets=2**53 - 1)
    for _ in range(70):
        state = acme.check(long.at(), now=NOW + 40 * DAY, allow_stale=True)
        acme.client.commit(state, now=NOW + 40 * DAY, source="x" * 4096)
    assert acme.client.damage() is None
    accepted = acme.client.seen().accepted
    assert len(accepted) == 64
    assert all(len(one.source) <= 200 for one in accepted)


def test_seen_is_read_as_it_was_written(acme: Machine) -> None:
    seen = Seen(
        floor=NOW,
        keys="ab cd",
        versions={"timestamp": 3},
        timestamps={3: "ef"},
        accepted=(Accepted(at="2026-01-02T03:04:05Z", roles=("timestamp",), source="a share", timestamp_version=3),),
    )
    (acme.folder / "seen.json").write_bytes(_seen_bytes(seen))
    assert acme.client.seen() == seen


def test_a_full_disk_leaves_what_was_there(acme: Machine, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {file: (acme.folder / file).read_bytes() for file in FILES}
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskFullError):
        acme.accept(Edition(line=line, root=3, timestamp=4, snapshot=4, targets=4).at())
    monkeypatch.undo()
    assert {file: (acme.folder / file).read_bytes() for file in FILES} == before
    acme.accept(Edition(line=line, root=3, timestamp=4, snapshot=4, targets=4).at())
    assert acme.version == 4
