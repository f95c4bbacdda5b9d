"""A registry that mirrors: what publishers list comes by itself, is given on, and goes when there is no room."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time
import zlib
from pathlib import Path

import pytest
from support.pulls import options, pulled
from support.registries import asking, list_shelf, mirroring, provided, pulling_through, registry_home, withdraw
from support.swarms import seeding
from support.world import MIB, NOW, Shelf, one_blob, random_file, shelf, trusting_home

from samara.fetcher.clean import prune, remove, usage
from samara.fetcher.housekeeping import Rules
from samara.fetcher.kept import NAME
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.positioned import read_at
from samara.registry.swarm_samples import SwarmSample
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import DiskFullError, StoreError, UsageError

SIZE = 2 * MIB
OLD = ["withdrawn", "unlisted", "cold", "warm"]


def shelves(root: Path, names: dict[str, int]) -> list[Shelf]:
    """A publisher for each name, with one blob of that many bytes."""
    return [
        shelf(
            root / name,
            [random_file(root / name / "files" / "blob.bin", size, seed=zlib.crc32(name.encode()))],
            reference=f"{name}/m:v1",
        )
        for name, size in names.items()
    ]


def is_here(home: Home, published: Shelf) -> bool:
    """Whether its bytes lie in the store, as they should be."""
    path = home.blob(published.only.b3_hex)
    return path.exists() and path.read_bytes() == published.source.read_bytes()


def test_what_is_listed_comes_by_itself_and_is_given_on(tmp_path: Path) -> None:
    first, second = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    with (
        seeding(first) as one,
        seeding(second) as two,
        registry_home(tmp_path / "registry", first) as (home, index),
        provided(home, index, mirroring(asking(one.endpoint, two.endpoint))) as registry,
    ):
        registry.until(lambda status: status.here == 1 and status.seeding == 1)
        assert is_here(home, first)
        list_shelf(index, second)  # while it runs
        status = registry.until(lambda status: status.here == 2 and status.seeding == 2 and not status.coming)
        assert is_here(home, second)
        assert (status.held, status.held_bytes, status.pending, status.published) == (2, 2 * SIZE, 0, 2)
        assert status.from_peers >= 2 * SIZE


def test_another_machine_pulls_from_the_mirror_when_the_publisher_is_gone(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with registry_home(tmp_path / "registry", published) as (home, index):
        peers: list[tuple[str, int]] = []
        with provided(home, index, mirroring(asking()), peers_of=lambda _v2, _v1: tuple(peers)) as registry:
            with seeding(published) as seeder:
                peers.append(seeder.endpoint)
                registry.until(lambda status: status.seeding == 1)
            done = pulled(trusting_home(tmp_path / "home", published), published.file, options(registry.endpoint))
            assert done.bytes_from_peers >= SIZE


def test_who_reads_what_is_being_mirrored_gets_its_front_first(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 32 * MIB)
    with (
        seeding(published, up=6 * MIB) as seeder,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, mirroring(asking(seeder.endpoint))) as registry,
    ):
        registry.until(lambda status: any(one.from_peers > MIB for one in status.coming))
        arriving = registry.bring(published.only.b3)
        front = arriving.wait(0, 30.0)
        assert 0 < front < published.size
        assert not home.blob(published.only.b3_hex).exists()
        with published.source.open("rb") as source:
            fd = arriving.open()
            assert read_at(fd, front, 0) == source.read(front)
            os.close(fd)
        assert registry.until(lambda status: status.here == 1 and not status.coming).brought == 1
        arriving.close()


def test_what_lies_here_already_is_neither_fetched_nor_ours(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with Index.open(published.home) as index:
        list_shelf(index, published)
        with provided(published.home, index, mirroring(asking())) as registry:
            status = registry.until(lambda status: status.seeding == 1)
            assert (status.here, status.held, status.pending) == (1, 0, 0)
    assert published.source.exists()


def test_a_dead_swarm_is_tried_again_later_and_others_come_meanwhile(tmp_path: Path) -> None:
    dead, living = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    peers: list[tuple[str, int]] = []
    with (
        seeding(living) as seeder,
        registry_home(tmp_path / "registry", dead, living) as (home, index),
        provided(
            home, index, mirroring(asking(seeder.endpoint, give_up_after=0.5)), peers_of=lambda _v2, _v1: tuple(peers)
        ) as registry,
    ):
        status = registry.until(lambda status: bool(status.failed) and status.here == 1)
        assert [one.b3 for one in status.failed] == [dead.only.b3]
        assert "0 s" in status.failed[0].reason or "nobody" in status.failed[0].reason
        with seeding(dead) as late:
            peers.append(late.endpoint)
            status = registry.until(lambda status: status.here == 2)
            assert status.failed == ()


def test_the_quota_is_shared_between_publishers_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    much = shelf(
        tmp_path / "much",
        [random_file(tmp_path / "much" / f"{n}.bin", SIZE, seed=10 + n) for n in range(3)],
        reference="much/m:v1",
    )
    (little,) = shelves(tmp_path, {"little": SIZE})
    with (
        seeding(much) as one,
        seeding(little) as two,
        registry_home(tmp_path / "registry", much, little) as (home, index),
        provided(home, index, mirroring(asking(one.endpoint, two.endpoint), quota=2 * SIZE)) as registry,
    ):
        status = registry.until(lambda status: status.here == 2 and not status.coming)
        assert is_here(home, little)
        assert (status.left_out, status.pending, status.held_bytes) == (2, 0, 2 * SIZE)


def test_the_withdrawn_go_first_then_the_unlisted_then_who_was_not_asked_for(tmp_path: Path) -> None:
    old = dict(zip(OLD, shelves(tmp_path, dict.fromkeys(OLD, SIZE)), strict=True))
    new = shelves(tmp_path, dict.fromkeys(["new1", "new2", "new3"], SIZE))
    now = [1_900_000_000.0]
    with registry_home(tmp_path / "registry", *old.values(), *new) as (home, index):

        def bring(published: Shelf, quota: int | None = None) -> None:
            now[0] += 10_000  # nobody is being given anything any more
            with (
                seeding(published) as seeder,
                provided(
                    home, index, pulling_through(asking(seeder.endpoint), quota=quota), clock=lambda: now[0]
                ) as registry,
            ):
                registry.bring(published.only.b3).close()
                registry.until(lambda status: status.brought == 1 and not status.coming)

        for name in ("warm", "cold", "unlisted", "withdrawn"):  # against the order in which they should go
            bring(old[name])
        with provided(home, index, pulling_through(asking()), clock=lambda: now[0] + 20_000) as registry:
            registry.providing.touch(old["warm"].only.b3)
        withdraw(index, old["withdrawn"])
        _replace(index, old["unlisted"], tmp_path)
        for published, gone in zip(new, ("withdrawn", "unlisted", "cold"), strict=True):
            before = {name for name in OLD if is_here(home, old[name])}
            bring(published, quota=4 * SIZE)
            assert before - {name for name in OLD if is_here(home, old[name])} == {gone}
        assert is_here(home, old["warm"])
        assert index.location_at(home.blob(old["cold"].only.b3_hex)) is None
    assert not list(home.partials.iterdir())


def test_what_the_operator_pulled_is_never_evicted(tmp_path: Path) -> None:
    first, other = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    now = [1_900_000_000.0]
    with (
        seeding(first) as one,
        seeding(other) as two,
        registry_home(tmp_path / "registry", first, other) as (home, index),
        provided(
            home,
            index,
            pulling_through(asking(one.endpoint, two.endpoint), quota=SIZE),
            clock=lambda: now[0],
        ) as registry,
    ):
        registry.bring(first.only.b3).close()
        registry.until(lambda status: status.brought == 1 and not status.coming)
        TrustFolder(home.trust).add("acme", first.publisher.identity, now=NOW)
        pulled(home, first.file, options())  # it is here: it gets its names below models/
        now[0] += 10_000
        arriving = registry.bring(other.only.b3)
        with pytest.raises(DiskFullError):
            arriving.wait(0, 10.0)
        assert is_here(home, first)
        shutil.rmtree(home.models)
        now[0] += 10_000
        pause = threading.Event()
        for _ in range(100):  # the reader's error rests for a moment
            with contextlib.suppress(DiskFullError):
                registry.bring(other.only.b3).close()
                break
            pause.wait(0.05)
        registry.until(lambda status: status.brought == 2 and not status.coming)
        assert not home.blob(first.only.b3_hex).exists()


def test_a_clock_that_was_years_ahead_leaves_nothing_that_never_goes(tmp_path: Path) -> None:
    first, second = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    right = 1_900_000_000.0
    now = [right + 9e7]
    with seeding(first) as one, seeding(second) as two, registry_home(tmp_path / "r", first, second) as (home, index):
        options = pulling_through(asking(one.endpoint, two.endpoint), quota=SIZE)
        with provided(home, index, options, clock=lambda: now[0]) as registry:
            registry.bring(first.only.b3).close()
            registry.until(lambda status: status.brought == 1 and not status.coming)
            now[0] = right  # while it runs
            waiting = threading.Event()
            for _ in range(500):
                (kept,) = json.loads((home.root / NAME).read_bytes())["blobs"].values()
                if kept["asked"] <= right:
                    break
                waiting.wait(0.02)
            assert kept["asked"] == right
        with provided(home, index, options, clock=lambda: right + 10_000) as registry:
            registry.bring(second.only.b3).close()
            registry.until(lambda status: status.brought == 1 and not status.coming)
        assert is_here(home, second)
        assert not is_here(home, first)


def test_a_smaller_quota_takes_what_is_too_much(tmp_path: Path) -> None:
    first, second = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    with seeding(first) as one, seeding(second) as two, registry_home(tmp_path / "r", first, second) as (home, index):
        pull = asking(one.endpoint, two.endpoint)
        with provided(home, index, mirroring(pull)) as registry:
            registry.until(lambda status: status.here == 2 and not status.coming)
        with provided(home, index, mirroring(pull, quota=SIZE)) as registry:
            status = registry.until(lambda status: status.here == 1 and status.left_out == 1 and not status.coming)
            assert (status.evicted, status.held_bytes, status.pending) == (1, SIZE, 0)
            assert registry.until(lambda status: status.seeding == 1).evicted == 1, "it fetches and evicts in turns"


def test_room_for_what_is_to_be_held_is_not_made_of_what_is_to_be_held(tmp_path: Path) -> None:
    """A publisher lists another blob: its own first one goes, though the other publisher's was listed before."""
    little, flood = shelves(tmp_path, {"little": SIZE, "flood": SIZE})
    with registry_home(tmp_path / "registry", little, flood) as (home, index), contextlib.ExitStack() as stack:
        peers = [stack.enter_context(seeding(one)).endpoint for one in (little, flood)]
        with provided(home, index, mirroring(asking(*peers), quota=2 * SIZE)) as registry:
            registry.until(lambda status: status.here == 2 and not status.coming)
        files = [random_file(tmp_path / "more.bin", SIZE, seed=77)]
        more = shelf(flood.home.root.parent, files, reference="flood/more:v1", publisher=flood.publisher)
        list_shelf(index, more)
        peers.append(stack.enter_context(seeding(more)).endpoint)
        with provided(home, index, mirroring(asking(*peers), quota=2 * SIZE)) as registry:
            registry.until(lambda status: is_here(home, more) and not status.coming)
            assert registry.status().evicted == 1
    assert is_here(home, little)
    assert not is_here(home, flood)


