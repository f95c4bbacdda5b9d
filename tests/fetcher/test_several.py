"""Several releases in one pull: by name, from a lockfile, with blobs in common; each visible as soon as it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mirrors import mirror
from support.processes import pulling, samara
from support.pulls import Pull, options, pulled
from support.swarms import seeding
from support.world import MIB, Shelf, assert_pulled, leftovers, random_file, shelf, trusting_home

from samara.fetcher.pull import pull
from samara.registry.home import Home
from samara.schemas.errors import NetworkError, TrustError, UsageError
from samara.schemas.events import FileReady, OverallProgress

SIZE = 4 * MIB


@pytest.fixture
def two(tmp_path: Path) -> tuple[Shelf, Shelf]:
    folder = tmp_path / "shelf"
    first = shelf(folder, [random_file(folder / "a" / "a.bin", SIZE, seed=1)], reference="acme/a:v1")
    second = shelf(
        folder, [random_file(folder / "b" / "b.bin", SIZE // 2, seed=2)], reference="acme/b:v1",
        publisher=first.publisher,
    )  # fmt: skip
    return first, second


def test_two_at_once_with_overall_progress(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    home = trusting_home(tmp_path / "home", two[0])
    seen: list[OverallProgress] = []
    with seeding(two[0]) as one, seeding(two[1]) as other:
        done = pull(
            home,
            [str(shelved.file) for shelved in two],
            options(one.endpoint, other.endpoint),
            on_event=lambda event: seen.append(event) if isinstance(event, OverallProgress) else None,
        )
    assert [release.reference for release in done.releases] == ["acme/a:v1", "acme/b:v1"]
    assert (done.bytes_total, done.bytes_from_peers) == (SIZE + SIZE // 2, SIZE + SIZE // 2)
    for shelved in two:
        assert_pulled(home, shelved)
    assert seen[0].files == 2
    assert seen[0].total == SIZE + SIZE // 2
    assert [event.done for event in seen] == sorted(event.done for event in seen)


def test_a_release_that_is_whole_is_visible_before_the_others(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    home = trusting_home(tmp_path / "home", two[0])
    with seeding(two[1]) as peer, pulling(home, two[0].file, two[1].file, "--peer", peer.text) as process:
        ready = process.expect("file_ready")
        assert ready["path"] == "b.bin"
        assert Path(ready["location"]).read_bytes() == two[1].source.read_bytes()
    with seeding(two[0]) as peer:
        pulled(home, two[0].file, options(peer.endpoint))
    assert leftovers(home) == []


def test_nobody_has_one_of_them(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    home = trusting_home(tmp_path / "home", two[0])
    with seeding(two[0]) as peer, pytest.raises(NetworkError):
        pull(home, [str(one.file) for one in two], options(peer.endpoint, give_up_after=2.0))
    assert home.blob(two[0].only.b3_hex).exists()


def test_a_blob_in_common_comes_once(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    files = [random_file(folder / name / "weights.bin", SIZE, seed=1) for name in "ab"]
    first = shelf(folder, [files[0]], reference="acme/a:v1")
    second = shelf(folder, [files[1]], reference="acme/b:v1", publisher=first.publisher)
    home = trusting_home(tmp_path / "home", first)
    with seeding(first) as peer:
        done = pull(home, [str(first.file), str(second.file)], options(peer.endpoint))
    assert done.bytes_from_peers == SIZE
    assert_pulled(home, first)
    assert_pulled(home, second)


def test_one_that_cannot_be_trusted_stops_all_before_a_byte(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    (tmp_path / "strangers").mkdir()
    stranger = shelf(tmp_path / "strangers", [two[0].source], reference="mallory/a:v1")
    home = trusting_home(tmp_path / "home", two[0])
    with seeding(two[0]) as peer, pytest.raises(TrustError):
        pull(home, [str(two[0].file), str(stranger.file)], options(peer.endpoint))
    assert not home.partials.exists()


def test_the_same_twice_is_once(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    home = trusting_home(tmp_path / "home", two[0])
    with seeding(two[0]) as peer:
        done = pull(home, [str(two[0].file), str(two[0].file)], options(peer.endpoint))
    assert len(done.releases) == 1


def test_one_folder_for_files_of_one_name(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    first = shelf(folder, [random_file(folder / "a" / "w.bin", MIB, seed=1)], reference="acme/a:v1")
    second = shelf(
        folder, [random_file(folder / "b" / "w.bin", MIB, seed=2)], reference="acme/b:v1", publisher=first.publisher
    )  # fmt: skip
    home = trusting_home(tmp_path / "home", first)
    with seeding(first) as peer, pytest.raises(UsageError, match=r"w\.bin"):
        pull(home, [str(first.file), str(second.file)], options(peer.endpoint, to=tmp_path / "out"))


def test_everything_that_a_lockfile_names(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    locked = tmp_path / "samara.lock"
    locked.write_text(samara(two[0].home, "lock", "acme/a:v1", "acme/b:v1").stdout)
    home = trusting_home(tmp_path / "home", two[0])
    with seeding(two[0]) as one, seeding(two[1]) as other:
        for shelved, peer in zip(two, (one, other), strict=True):
            Pull(home, shelved.file, options(peer.endpoint)).result()
        ended = samara(home, "pull", "--lockfile", locked, "--no-discovery", "--json")
    assert ended.status == 0, ended.stderr[-2000:]
    assert [release["manifest"] for release in ended.result["releases"]] == [one.release.digest for one in two]


def test_nothing_named(tmp_path: Path) -> None:
    ended = samara(Home(tmp_path / "home"), "pull")
    assert ended.status == 2
    assert "nothing to pull" in ended.message


def test_each_file_is_told_once(tmp_path: Path, two: tuple[Shelf, Shelf]) -> None:
    with mirror(tmp_path / "shelf" / "a"):
        home = trusting_home(tmp_path / "home", two[0])
        with seeding(two[0]) as peer:
            made = Pull(home, two[0].file, options(peer.endpoint))
            made.result()
    assert [event.path for event in made.of(FileReady)] == ["a.bin"]
