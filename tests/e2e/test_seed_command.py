"""`samara seed`: what joins, what is refused, what is never done to a file, and how it ends."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.processes import Line, pulling, samara, seed_process, seeds, started
from support.pulls import Pull, options, pulled
from support.swarms import loopback, seeding
from support.world import (
    FIXTURES,
    MIB,
    PIECE,
    Shelf,
    assert_pulled,
    flip,
    one_blob,
    random_file,
    shelf,
    trusting_home,
)

from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.endpoints import parse_endpoint
from samara.schemas.events import PullProgress
from samara.seeder.swarm import Swarm

SIZE = 2 * MIB


def made_long_ago(home: Home, seconds: int) -> None:
    """Let every recorded verification be that old."""
    with closing(sqlite3.connect(home.index)) as connection, connection:
        connection.execute("UPDATE locations SET verified_at = verified_at - ?", (seconds,))


def test_what_is_published_meanwhile_joins_by_itself(tmp_path: Path) -> None:
    first = one_blob(tmp_path, SIZE)
    with seed_process(first.home) as seeder:
        seeder.process.expect("seed_table", seeds("blob.bin"))
        shelf(
            tmp_path, [random_file(tmp_path / "files" / "later.bin", SIZE, seed=2)], reference="acme/later:v1",
            publisher=first.publisher,
        )  # fmt: skip
        table = seeder.process.expect("seed_table", seeds("later.bin"))
        assert {row["path"] for row in table["rows"]} == {"blob.bin", "later.bin"}
        assert seeder.stop().status == 0


def test_any_path_is_seeded_in_place(tmp_path: Path) -> None:
    """Spaces, letters of the world; given again after a restart; nothing is copied and nothing changed."""
    place = tmp_path / "My Models ✓" / "Größe 大 模型"
    source = random_file(place / "Llama 3.2 – мини.bin", SIZE, seed=3)
    published = shelf(tmp_path, [source], reference="acme/world:v1")
    before = (source.stat(), hashlib.sha256(source.read_bytes()).digest())
    for attempt in range(2):
        home = trusting_home(tmp_path / f"home-{attempt}", published)
        with seed_process(published.home) as seeder:
            done = pulled(home, published.file, options(seeder.endpoint))
            stopped = seeder.stop()
        assert stopped.status == 0, stopped.stderr
        assert stopped.result == {"blobs": 1, "uploaded": SIZE}
        assert done.bytes_from_peers == SIZE
        assert_pulled(home, published)
    after = source.stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_size) == (
        before[0].st_mtime_ns, before[0].st_ino, before[0].st_size,
    )  # fmt: skip
    assert hashlib.sha256(source.read_bytes()).digest() == before[1]
    assert not published.home.blobs.exists(), "a second copy was made"


def test_a_file_that_changed_is_let_go_with_a_warning(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with seed_process(published.home) as seeder:
        seeder.process.expect("seed_table", seeds("blob.bin"))
        with published.source.open("r+b") as file:
            file.write(b"edited")
        warned = seeder.process.expect("warned")
        assert str(published.source) in warned["message"]
        assert "samara verify" in warned["message"]
        seeder.process.expect("seed_table", lambda table: table["rows"] == [])
        assert seeder.stop().status == 0
    with seed_process(published.home) as seeder:
        assert str(published.source) in seeder.process.expect("warned")["message"]
        seeder.process.expect("seed_table", lambda table: table["rows"] == [])


def test_rot_is_found_told_and_never_written_over(tmp_path: Path) -> None:
    """The file belongs to its owner: even where the swarm could mend it, seeding doesn't write."""
    published = one_blob(tmp_path, SIZE)
    whole = random_file(tmp_path / "copy" / "blob.bin", SIZE, seed=1)
    flip(published.source, 3 * PIECE + 5)
    rotten = published.source.read_bytes()
    made_long_ago(published.home, 30 * 86400)
    with (
        seed_process(published.home) as seeder,
        Pull(trusting_home(tmp_path / "home", published), published.file, options(seeder.endpoint, give_up_after=2.0)),
    ):
        warned = seeder.process.expect("warned")
        assert str(published.source) in warned["message"]
        assert "no longer holds what was verified" in warned["message"]
        seeder.process.expect("seed_table", lambda table: table["rows"] == [])
        assert seeder.stop().status == 0
    assert published.source.read_bytes() == rotten
    with Index.open(published.home) as index:
        assert index.location_at(published.source) is None, "nobody should take it for whole any more"
    checked = samara(published.home, "verify", published.source)
    assert checked.status == 5
    assert "block 0 (bytes 0–" in checked.stdout + checked.stderr
    assert whole.read_bytes() != rotten