def test_the_disk_keeps_its_reserve(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with (
        seeding(published) as seeder,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, mirroring(asking(seeder.endpoint), reserve=1 << 60)) as registry,
    ):
        status = registry.until(lambda status: bool(status.failed))
        assert "reserve" in status.failed[0].reason
        assert not home.partials.exists() or not list(home.partials.iterdir())
        assert seeder.uploaded == 0


def test_one_process_at_a_time_mirrors_into_a_store(tmp_path: Path) -> None:
    with (
        registry_home(tmp_path / "registry") as (home, index),
        provided(home, index, mirroring(asking())),
        pytest.raises(StoreError, match="another process"),
        provided(home, index, mirroring(asking())),
    ):
        raise AssertionError("two of them")


def test_a_damaged_record_of_what_is_kept_evicts_nothing(tmp_path: Path) -> None:
    first, second = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    with seeding(first) as one, seeding(second) as two, registry_home(tmp_path / "r", first, second) as (home, index):
        pull = asking(one.endpoint, two.endpoint)
        with provided(home, index, mirroring(pull)) as registry:
            registry.until(lambda status: status.here == 2 and not status.coming)
        (home.root / NAME).write_bytes(b'{"format": "samara-kept-1", "blobs": {"zz": 1')
        with provided(home, index, mirroring(pull, quota=1)) as registry:
            status = registry.until(lambda status: status.here == 2)
            assert (status.held, status.evicted) == (0, 0)
            assert status.seeding == 0, "nothing says any more that these are here for others"
            assert any("damaged" in str(event) for event in registry.events)
        assert is_here(home, first)
        assert is_here(home, second)


