"""`samara ls`, `du`, `rm`: what is here, what it takes, and what goes when something is forgotten."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Samara, make_samara
from filelock import FileLock
from support.world import MIB, leftovers, random_file

from samara.registry.holdings import HeldRelease
from samara.registry.index import Index
from samara.schemas.errors import ExitCode

LICENCE_SIZE = 100_000  # too long to travel inline
HOUR = 3600


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


@pytest.fixture
def published(samara: Samara) -> Samara:
    """A machine that publishes two releases of acme/tiny with one licence, in place."""
    samara.publisher()
    random_file(samara.folder / "LICENSE", LICENCE_SIZE, seed=1)
    for seed, tag in enumerate(("q8", "q4"), start=2):
        random_file(samara.folder / f"{tag}.bin", MIB, seed=seed)
        samara("publish", f"{tag}.bin", "LICENSE", "--as", f"acme/tiny:{tag}")
    return samara


@pytest.fixture
def there(published: Samara) -> Samara:
    """Another machine that got both by a bundle, into its store."""
    carry(published, "acme/tiny:q8", "acme/tiny:q4")
    return published


def carry(samara: Samara, *references: str, to: str = "there") -> None:
    """From the publisher's machine to another one, which is the one to use from now on."""
    samara.use("home")
    identity = samara.json("publisher", "show", "acme")["identity"]
    stick = samara.folder / f"stick-{len(list(samara.folder.glob('stick-*')))}.tar.zst"
    samara("bundle", "export", *references, str(stick))
    samara.use(to)
    samara("trust", "add", "acme", "--identity", identity, "--yes")
    samara("bundle", "import", str(stick))


def held(samara: Samara) -> tuple[HeldRelease, ...]:
    with Index.open(samara.home) as index:
        return index.holdings().releases


def tagged(samara: Samara, tag: str) -> HeldRelease:
    """The newest of that tag. A bundle's releases are recorded in no particular order."""
    return max((release for release in held(samara) if release.tag == tag), key=lambda release: release.version)


def stored(samara: Samara) -> set[str]:
    """The blobs in the store."""
    return {path.name for path in samara.home.blobs.glob("*/*")}


def views(samara: Samara) -> set[str]:
    return {
        path.relative_to(samara.home.models).as_posix() for path in samara.home.models.rglob("*") if not path.is_dir()
    }


def rows(samara: Samara, *arguments: str) -> dict[str, Any]:
    return {row["reference"]: row for row in samara.json("ls", *arguments)["releases"]}


def aged(path: Path, hours: float) -> Path:
    """As if nobody had touched it, or anything in it, for so long. (What the inode says of itself can't be set.)"""
    for each in (path, *path.rglob("*")):
        found = each.lstat()
        os.utime(each, (found.st_atime - hours * HOUR, found.st_mtime - hours * HOUR), follow_symlinks=False)
    return path


