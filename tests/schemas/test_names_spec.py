"""docs/names-spec.md, held against what the product makes by a second implementation written from the text.

If this fails while everything else passes, the document doesn't say what the code does: mend the text.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import second_names as second
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from second_reader import Refused, bencode, identity_of, unpack
from vector_files import FIXTURES, FOLDER, vector

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.key_changes import rotate_key
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import nothing, retraction, tagging, update_catalog
from samara.registry.trust.publishers import ONLINE_ROLES, Publisher, load_publisher
from samara.schemas.bittorrent import MAX_SMALL_FILE, bdecode, magnet, parse_magnet, small_torrent
from samara.schemas.envelope import canonical_json
from samara.schemas.errors import SamaraError
from samara.schemas.metadata_bundle import pack_metadata, unpack_metadata
from samara.schemas.pointer import Pointer, pack_pointer, unpack_pointer
from samara.schemas.references import parse_reference
from samara.seeder.announcements import Announcements
from samara.seeder.publish import Description, publish
from samara.seeder.site import write_site

NAMES, EXAMPLE = vector("names.json"), vector("example.json")
IDENTITY = EXAMPLE["root"]["identity"]
SPEC = (Path(__file__).parents[2] / "docs" / "names-spec.md").read_text(encoding="utf-8")
THEN = "2026-01-02T03:04:05Z"  # when the examples were made
MODEL = FIXTURES / "tiny-q8_0.gguf"


def example_bundle() -> bytes:
    parts = {role: NAMES[role] for role in ("snapshot", "targets", "timestamp")}
    return b"d6:format17:samara-metadata-15:rootsl%se%se" % (
        bencode(EXAMPLE["root"]["text"]),
        b"".join(bencode(role) + bencode(part) for role, part in parts.items()),
    )


def example_release() -> bytes:
    """The release object, from the `.samara` file: the same without roots."""
    return canonical_json({**unpack((FOLDER / "example.samara").read_bytes()), "roots": []})


def example_swarms() -> dict[str, bytes]:
    return {
        EXAMPLE["root"]["infohash"]: EXAMPLE["root"]["text"].encode(),
        NAMES["bundle"]["infohash"]: example_bundle(),
        NAMES["release"]["infohash"]: example_release(),
    }


def test_it_knows_nothing_of_this_project() -> None:
    tree = ast.parse(Path(second.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"blake3", "second_reader"}


def test_the_spec_names_its_vectors() -> None:
    assert "`names.json`" in SPEC


class TestVectors:
    """tests/vectors/names.json, by the second reader."""

    def test_from_identity_to_manifest(self) -> None:
        item = bytes.fromhex(NAMES["pointer"]["value"])
        manifest = second.resolve(IDENTITY, "tiny", "q8_0", example_swarms(), item, THEN)
        assert manifest["predicate"]["files"][0]["path"] == "tiny-q8_0.gguf"

    def test_every_value_on_the_way(self) -> None:
        for made, data in (("bundle", example_bundle()), ("release", example_release())):
            said = NAMES[made]
            assert (len(data), hashlib.sha256(data).hexdigest()) == (said["length"], said["sha256"])
            assert second.info_of(said["name"], data).hex() == said["info"]
            assert second.read_info(bytes.fromhex(said["info"]), said["infohash"], said["name"], 1 << 24) == len(data)

    def test_the_beacon_signed_the_pointer(self) -> None:
        pointer = NAMES["pointer"]
        value = bytes.fromhex(pointer["value"])
        assert second.read_pointer(value) == (NAMES["bundle"]["infohash"], NAMES["bundle"]["length"], 1)
        message = second.signed_item(value, pointer["seq"])
        assert message.hex() == pointer["signed"]
        beacon = Ed25519PublicKey.from_public_bytes(bytes.fromhex(EXAMPLE["keys"]["beacon"]["public"]))
        beacon.verify(bytes.fromhex(pointer["signature"]), message)

    def test_the_magnet_link_leads_to_the_same(self) -> None:
        found = second.read_magnet(NAMES["magnet"])
        torrent = EXAMPLE["files"][0]["torrent"]
        assert (found["v1"], found["v2"]) == (torrent["v1"], torrent["v2"])
        assert (found["manifest"], found["release"]) == (EXAMPLE["manifest"]["digest"], NAMES["release"]["infohash"])

    @pytest.mark.parametrize("case", NAMES["small_files"], ids=lambda case: str(case["size"]))
    def test_small_files(self, case: dict[str, Any]) -> None:
        data = (bytes(range(251)) * (case["size"] // 251 + 1))[: case["size"]]
        assert second.infohash(case["name"], data) == case["infohash"]

    @pytest.mark.parametrize(
        ("swarm", "change"),
        [
            ("bundle", lambda data: data.replace(b'"version":1,"x-samara"', b'"version":2,"x-samara"')),
            ("bundle", lambda data: data.replace(b"5:roots", b"5:Roots")),
            ("bundle", lambda data: data + b"e"),
            ("release", lambda data: data.replace(b'"roots":[]', b'"roots":["QQ=="]')),
            ("release", lambda data: data[:-1]),
        ],
    )
    def test_what_was_changed_is_refused(self, swarm: str, change: Callable[[bytes], bytes]) -> None:
        swarms = example_swarms()
        at = NAMES[swarm]["infohash"]
        assert change(swarms[at]) != swarms[at]
        with pytest.raises(Refused):
            second.resolve(
                IDENTITY, "tiny", "q8_0", {**swarms, at: change(swarms[at])},
                bytes.fromhex(NAMES["pointer"]["value"]), THEN,
            )  # fmt: skip

    def test_what_has_expired_is_refused(self) -> None:
        with pytest.raises(Refused, match="expired"):
            second.read_catalog(IDENTITY, example_bundle(), "2026-02-01T03:04:05Z")


class TestBothReaders:
    def test_they_agree_on_pointers(self) -> None:
        good = {"b": b"\xab" * 32, "n": 1000, "t": 7, "v": 1}
        for change in (
            {}, {"x": 1}, {"n": MAX_SMALL_FILE}, {"n": MAX_SMALL_FILE + 1}, {"n": 0}, {"n": -1}, {"t": 0},
            {"t": 2**53 - 1}, {"t": 2**53}, {"v": 2}, {"v": b"1"}, {"b": b"\xab" * 31}, {"b": b"\xab" * 33}, {"b": 1},
        ):  # fmt: skip
            data = bencode({**good, **change})
            assert accepts(unpack_pointer, data) == accepts(second.read_pointer, data), change
        assert accepts(second.read_pointer, bencode({**good, "x": 1}))
        for odd in (bencode(good) + b"e", b"d1:v" + b"i1ee", b"d1:vi01ee", b"i-0e", b"le", b"d1:b1:x1:a1:xe", b""):
            assert not accepts(unpack_pointer, odd)
            assert not accepts(second.read_pointer, odd)

    @pytest.mark.parametrize(
        "data",
        [b"", b"i0e", b"i-1e", b"i-0e", b"i00e", b"i+1e", b"i e", b"1:a", b"01:a", b"-1:a", b"2:a", b"le", b"li1ei2ee",
         b"de", b"d1:a1:b1:c0:e", b"d1:b0:1:a0:e", b"d1:a0:1:a0:e", b"di1e0:e", b"d1:ae", b"dee", b"l"],
    )  # fmt: skip
    def test_they_agree_on_bencoding(self, data: bytes) -> None:
        assert accepts(bdecode, data) == accepts(second.bdecode, data)

    @pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
    def test_they_agree_on_the_bounds_of_a_bundle(self, name: str) -> None:
        bounds = {"timestamp": 16 << 10, "snapshot": 64 << 10, "targets": 12 << 20}
        for size in (0, bounds[name], bounds[name] + 1):
            parts: dict[str, Any] = {"timestamp": b"x", "snapshot": b"x", "targets": b"x", name: bytes(size)}
            data = b"d6:format17:samara-metadata-15:rootsl1:xe" + bencode(parts)[1:]
            assert accepts(unpack_metadata, data) == accepts(second.read_bundle, data) == (size == bounds[name])

    @pytest.mark.parametrize("size", [1, 16_384, 16_385, 50_000, 300_000])
    def test_they_make_the_same_torrent_of_a_small_file(self, size: int) -> None:
        made = small_torrent("some.name", bytes(size))
        assert made.data == b"d4:info" + second.info_of("some.name", bytes(size)) + b"e"
        assert made.v2 == second.infohash("some.name", bytes(size))

    def test_they_take_the_same_from_a_magnet_link(self) -> None:
        link = magnet("cd" * 20, "ab" * 32, name="a b&c.gguf", manifest="b3:" + "01" * 32, release="02" * 32)
        odd = link + "&tr=http://tracker.example&x.pe=192.0.2.1:1&ws=http://mirror.example/x"
        found = parse_magnet(odd)
        assert second.read_magnet(odd) == {
            "v1": found.v1, "v2": found.v2, "manifest": found.manifest, "release": found.release,
        }  # fmt: skip


class TestProduct:
    """What `samara` writes today, by the second reader."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return Home(tmp_path / "home")

    @pytest.fixture
    def publisher(self, home: Home) -> Publisher:
        publisher = init_publisher(home, "acme", passphrase=None, recovery=None, now=datetime.now(UTC))
        self.publish(home, publisher, "v1", "the first")
        return publisher

    def publish(self, home: Home, publisher: Publisher, tag: str, words: str) -> str:
        done = publish(
            home, [MODEL], parse_reference(f"acme/tiny:{tag}"), publisher,
            description=Description(description=words), output=home.root / "out.samara",
        )  # fmt: skip
        return done.release.digest

    def announced(self, home: Home) -> tuple[dict[str, bytes], list[bytes]]:
        """By infohash what a seeder gives to swarms, and what it puts into the DHT."""
        with Index.open(home) as index:
            said = Announcements(home, index, ask=None, on_event=print)()
        return (
            {second.infohash(file.name, file.data): file.data for file in said.files},
            [pack_pointer(pointer) for _, pointer in said.pointers],
        )

    def test_from_an_identity_to_a_manifest(self, home: Home, publisher: Publisher) -> None:
        swarms, items = self.announced(home)
        assert len(items) == 1
        manifest = second.resolve(publisher.identity, "tiny", "v1", swarms, items[0], second.now_text())
        assert manifest["predicate"]["description"] == "the first"

    def test_a_moved_tag_a_withdrawn_release_and_a_rotated_key(self, home: Home, publisher: Publisher) -> None:
        first = self.announced(home)[0]
        keys = publisher.open_keys(ONLINE_ROLES, None)
        now = datetime.now(UTC)
        update_catalog(home, publisher, tagging("tiny", "v1", "latest"), signers=keys, now=now)
        update_catalog(home, publisher, retraction("tiny", "v1", "broken chat template"), signers=keys, now=now)
        new = self.publish(home, publisher, "v1", "the second")
        rotate_key(home, publisher, "online", ask=None, now=now)
        publisher = load_publisher(home, "acme")
        swarms, (item,) = self.announced(home)
        manifest = second.resolve(publisher.identity, "tiny", "v1", swarms, item, second.now_text())
        assert manifest["predicate"]["description"] == "the second"  # signed by the key that is retired now
        with pytest.raises(Refused, match="withdrawn"):
            second.resolve(publisher.identity, "tiny", "latest", swarms, item, second.now_text())
        catalog = second.read_catalog(publisher.identity, swarms[second.read_pointer(item)[0]], second.now_text())
        entry, old = catalog.entry("tiny", "v1"), catalog.entry("tiny", "latest")
        assert (entry.manifest, entry.version, entry.retracted) == (new, 2, None)
        assert entry.withdrawn == [(old.manifest, 1, "broken chat template")]
        assert (old.retracted, old.btmh in first) == ("broken chat template", True)

    def test_a_rotated_beacon_says_the_same_under_both_keys(self, home: Home, publisher: Publisher) -> None:
        rotate_key(home, publisher, "beacon", ask=None, now=datetime.now(UTC))
        _, items = self.announced(home)
        assert len(items) == 2
        assert len(set(items)) == 1

    def test_every_signature_makes_both_numbers_new(self, home: Home, publisher: Publisher) -> None:
        before = self.versions(home, publisher)
        keys = publisher.open_keys(ONLINE_ROLES, None)
        update_catalog(home, publisher, nothing, signers=keys, now=datetime.now(UTC))
        after = self.versions(home, publisher)
        assert [after[role] - before[role] for role in ("timestamp", "snapshot", "targets")] == [1, 1, 0]

    def versions(self, home: Home, publisher: Publisher) -> dict[str, int]:
        swarms, (item,) = self.announced(home)
        bundle = swarms[second.read_pointer(item)[0]]
        return second.read_catalog(publisher.identity, bundle, second.now_text()).versions

    def test_a_folder_that_serves_names(self, home: Home, publisher: Publisher, tmp_path: Path) -> None:
        write_site(home, publisher.identity, tmp_path / "site")
        files = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.json")}
        swarms, (item,) = self.announced(home)
        bundle = swarms[second.read_pointer(item)[0]]
        entry = second.read_catalog(publisher.identity, bundle, second.now_text()).entry("tiny", "v1")
        released = f"releases/{entry.manifest.removeprefix('b3:')}.release.json"
        assert files == {"timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json", released}
        assert (tmp_path / "site" / released).read_bytes() == swarms[entry.btmh]
        roots, snapshot, targets, timestamp = second.read_bundle(bundle)
        for name, data in (
            ("1.root.json", roots[0]), ("1.snapshot.json", snapshot), ("1.targets.json", targets),
            ("timestamp.json", timestamp),
        ):  # fmt: skip
            assert (tmp_path / "site" / name).read_bytes() == data


def accepts(read: Callable[[bytes], object], data: bytes) -> bool:
    try:
        read(data)
    except (SamaraError, Refused, KeyError, TypeError, ValueError):
        return False
    return True


def test_the_product_takes_the_vectors() -> None:
    bundle = unpack_metadata(example_bundle())
    assert pack_metadata(bundle) == example_bundle()
    assert identity_of(bundle.roots[0]) == IDENTITY
    where = NAMES["bundle"]
    pointer = Pointer(bundle=where["infohash"], length=where["length"], timestamp_version=1)
    assert unpack_pointer(bytes.fromhex(NAMES["pointer"]["value"])) == pointer
