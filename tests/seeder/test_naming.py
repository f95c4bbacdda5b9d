"""From an identity to a catalog without a server: real swarms, a DHT of eight real nodes, and what is refused."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
from support.dht import Network, alive, expect, joined
from support.mirrors import mirror
from support.swarms import LIAR, loopback

from samara.registry.trust.beacons import public_of_seed
from samara.schemas.bittorrent import Bencodable, bencode, info_bytes, merkle_root, small_torrent
from samara.schemas.errors import MalformedError, NetworkError, NotFoundError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES
from samara.schemas.pointer import SALT, Pointer, pack_pointer
from samara.seeder.naming import FoundSmall, Patience, fetch_root, fetch_small, find_catalog, find_pointer
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import Finished, ItemPut, SwarmEvent
from samara.seeder.torrent import parse_small_info

ROOT, BUNDLE = "1.root.json", "acme.metadata"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A folder for fetches, in which nothing may be left."""
    folder = tmp_path / "own"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def put(swarm: Swarm, value: bytes) -> bytes:
    """Announce a value by a beacon of its own; its public half."""
    public = swarm.put_item(os.urandom(32), value, SALT)
    assert expect(swarm, ItemPut).stored_on > 0
    return public


def give(swarm: Swarm, folder: Path, name: str, data: bytes) -> str:
    """Give a small file from `folder`; its infohash."""
    torrent = small_torrent(name, data)
    place = folder / torrent.v2
    place.write_bytes(data)
    swarm.add_small_seed(torrent.data, place)
    return torrent.v2


def endpoint(swarm: Swarm) -> tuple[str, int]:
    (told,) = swarm.wait_listening(30)
    host, _, port = told.rpartition(":")
    return host, int(port)


def test_the_chain_from_root_to_catalog(network: Network, giver: Swarm, tmp_path: Path, own: Path) -> None:
    root, bundle = os.urandom(5000), os.urandom(300_000)
    root_v2 = give(giver, tmp_path, ROOT, root)
    bundle_v2 = give(giver, tmp_path, BUNDLE, bundle)
    pointer = Pointer(bundle=bundle_v2, length=len(bundle), timestamp_version=3)
    beacon = put(giver, pack_pointer(pointer))
    with alive(giver):
        network.wait_for_peers(root_v2)
        network.wait_for_peers(bundle_v2)
        started = time.monotonic()
        with Swarm(network.options()) as swarm:
            found_root = fetch_root(swarm, root_v2, own)
            rooted = time.monotonic()
            found = find_catalog(swarm, beacon, own, peers=found_root.peers)
            done = time.monotonic()
    print(f"root {rooted - started:.3f} s, pointer and bundle {done - rooted:.3f} s")
    assert found_root.data == root
    assert found.data == bundle
    assert found.pointer == pointer
    assert found.peers == found_root.peers


