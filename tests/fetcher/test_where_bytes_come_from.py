"""Mirrors alone, peers alone, both together, and sources that fail: named, and the pull goes on without them."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from support.mirrors import Mirror, mirror
from support.pulls import Pull, has_reached, options, pulled
from support.swarms import seeding, seeding_part
from support.world import MIB, PIECE, Shelf, assert_pulled, one_blob, partial_data, random_file, shelf, trusting_home

from samara.schemas.errors import ExitCode
from samara.schemas.events import PullProgress, SourceRejected
from samara.schemas.manifest import INLINE_LIMIT
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_options import SwarmOptions

SIZE = 4 * MIB
# where files stop to travel inline, and around the borders of pieces and blocks
EDGES = [INLINE_LIMIT + 1, PIECE - 1, PIECE, PIECE + 1, 4 * MIB - 1, 4 * MIB + 1]


@pytest.fixture
def shelved(tmp_path: Path, served: Mirror) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE, mirrors=(served.of("blob.bin"),))


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_from_mirrors_alone(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    done = pulled(home, shelved.file, options(peer_to_peer=False))
    assert (done.bytes_from_mirrors, done.bytes_from_peers) == (SIZE, 0)
    assert served.given == SIZE
    assert_pulled(home, shelved)


def test_mirrors_alone_means_that_told_peers_are_not_asked(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint, peer_to_peer=False))
        assert peer.uploaded == 0
    assert done.bytes_from_peers == 0
    assert_pulled(home, shelved)


def test_from_peers_alone(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint, mirrors=False))
        assert peer.uploaded == SIZE
    assert (done.bytes_from_mirrors, done.bytes_from_peers) == (0, SIZE)
    assert served.requests == []
    assert_pulled(home, shelved)


def test_peers_and_mirrors_give_at_the_same_time(tmp_path: Path) -> None:
    size = 32 * MIB
    with mirror(tmp_path / "shelf" / "files") as served:
        shelved = one_blob(tmp_path / "shelf", size, mirrors=(served.of("blob.bin"),))
        home = trusting_home(tmp_path / "home", shelved)
        served.rate = 3_000_000  # of each of its three connections
        with seeding(shelved, up=12_000_000) as peer:
            done = pulled(home, shelved.file, options(peer.endpoint))
            assert peer.uploaded > size // 10
        assert served.given > size // 10
    assert done.bytes_from_peers > size // 10
    assert done.bytes_from_mirrors > size // 10
    assert size <= done.bytes_from_peers + done.bytes_from_mirrors <= size + 4 * PIECE
    assert_pulled(home, shelved)


def test_two_mirrors_of_one_kind_are_counted_apart(tmp_path: Path) -> None:
    """Both call themselves by the same server name."""
    files = tmp_path / "shelf" / "files"
    with mirror(files) as one, mirror(files) as two:
        shelved = one_blob(tmp_path / "shelf", SIZE, mirrors=(one.of("blob.bin"), two.of("blob.bin")))
        home = trusting_home(tmp_path / "home", shelved)
        with seeding(shelved, up=4_000_000) as peer:
            done = pulled(home, shelved.file, options(peer.endpoint, down=8_000_000))
            gave = peer.uploaded
    assert abs(done.bytes_from_peers - gave) <= SIZE // 10
    assert_pulled(home, shelved)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("404", "404"),
        ("503", "503"),
        ("shorter-file", "something else|416"),  # by where its pieces were asked for
        ("gone", "refused"),
    ],
)
def test_a_mirror_that_fails_is_named_and_peers_complete_the_pull(
    tmp_path: Path, served: Mirror, trouble: str, reason: str
) -> None:
    url = served.of("blob.bin")
    if trouble == "gone":
        url = f"http://127.0.0.1:{free_port()}/blob.bin"
    elif trouble == "shorter-file":
        random_file(served.folder / "short.bin", SIZE // 2, seed=1)
        url = served.of("short.bin")
    else:
        served.status = int(trouble)
    shelved = one_blob(tmp_path / "shelf", SIZE, mirrors=(url,))
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved, up=10_000_000) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint))
    assert [(item.kind, item.source) for item in done.rejected] == [("mirror", url)]
    assert re.search(reason, done.rejected[0].reason, re.IGNORECASE)
    assert done.bytes_from_peers == SIZE
    assert_pulled(home, shelved)


def test_a_mirror_that_ends_early_is_asked_for_the_rest(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    served.ends_after = SIZE // 3
    home = trusting_home(tmp_path / "home", shelved)
    done = pulled(home, shelved.file, options(peer_to_peer=False))
    assert done.bytes_from_mirrors <= SIZE + 4 * PIECE
    assert len(served.requests) > 2
    assert done.rejected == ()
    assert_pulled(home, shelved)


def test_a_working_mirror_makes_up_for_a_broken_one(tmp_path: Path, served: Mirror) -> None:
    with mirror(served.folder) as broken:
        broken.status = 404
        shelved = one_blob(tmp_path / "shelf", SIZE, mirrors=(broken.of("blob.bin"), served.of("blob.bin")))
        home = trusting_home(tmp_path / "home", shelved)
        done = pulled(home, shelved.file, options(peer_to_peer=False))
    assert [item.source for item in done.rejected] == [broken.of("blob.bin")]
    assert_pulled(home, shelved)


def test_dead_sources_only_end_the_pull_with_their_names_and_keep_progress(
    tmp_path: Path, shelved: Shelf, served: Mirror
) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding_part(shelved, shelved.only.piece_count // 2) as peer:
        pull = Pull(home, shelved.file, options(peer.endpoint, mirrors=False, give_up_after=1.0))
        pull.expect(PullProgress, has_reached(0.5))
    error = pull.error()
    assert error.exit_code is ExitCode.NETWORK
    assert peer.text in str(error)
    assert "kept" in str(error)
    assert partial_data(home, shelved.only).with_name("record").exists()

    served.status = 404
    pull = Pull(home, shelved.file, options(("127.0.0.99", free_port()), give_up_after=3.0))
    error = pull.error()
    assert error.exit_code is ExitCode.NETWORK
    assert served.of("blob.bin") in str(error)
    assert "refused" in str(error)
    assert pull.of(SourceRejected)

    served.status = None
    done = pulled(home, shelved.file, options(peer_to_peer=False))
    assert done.bytes_reused == SIZE // 2
    assert_pulled(home, shelved)


def test_with_nobody_to_ask_a_pull_ends_at_once(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "shelf", SIZE)
    home = trusting_home(tmp_path / "home", shelved)
    error = Pull(home, shelved.file, options()).error()
    assert error.exit_code is ExitCode.NETWORK
    assert "nobody to ask" in str(error)
    assert not home.partials.exists()


def test_a_peer_without_an_address_does_not_stop_the_others(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        pulled(home, shelved.file, options(("no-such-host.invalid", 1), peer.endpoint, mirrors=False))
    assert_pulled(home, shelved)


def test_a_peer_without_an_address_alone_ends_the_pull_at_once(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    error = Pull(home, shelved.file, options(("no-such-host.invalid", 1), mirrors=False)).error()
    assert error.exit_code is ExitCode.NETWORK
    assert "no-such-host.invalid" in str(error)


def test_a_peer_that_starts_late_is_found(tmp_path: Path, shelved: Shelf) -> None:

    home = trusting_home(tmp_path / "home", shelved)
    port = free_port()
    pull = Pull(home, shelved.file, options(("127.0.0.1", port), mirrors=False))
    pull.expect(PullProgress)
    with Swarm(SwarmOptions(listen=(f"127.0.0.1:{port}",)).without_discovery()) as swarm:
        swarm.add_seed(shelved.torrent, shelved.source, check_first=True)
        swarm.wait_listening(30)
        pull.result()
    assert_pulled(home, shelved)


def test_many_files_come_together(tmp_path: Path) -> None:
    """Several blobs, two of them alike, some so small that they travel inside the manifest, some at a size's edge."""
    files = tmp_path / "files"
    sources = [
        random_file(files / "one.bin", 3 * MIB + 17, seed=1),
        random_file(files / "two.bin", 2 * MIB, seed=2),
        random_file(files / "two-again.bin", 2 * MIB, seed=2),
        random_file(files / "config.json", 300, seed=3),
        random_file(files / "largest-inline.bin", INLINE_LIMIT, seed=4),
        *(random_file(files / f"{size}.bin", size, seed=size) for size in EDGES),
    ]
    shelved = shelf(tmp_path, sources)
    home = trusting_home(tmp_path / "home", shelved)
    distinct = sum({file.b3: file.size for file in shelved.release.files}.values())
    with seeding(shelved) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint))
        assert peer.uploaded == distinct - 300 - INLINE_LIMIT
    assert done.bytes_from_peers == distinct - 300 - INLINE_LIMIT
    assert done.bytes_total == shelved.size
    assert [file.path for file in done.files] == [source.name for source in sources]
    assert_pulled(home, shelved)