def test_the_index_is_gone_for_a_while_and_mirroring_goes_on_afterwards(tmp_path: Path) -> None:
    first, second = shelves(tmp_path, {"acme": SIZE, "umbra": SIZE})
    with (
        seeding(first) as one,
        seeding(second) as two,
        registry_home(tmp_path / "registry", first) as (home, index),
        provided(home, index, mirroring(asking(one.endpoint, two.endpoint))) as registry,
    ):
        registry.until(lambda status: status.here == 1)
        with contextlib.closing(sqlite3.connect(home.index)) as connection:
            connection.execute("ALTER TABLE catalogs RENAME TO elsewhere")
        assert registry.until(lambda status: status.trouble is not None).here == 1
        with contextlib.closing(sqlite3.connect(home.index)) as connection:
            connection.execute("ALTER TABLE elsewhere RENAME TO catalogs")
        registry.until(lambda status: status.trouble is None)
        list_shelf(index, second)
        registry.until(lambda status: status.here == 2)


def test_rm_and_prune_leave_what_is_listed_alone(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with seeding(published) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        with provided(home, index, mirroring(asking(seeder.endpoint))) as registry:
            registry.until(lambda status: status.here == 1 and not status.coming)
        index.listings.add_samples(
            [(published.only.b3, SwarmSample(at=1, seeders=1, leechers=0, completed=0))], forget_before=0
        )
        reference = f"samara:{published.publisher.identity}/blob@{published.release.digest}"
        with pytest.raises(UsageError, match="lists"):
            remove(home, [reference])
        cleaned = prune(home, Rules(keep_latest=0), now=time.time() + 400 * 86400, dry_run=False)
        assert cleaned.done == ()
        assert "lists it" in cleaned.plan.keeps[0][1]
        assert is_here(home, published)
        assert usage(home).blobs >= SIZE
        _replace(index, published, tmp_path)  # its name means another release now
        assert remove(home, [reference]).freed >= SIZE
        assert index.release_by_digest(published.release.digest) is None
        for digest in index.manifests():  # the last one of this publisher
            index.forget_release(digest)
        assert index.listings.metadata(published.publisher.identity) is not None
        assert index.listings.count() == 0


def _replace(index: Index, published: Shelf, root: Path) -> None:
    """The same name means another release: the first one is no longer listed."""
    files = [random_file(root / "second" / published.publisher.name / "other.bin", 100_000, seed=99)]
    release = published.release
    reference = f"{published.publisher.name}/{release.model}:{release.tag}"
    again = shelf(published.home.root.parent, files, reference=reference, publisher=published.publisher)
    list_shelf(index, again)