def test_a_catalog_that_its_seeder_has_just_let_go_of_is_looked_up_anew(
    network: Network, giver: Swarm, tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, data = os.urandom(32), b"the newer one"
    gone = Pointer(bundle=os.urandom(32).hex(), length=100, timestamp_version=3)
    newer = Pointer(bundle=give(giver, tmp_path, BUNDLE, data), length=len(data), timestamp_version=4)
    beacon = giver.put_item(seed, pack_pointer(gone), SALT)
    assert expect(giver, ItemPut).stored_on > 0

    def fetch(swarm: Swarm, v2: str, folder: Path, **options: Any) -> FoundSmall:
        try:
            return fetch_small(swarm, v2, folder, **options)
        finally:
            if v2 == gone.bundle:
                giver.put_item(seed, pack_pointer(newer), SALT)
                assert expect(giver, ItemPut).stored_on > 0

    monkeypatch.setattr("samara.seeder.naming.fetch_small", fetch)
    with alive(giver):
        network.wait_for_peers(newer.bundle)
    with Swarm(network.options()) as swarm:
        found = find_catalog(swarm, beacon, own, patience=Patience(file=3))
    assert (found.pointer, found.data) == (newer, data)


def test_peers_of_one_file_are_asked_for_the_next(tmp_path: Path, own: Path) -> None:
    with Swarm(loopback()) as giver, Swarm(loopback()) as swarm:
        place = endpoint(giver)
        first, second = give(giver, tmp_path, ROOT, b"one"), give(giver, tmp_path, BUNDLE, b"two")
        with alive(giver):
            found = fetch_root(swarm, first, own, peers=[place])
            assert found.peers == (place,)
            assert fetch_small(swarm, second, own, peers=found.peers).data == b"two"


def test_the_largest_file_travels(tmp_path: Path, own: Path) -> None:
    data = os.urandom(MAX_BUNDLE_BYTES)
    with Swarm(loopback()) as giver, Swarm(loopback()) as swarm:
        place, v2 = endpoint(giver), give(giver, tmp_path, BUNDLE, data)
        with alive(giver):
            found = fetch_small(swarm, v2, own, peers=[place])
    assert found.data == data


def test_what_happens_to_other_torrents_is_handed_on(tmp_path: Path, own: Path) -> None:
    seen: list[SwarmEvent] = []
    with Swarm(loopback()) as giver, Swarm(loopback()) as swarm:
        place, v2 = endpoint(giver), give(giver, tmp_path, ROOT, b"root")
        other = give(swarm, tmp_path, "other", b"mine")
        with alive(giver):
            assert fetch_small(swarm, v2, own, peers=[place], on_event=seen.append).data == b"root"
        assert other in swarm
    assert any(isinstance(event, Finished) and event.torrent == other for event in seen)


# -- nothing there ---------------------------------------------------------------------------------------------------


def test_a_beacon_that_points_nowhere(network: Network) -> None:
    with joined(network.options()) as swarm, pytest.raises(NotFoundError, match="not in the DHT"):
        find_pointer(swarm, public_of_seed(os.urandom(32)), patience=Patience(item=20, absent=0.1))


def test_without_a_dht(tmp_path: Path) -> None:
    with Swarm(loopback()) as swarm:
        with pytest.raises(NetworkError, match="--dht-node"):
            find_pointer(swarm, bytes(32))
        with pytest.raises(NetworkError, match="nobody to ask"):
            fetch_root(swarm, "ab" * 32, tmp_path)


def test_with_a_dht_nobody_answers_in(network: Network) -> None:
    unreachable = network.options(dht_nodes=("127.0.0.1:9",))
    with Swarm(unreachable) as swarm, pytest.raises(NetworkError, match=r"no answer .*0 nodes"):
        find_pointer(swarm, bytes(32), patience=Patience(item=0.5))


def test_a_file_nobody_has(network: Network, own: Path) -> None:
    with joined(network.options()) as swarm, pytest.raises(NetworkError, match="nobody gave"):
        fetch_small(swarm, "ab" * 32, own, timeout=0.5)


def test_ctrl_c_leaves_nothing(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Swarm(loopback(up=500_000)) as giver, Swarm(loopback()) as swarm:
        place, v2 = endpoint(giver), give(giver, tmp_path, BUNDLE, os.urandom(2 << 20))
        poll = swarm.poll

        def pressed(timeout: float) -> tuple[SwarmEvent, ...]:
            if not list(own.rglob("*.metadata")):  # nothing has come yet
                return poll(timeout)
            monkeypatch.setattr(swarm, "poll", poll)
            raise KeyboardInterrupt

        monkeypatch.setattr(swarm, "poll", pressed)
        with alive(giver), pytest.raises(KeyboardInterrupt):
            fetch_small(swarm, v2, own, peers=[place])
        assert v2 not in swarm


# -- refused before a byte of it was asked for -----------------------------------------------------------------------


@contextmanager
def refusing(uploaded: Callable[[], int], match: str) -> Iterator[None]:
    with pytest.raises(MalformedError, match=match):
        yield
    assert uploaded() == 0


IMPOSSIBLE: dict[str, bytes] = {
    "a bundle of a terabyte": bencode({"b": bytes(32), "n": 10**12, "t": 1, "v": 1}),
    "a bundle one byte too large": bencode({"b": bytes(32), "n": MAX_BUNDLE_BYTES + 1, "t": 1, "v": 1}),
    "an empty bundle": bencode({"b": bytes(32), "n": 0, "t": 1, "v": 1}),
    "a bundle of less than nothing": bencode({"b": bytes(32), "n": -1, "t": 1, "v": 1}),
    "half an infohash": bencode({"b": bytes(16), "n": 5, "t": 1, "v": 1}),
    "another version": bencode({"b": bytes(32), "n": 5, "t": 1, "v": 2}),
    "no bencoding": b"<html>",
}


@pytest.mark.parametrize("value", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_pointer_is_refused_before_anything_is_fetched(
    network: Network, giver: Swarm, own: Path, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    beacon = put(giver, value)
    with joined(network.options()) as swarm:
        monkeypatch.setattr(swarm, "add_small_fetch", lambda *_a, **_k: pytest.fail("a fetch was started"))
        with pytest.raises(MalformedError):
            find_catalog(swarm, beacon, own)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_bundle_of_another_size_than_the_pointer_says(
    network: Network, giver: Swarm, tmp_path: Path, own: Path, more: int
) -> None:  # fmt: skip
    data = os.urandom(100_000)
    v2 = give(giver, tmp_path, BUNDLE, data)
    beacon = put(giver, pack_pointer(Pointer(bundle=v2, length=len(data) + more, timestamp_version=1)))
    network.wait_for_peers(v2)
    with (
        joined(network.options()) as swarm,
        refusing(lambda: giver.status(v2).uploaded, "another size"),
        alive(giver),
    ):
        find_catalog(swarm, beacon, own)


@pytest.mark.parametrize(
    ("name", "size", "match"), [("2.root.json", 100, "another name"), (ROOT, 16 * 1024 + 1, "too large")]
)
def test_a_root_that_cannot_be_one(tmp_path: Path, own: Path, name: str, size: int, match: str) -> None:
    with Swarm(loopback()) as giver, Swarm(loopback()) as swarm:
        v2 = give(giver, tmp_path, name, os.urandom(size))
        place = endpoint(giver)
        with refusing(lambda: giver.status(v2).uploaded, match), alive(giver):
            fetch_root(swarm, v2, own, peers=[place])


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A plain libtorrent session that gives what ours never would."""

    session: Any
    handle: Any
    v2: str

    @property
    def endpoint(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.session.listen_port())

    def uploaded(self) -> int:
        return int(self.handle.status().total_payload_upload)


def foreign(folder: Path, info: Mapping[str, Bencodable], files: Mapping[str, bytes]) -> Foreign:
    """Give a torrent of any shape, made by hand."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    raw = bencode(info)
    session = lt.session(
        {
            "listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
            "enable_natpmp": False,
        }
    )  # fmt: skip
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(b"d4:info" + raw + b"e")
    parameters.save_path = str(folder)
    parameters.have_pieces = [True] * parameters.ti.num_pieces()
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    return Foreign(session=session, handle=session.add_torrent(parameters), v2=hashlib.sha256(raw).hexdigest())


def leaf(data: bytes) -> dict[str, Bencodable]:
    """One file of at most 16 KiB in a v2 file tree."""
    return {"": {"length": len(data), "pieces root": merkle_root([hashlib.sha256(data).digest()], pad=bytes(32))}}


def info(tree: Mapping[str, Bencodable], name: str, **more: Bencodable) -> dict[str, Bencodable]:
    return {"file tree": tree, "meta version": 2, "name": name, "piece length": 16384, **more}


ONE, TWO = b"one", b"two"
SHAPES: dict[str, tuple[dict[str, Bencodable], dict[str, bytes]]] = {
    "two files": (info({"a": leaf(ONE), "b": leaf(TWO)}, "d"), {"d/a": ONE, "d/b": TWO}),
    "one file in a folder": (info({"a": leaf(ONE)}, "d"), {"d/a": ONE}),
    "larger pieces than it needs": (info({"a": leaf(ONE)}, "a") | {"piece length": 32768}, {"a": ONE}),
    "further fields": (info({"a": leaf(ONE)}, "a", source="x"), {"a": ONE}),
    "a hidden name": (info({".bashrc": leaf(ONE)}, ".bashrc"), {".bashrc": ONE}),
    "an executable file": (
        info({"a": {"": {"attr": "x", "length": 3, "pieces root": hashlib.sha256(ONE).digest()}}}, "a"),
        {"a": ONE},
    ),
}


@pytest.mark.parametrize(("made", "files"), SHAPES.values(), ids=SHAPES.keys())
def test_a_torrent_of_another_shape(
    tmp_path: Path, own: Path, made: dict[str, Bencodable], files: dict[str, bytes]
) -> None:
    giver = foreign(tmp_path / "foreign", made, files)
    with (
        Swarm(loopback()) as swarm,
        refusing(giver.uploaded, "one small file|fields that ours never"),
    ):
        fetch_small(swarm, giver.v2, own, peers=[giver.endpoint])


def test_a_torrent_that_claims_a_terabyte(tmp_path: Path, own: Path) -> None:
    with pytest.raises(MalformedError, match="impossible size"):
        parse_small_info(bencode(info({"a": {"": {"length": 10**12, "pieces root": bytes(32)}}}, "a")))


def test_an_info_dict_that_is_too_large_is_refused(tmp_path: Path, own: Path) -> None:
    names = [f"file-{number:04}-{'x' * 60}" for number in range(400)]
    giver = foreign(
        tmp_path / "foreign", info({name: leaf(ONE) for name in names}, "d"), {f"d/{name}": ONE for name in names}
    )
    with Swarm(loopback()) as swarm, refusing(giver.uploaded, "info too large"):
        fetch_small(swarm, giver.v2, own, peers=[giver.endpoint])


# -- lies about bytes, and passengers --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5_000, 200_000], ids=["one leaf", "several leaves"])
def test_who_gives_other_bytes_is_banned_and_an_honest_peer_asked(tmp_path: Path, own: Path, size: int) -> None:
    data = os.urandom(size)
    wrong = bytearray(data)
    wrong[size // 2] ^= 1
    made = small_torrent(BUNDLE, data)
    # the honest one is slow, so that at least a part comes from the liar
    with Swarm(loopback(LIAR)) as liar, Swarm(loopback(up=100_000)) as honest, Swarm(loopback()) as swarm:
        lie = tmp_path / "lie"
        lie.write_bytes(wrong)
        liar.add_small_seed(made.data, lie)
        _believe_in(liar, made.v2, tmp_path)
        give(honest, tmp_path, BUNDLE, data)
        places = [endpoint(liar), endpoint(honest)]
        with alive(liar), alive(honest):
            found = fetch_small(swarm, made.v2, own, peers=places)
    assert found.data == data


def test_if_all_give_other_bytes_nothing_is_taken(tmp_path: Path, own: Path) -> None:
    made = small_torrent(BUNDLE, bytes(200_000))
    with Swarm(loopback(LIAR)) as liar, Swarm(loopback()) as swarm:
        (tmp_path / "lie").write_bytes(bytes([1]) * 200_000)
        liar.add_small_seed(made.data, tmp_path / "lie")
        _believe_in(liar, made.v2, tmp_path)
        places, given = [endpoint(liar)], 0
        with alive(liar):
            for _ in range(2):
                with pytest.raises(NetworkError, match="nobody"):
                    fetch_small(swarm, made.v2, own, peers=places, timeout=1.5)
                given = given or liar.status(made.v2).uploaded
        assert given == liar.status(made.v2).uploaded  # the second time it wasn't asked


def _believe_in(swarm: Swarm, name: str, folder: Path) -> None:
    """Make a session give what it has without looking at it."""
    handle = swarm._handles[name]
    parameters = lt.add_torrent_params()
    parameters.ti = handle.torrent_file()
    parameters.save_path = str(folder)
    parameters.renamed_files = {0: "lie"}
    parameters.have_pieces = [True]
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    swarm._session.remove_torrent(handle)
    swarm._handles[name] = swarm._session.add_torrent(parameters)
    swarm._session.apply_settings({"seeding_outgoing_connections": False})


def test_of_a_foreign_torrent_trackers_nodes_and_urls_are_never_used(tmp_path: Path, own: Path) -> None:
    data = os.urandom(1000)
    clean = small_torrent(BUNDLE, data)
    with mirror(tmp_path) as server:
        loaded = bencode(
            {
                "announce": server.of("announce"),
                "announce-list": [[server.of("announce")]],
                "info": {"placeholder": 1},
                "nodes": [["127.0.0.1", 9]],
                "url-list": server.of(""),
            }
        ).replace(b"d11:placeholderi1ee", info_bytes(clean.data))
        place = tmp_path / "file"
        place.write_bytes(data)
        with Swarm(loopback()) as giver, Swarm(loopback()) as swarm:
            v2 = giver.add_small_seed(loaded, place)
            assert v2 == clean.v2
            assert giver._handles[v2].trackers() == []
            assert giver._handles[v2].url_seeds() == []
            place_of_giver = endpoint(giver)
            with alive(giver):
                assert fetch_small(swarm, v2, own, peers=[place_of_giver]).data == data
        assert server.requests == []