class TestLs:
    def test_nothing_is_here(self, samara: Samara) -> None:
        assert samara.json("ls") == {"releases": []}
        assert "samara pull" in samara("ls").err
        assert not samara.home.root.exists()

    def test_whole_in_the_store_and_in_place(self, there: Samara) -> None:
        row = rows(there)["acme/tiny:q8"]
        size = MIB + LICENCE_SIZE
        assert (row["state"], row["size"], row["here"], row["in_place"]) == ("whole", size, size, 0)
        assert there("ls").out.splitlines() == [
            "acme/tiny:q8  v1  1.1 MB  whole",
            "acme/tiny:q4  v2  1.1 MB  whole",
        ]
        there.use("home")
        assert {row["state"] for row in rows(there).values()} == {"in place"}

    def test_a_changed_file_in_place_is_not_here(self, published: Samara) -> None:
        random_file(published.folder / "q8.bin", MIB, seed=9)
        found = rows(published)
        assert (found["acme/tiny:q8"]["state"], found["acme/tiny:q8"]["in_place"]) == ("partial", LICENCE_SIZE)
        assert found["acme/tiny:q4"]["state"] == "in place"

    def test_half_a_transfer(self, there: Samara) -> None:
        (file, _) = tagged(there, "q8").files
        blob = there.home.blob(file.b3.removeprefix("b3:"))
        partial = there.home.partials / blob.name
        partial.mkdir(parents=True)
        (partial / "data").write_bytes(blob.read_bytes()[: MIB // 2])
        blob.unlink()
        row = rows(there)["acme/tiny:q8"]
        assert (row["state"], row["partial"], row["here"]) == ("partial", MIB // 2, LICENCE_SIZE)
        assert "partial (624.3 kB)" in there("ls").out

    @pytest.mark.parametrize("model", ["tiny", "acme/tiny", "acme", "acme/tiny:q?", "acme/t*"])
    def test_by_model(self, there: Samara, model: str) -> None:
        assert len(rows(there, model)) == 2

    def test_of_one_that_is_not_here(self, there: Samara) -> None:
        assert len(rows(there, "acme/tiny:q4", "nothing")) == 1
        assert "samara ls" in there("ls", "nothing", code=ExitCode.NOT_FOUND).err

    def test_withdrawn_and_outdated(self, there: Samara) -> None:
        there.use("home")
        there("retract", "acme/tiny:q4", "--reason", "wrong weights")
        random_file(there.folder / "q8.bin", MIB, seed=7)
        there("publish", "q8.bin", "LICENSE", "--as", "acme/tiny:q8")
        carry(there, "acme/tiny:q8")
        old, new = sorted((one.version, one.manifest) for one in held(there) if one.tag == "q8")
        found = rows(there)
        assert found["acme/tiny:q8"]["manifest"] == new[1]
        assert (found[f"acme/tiny@{old[1]}"]["newer"], found["acme/tiny:q4"]["withdrawn"]) == (3, "wrong weights")
        shown = there("ls").out
        assert "version 3 is out" in shown
        assert "WITHDRAWN: wrong weights" in shown

    def test_what_only_a_catalog_lists(self, published: Samara) -> None:
        carry(published, "acme/tiny:q8")
        assert set(rows(published)) == {"acme/tiny:q8"}
        everything = rows(published, "--all")
        assert (everything["acme/tiny:q4"]["state"], everything["acme/tiny:q4"]["size"]) == ("absent", None)


class TestDu:
    def test_nothing_is_here(self, samara: Samara) -> None:
        assert samara.json("du")["total"] == 0
        assert not samara.home.root.exists()

    def test_every_file_counts_once(self, there: Samara) -> None:
        used = there.json("du")
        on_disk = {path: path.stat().st_blocks * 512 for path in there.home.blobs.glob("*/*")}
        assert used["blobs"] == sum(on_disk.values())
        assert (used["view_copies"], used["partials"], used["orphans"], used["temporary"]) == (0, 0, 0, 0)
        assert used["total"] == sum(used[room] for room in ("blobs", "index", "announced"))
        weights = max(on_disk.values())
        assert [row["frees"] for row in used["releases"]] == [weights, weights]  # not the licence that both need

    def test_files_in_place_do_not_count(self, published: Samara) -> None:
        used = published.json("du")
        assert used["blobs"] == 0
        assert [row["frees"] for row in used["releases"]] == [0, 0]

    def test_bytes_that_another_name_keeps_are_not_freed(self, there: Samara) -> None:
        blob = max(there.home.blobs.glob("*/*"), key=lambda path: path.stat().st_size)
        os.link(blob, there.folder / "elsewhere")
        assert sorted(row["frees"] for row in there.json("du")["releases"])[0] == 0

    def test_views_that_are_copies(self, there: Samara) -> None:
        view = there.home.models / "acme/tiny/q8/q8.bin"
        data = view.read_bytes()
        view.unlink()
        view.write_bytes(data)
        used = there.json("du")
        copied = view.stat().st_blocks * 512
        assert used["view_copies"] == copied
        assert {row["reference"]: row["frees"] for row in used["releases"]}["acme/tiny:q8"] == 2 * copied


class TestRm:
    def test_what_only_it_needs_goes(self, there: Samara) -> None:
        q4 = tagged(there, "q4")
        freed = {row["reference"]: row["frees"] for row in there.json("du")["releases"]}["acme/tiny:q8"]
        assert there.json("rm", "acme/tiny:q8")["bytes"] == freed
        assert held(there) == (q4,)
        assert stored(there) == {file.b3.removeprefix("b3:") for file in q4.files}
        assert views(there) == {"acme/tiny/q4/q4.bin", "acme/tiny/q4/LICENSE"}
        assert not (there.home.models / "acme/tiny/q8").exists()
        assert there.json("audit")["findings"] == []
        there("path", "acme/tiny:q8", code=ExitCode.NOT_FOUND)
        there("path", "acme/tiny:q4")

    def test_everything_goes_but_trust(self, there: Samara) -> None:
        there("rm", "acme/tiny:q8", "acme/tiny:q4")
        assert (held(there), stored(there), views(there), leftovers(there.home)) == ((), set(), set(), [])
        assert there.json("trust", "list")["pins"][0]["alias"] == "acme"
        assert list(there.home.blobs.iterdir()) == []

    def test_a_dry_run_changes_nothing(self, there: Samara) -> None:
        before = (held(there), stored(there), views(there))
        planned = there.json("rm", "acme/tiny:q8", "--dry-run")
        assert planned["dry_run"]
        assert (held(there), stored(there), views(there)) == before
        assert planned["items"] == there.json("rm", "acme/tiny:q8")["items"]

    def test_it_comes_back(self, there: Samara) -> None:
        there("rm", "acme/tiny:q8")
        carry(there, "acme/tiny:q8")
        assert rows(there)["acme/tiny:q8"]["state"] == "whole"

    def test_files_in_place_are_never_touched(self, published: Samara) -> None:
        files = {name: (published.folder / name).stat() for name in ("q8.bin", "LICENSE")}
        published("unpublish", "acme/tiny:q8")
        published("rm", "acme/tiny:q8")
        assert [release.tag for release in held(published)] == ["q4"]
        for name, before in files.items():
            assert (published.folder / name).stat().st_mtime_ns == before.st_mtime_ns
        published("path", "acme/tiny:q4")

    def test_what_the_own_catalog_lists_stays(self, published: Samara) -> None:
        refused = published("rm", "acme/tiny:q8", code=ExitCode.USAGE)
        assert "samara unpublish acme/tiny:q8" in refused.err
        assert len(held(published)) == 2

    def test_unknown(self, there: Samara) -> None:
        there("rm", "acme/tiny:q8", "acme/nothing:q4", code=ExitCode.NOT_FOUND)
        assert len(held(there)) == 2
        there.use("nowhere")
        there("rm", "acme/tiny:q8", code=ExitCode.NOT_FOUND)

    def test_of_a_publisher_that_is_trusted_no_longer(self, there: Samara) -> None:
        there("trust", "remove", "acme")
        reference = next(iter(rows(there)))
        assert reference.startswith("samara:")
        there("rm", reference)
        assert len(held(there)) == 1

    def test_by_digest_an_older_version(self, there: Samara) -> None:
        there.use("home")
        random_file(there.folder / "q8.bin", MIB, seed=7)
        there("publish", "q8.bin", "LICENSE", "--as", "acme/tiny:q8")
        carry(there, "acme/tiny:q8")
        old, new = sorted((one.version, one.manifest) for one in held(there) if one.tag == "q8")
        there("rm", f"acme/tiny@{old[1]}")
        assert {release.manifest for release in held(there)} >= {new[1]}
        assert views(there) >= {"acme/tiny/q8/q8.bin", "acme/tiny/q8/LICENSE"}, "its successor has these names"
        assert there.json("audit")["findings"] == []

    def test_a_transfer_that_another_process_holds_stays(self, there: Samara) -> None:
        (file, _) = tagged(there, "q8").files
        folder = there.home.partials / file.b3.removeprefix("b3:")
        folder.mkdir(parents=True)
        with FileLock(folder / "lock"):
            assert "pulling" in there("rm", "acme/tiny:q8", code=ExitCode.STORE).err
            assert len(held(there)) == 2
        there("rm", "acme/tiny:q8")
        assert leftovers(there.home) == []

    @pytest.mark.skipif(sys.platform == "win32", reason="there nobody may remove an open file")
    def test_who_reads_a_blob_reads_on(self, there: Samara) -> None:
        view = there.home.models / "acme/tiny/q8/q8.bin"
        data = view.read_bytes()
        with view.open("rb") as reader:
            there("rm", "acme/tiny:q8")
            assert reader.read() == data

    def test_people_are_told_what_went_and_why(self, there: Samara) -> None:
        done = there("rm", "acme/tiny:q8")
        assert "freed 1.0 MB" in done.out
        assert "no other release needs it" in done.out
        assert json.loads(json.dumps(done.out))


def renewed(samara: Samara) -> None:
    """Version 3, under the tag of version 1, is here too."""
    samara.use("home")
    random_file(samara.folder / "q8.bin", MIB, seed=7)
    samara("publish", "q8.bin", "LICENSE", "--as", "acme/tiny:q8")
    carry(samara, "acme/tiny:q8")


class TestPrune:
    def test_nothing_is_here(self, samara: Samara) -> None:
        assert samara.json("prune", "--yes")["items"] == []
        assert not samara.home.root.exists()

    def test_by_default_it_is_a_plan(self, there: Samara) -> None:
        renewed(there)
        before = (held(there), stored(there), views(there))
        done = there("prune", "--keep-latest", "1")
        assert "--yes" in done.err
        assert "would free 1.0 MB" in done.out
        assert (held(there), stored(there), views(there)) == before

    def test_older_versions_go(self, there: Samara) -> None:
        renewed(there)
        there("prune", "--keep-latest", "1", "--yes")
        assert sorted(release.version for release in held(there)) == [2, 3]
        assert rows(there)["acme/tiny:q8"]["state"] == rows(there)["acme/tiny:q4"]["state"] == "whole"
        assert there.json("audit")["findings"] == []
        assert there.json("prune", "--keep-latest", "1")["items"] == []

    def test_never_what_a_name_means_now(self, there: Samara) -> None:
        planned = there.json("prune", "--older-than", "0", "--keep-latest", "0")
        assert [item for item in planned["items"] if item["kind"] == "release"] == []
        assert {one["why"] for one in planned["keeps"]} == {"acme/tiny:q8 means it now", "acme/tiny:q4 means it now"}

    def test_a_withdrawn_one_may_go(self, there: Samara) -> None:
        there.use("home")
        there("unpublish", "acme/tiny:q4")
        carry(there, "acme/tiny:q8")
        there("prune", "--older-than", "0", "--yes")
        assert [release.tag for release in held(there)] == ["q8"]

    def test_never_what_a_lockfile_names(self, there: Samara) -> None:
        (there.folder / "samara.lock").write_text(there("lock", "acme/tiny:q8", "acme/tiny:q4").out)
        renewed(there)
        planned = there.json("prune", "--keep-latest", "1", "--lockfile", "samara.lock")
        assert planned["items"] == []
        assert there("prune", "--keep-latest", "1", "--lockfile", "samara.lock").err.count("nothing to remove") == 1

    def test_never_what_it_is_told_to_keep(self, there: Samara) -> None:
        renewed(there)
        old = min(held(there), key=lambda release: release.version).manifest
        assert there.json("prune", "--keep-latest", "1", "--keep", f"acme/tiny@{old}")["items"] == []
        there("prune", "--keep-latest", "1", "--keep", "acme/tiny:typo", "--yes", code=ExitCode.NOT_FOUND)
        assert len(held(there)) == 3

    @pytest.mark.parametrize(
        "text", ["", "{}", '{"format": "samara-lock-1"}', '{"format":"samara-lock-1","releases":[1]}']
    )
    def test_half_a_lockfile_is_none(self, there: Samara, text: str) -> None:
        (there.folder / "samara.lock").write_text(text)
        there("prune", "--lockfile", "samara.lock", "--yes", code=ExitCode.INTEGRITY)
        there("prune", "--lockfile", "missing.lock", "--yes", code=ExitCode.NOT_FOUND)

    def test_arguments_that_cant_be_meant(self, there: Samara) -> None:
        there("prune", "--yes", "--dry-run", code=ExitCode.USAGE)
        there("prune", "--keep-latest", "-1", code=ExitCode.USAGE)

    def test_leftovers_when_they_are_old(self, there: Samara) -> None:
        home = there.home
        left = [home.root / ".samara-tmp-0011223344556677", home.blobs / "aa" / ".samara-tmp-0011223344556677"]
        for path in left:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
        (home.models / "acme" / "gone" / "x").mkdir(parents=True)
        assert [item["kind"] for item in there.json("prune")["items"]] == []
        for path in (*left, home.models / "acme" / "gone"):
            aged(path, 2)
        assert sorted(item["kind"] for item in there.json("prune", "--yes")["items"]) == [
            "folder", "folder", "temporary", "temporary",
        ]  # fmt: skip
        assert leftovers(home) == []
        assert not (home.models / "acme" / "gone").exists()

    def test_keys_and_trust_are_never_touched(self, there: Samara) -> None:
        there.use("home")
        before = {path for room in (there.home.keys, there.home.trust) for path in aged(room, 1000).rglob("*")}
        there("prune", "--older-than", "0", "--keep-latest", "0", "--yes")
        assert before == {path for room in (there.home.keys, there.home.trust) for path in room.rglob("*")}
        assert before
        assert len(held(there)) == 2

    def test_the_highest_own_version_stays_to_count_from(self, published: Samara) -> None:
        published("unpublish", "acme/tiny:q4")
        planned = published.json("prune", "--older-than", "0")
        assert "yours, and the next version is counted from it" in {one["why"] for one in planned["keeps"]}


class TestLock:
    def test_it_names_by_digest(self, there: Samara) -> None:
        (locked,) = there.json("lock", "acme/tiny:q8")["releases"]
        q8 = tagged(there, "q8")
        assert locked == {"reference": "acme/tiny:q8", "identity": q8.identity, "manifest": q8.manifest}
        assert json.loads(there("lock", "acme/tiny:q8").out)["format"] == "samara-lock-1"
        there("lock", "acme/tiny:f16", code=ExitCode.NOT_FOUND)