def test_everything_from_one_web_server(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    """The release file by its URL, the bytes from the mirror it names: plain HTTP is enough."""
    (served.folder / "blob.samara").write_bytes(shelved.file.read_bytes())
    home = trusting_home(tmp_path / "home", shelved)
    done = pulled(home, served.of("blob.samara"), options())
    assert done.bytes_from_mirrors == SIZE
    assert_pulled(home, shelved)


@pytest.mark.parametrize(("status", "code"), [(404, ExitCode.NOT_FOUND), (503, ExitCode.NETWORK)])
def test_a_release_file_that_is_not_there(
    tmp_path: Path, shelved: Shelf, served: Mirror, status: int, code: ExitCode
) -> None:
    served.status = status
    error = Pull(trusting_home(tmp_path / "home", shelved), served.of("blob.samara"), options()).error()
    assert error.exit_code is code
    assert served.of("blob.samara") in str(error)
    assert str(status) in str(error)


def test_a_release_file_that_ends_early(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    (served.folder / "blob.samara").write_bytes(shelved.file.read_bytes() * 50)
    served.ends_after = 1
    error = Pull(trusting_home(tmp_path / "home", shelved), served.of("blob.samara"), options()).error()
    assert error.exit_code is ExitCode.NETWORK
    assert "ended early" in str(error)