def test_a_swarm_that_has_the_right_bytes_does_not_mend_a_seeded_file(tmp_path: Path) -> None:

    published = one_blob(tmp_path, SIZE)
    mine = random_file(tmp_path / "mine" / "blob.bin", SIZE, seed=1)
    flip(mine, 3 * PIECE + 5)
    rotten = mine.read_bytes()
    home = trusting_home(tmp_path / "home", published)
    with seeding(published) as honest, Swarm(loopback()) as swarm:
        name = swarm.add_seed(published.torrent, mine, check_first=True)
        (endpoint,) = swarm.wait_listening(30)
        swarm.connect(name, [honest.endpoint])
        done = pulled(home, published.file, options(parse_endpoint(endpoint), honest.endpoint))
    assert done.bytes_from_peers >= SIZE
    assert mine.read_bytes() == rotten
    assert_pulled(home, published)


@pytest.fixture
def bare(tmp_path: Path) -> Shelf:
    """A release, and a home that knows it without having its bytes."""
    return one_blob(tmp_path / "shelf", SIZE)


def knowing_home(tmp_path: Path, published: Shelf) -> Home:
    """A home that knows the release (it pulled it) but lost its copy."""
    home = trusting_home(tmp_path / "knowing", published)
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))
    home.blob(published.only.b3_hex).unlink()
    return home


def test_a_folder_of_files_is_searched_for_known_blobs(tmp_path: Path, bare: Shelf) -> None:
    """Under other names, among files that are empty, unknown, or can't be read."""
    home = knowing_home(tmp_path, bare)
    folder = tmp_path / "nas"
    random_file(folder / "deep" / "renamed.gguf", SIZE, seed=1)
    random_file(folder / "same size, other bytes.bin", SIZE, seed=9)
    random_file(folder / "unknown.bin", 1234, seed=9)
    (folder / "empty.bin").touch()
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    with seed_process(home, folder) as seeder:
        table = seeder.process.expect("seed_table", seeds("blob.bin"))
        assert len(table["rows"]) == 1
        again = trusting_home(tmp_path / "again", bare)
        pulled(again, bare.file, options(seeder.endpoint))
        assert seeder.stop().status == 0
    assert_pulled(again, bare)


def test_one_file_is_seeded_alone(tmp_path: Path) -> None:
    published = shelf(tmp_path, [FIXTURES / "tiny.gguf", FIXTURES / "tiny-q8_0.gguf"])
    with seed_process(published.home, FIXTURES / "tiny.gguf") as seeder:
        table = seeder.process.expect("seed_table", seeds("tiny.gguf"))
        assert [row["path"] for row in table["rows"]] == ["tiny.gguf"]


@pytest.mark.parametrize("what", ["unknown-file", "folder-without-any"])
def test_nothing_known_at_a_path(tmp_path: Path, what: str) -> None:
    unknown = random_file(tmp_path / "folder" / "unknown.bin", 1000, seed=1)
    path = unknown if what == "unknown-file" else unknown.parent
    done = samara(Home(tmp_path / "home"), "seed", path, "--listen", "127.0.0.1:0", "--no-discovery")
    assert done.status == 3, done.stderr
    assert "known here" in done.message


def test_sigterm_while_a_large_file_is_read(tmp_path: Path, bare: Shelf) -> None:
    """It need not be read to its end first."""
    home = knowing_home(tmp_path, bare)
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(64 << 30)
    with closing(sqlite3.connect(home.index)) as connection, connection:
        connection.execute("UPDATE blobs SET size = ?", (64 << 30,))
    with started(home, "seed", large, "--listen", "127.0.0.1:0", "--no-discovery", "--json") as process:
        process.expect("hash_progress")
        process.send(signal.SIGTERM)
        done = process.end()
    assert done.status == 0, done.stderr
    assert done.result == {"blobs": 0, "uploaded": 0}


def test_an_upload_cap_holds_on_loopback(tmp_path: Path) -> None:
    """A megabyte a second: two megabytes can't come in less than one second, whatever loopback could do."""
    published = one_blob(tmp_path, SIZE)
    home = trusting_home(tmp_path / "home", published)
    with (
        seed_process(published.home, "--up", "1M") as seeder,
        pulling(home, published.file, "--peer", seeder.text) as pull,
    ):
        done = pull.end()
        table: Line = seeder.process.expect("seed_table", lambda table: table["rows"][0]["uploaded"] == SIZE)
    assert done.status == 0, done.stderr
    assert done.result["seconds"] > SIZE / 1_000_000 * 0.8
    assert table["rows"][0]["size"] == SIZE


def test_two_machines_behind_one_address_pull_at_the_same_time(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    homes = [trusting_home(tmp_path / name, published) for name in ("one", "two")]
    with seeding(published, up=1_000_000) as peer:
        pulls = [Pull(home, published.file, options(peer.endpoint, give_up_after=5.0)) for home in homes]
        for pull in pulls:
            pull.expect(PullProgress, lambda progress: progress.peers == 1)
        done = [pull.result() for pull in pulls]
    assert all(one.bytes_from_peers >= SIZE for one in done)
    for home in homes:
        assert_pulled(home, published)
