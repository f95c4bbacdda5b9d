"""A `.samara` file against this machine's trust: what opens, and every way to cheat."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from trust_kit import (
    FILES,
    NOW,
    Line,
    bundle_of,
    home_at,
    line_of,
    payload_of,
    quick_publisher,
    signed_by,
    torrent_of,
    torrents_of,
)

from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.release import inspect_release, open_release
from samara.schemas.bittorrent import bdecode, bencode
from samara.schemas.digests import b3
from samara.schemas.envelope import canonical_json
from samara.schemas.errors import IntegrityError, MalformedError, SamaraError, TrustError
from samara.schemas.release_file import ReleaseBundle, pack_release, unpack_release


@dataclass(frozen=True)
class World:
    """acme publishes on one machine; another machine has pinned it. mallory is nobody's friend."""

    acme: Publisher
    mallory: Publisher
    trust: TrustFolder
    bundle: ReleaseBundle


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    acme, mallory = quick_publisher(home_at(folder / "a")), quick_publisher(home_at(folder / "m"), "mallory")
    trust = TrustFolder(home_at(folder / "b").trust)
    trust.add("acme", acme.identity, now=NOW)
    return World(acme, mallory, trust, bundle_of(acme))


@pytest.fixture
def line_trust(tmp_path: Path) -> tuple[Line, TrustFolder]:
    line, trust = line_of(3), TrustFolder(tmp_path / "trust")
    trust.add("acme", line.identity, now=NOW)
    return line, trust


def test_a_release_of_a_pinned_publisher_opens_from_its_file_alone(world: World) -> None:
    opened = open_release(unpack_release(pack_release(world.bundle)), world.trust)
    assert opened.trusted
    assert opened.pin.alias == "acme"
    assert opened.release.identity == world.acme.identity
    assert opened.signers == tuple(world.acme.chain.targets_keys)
    assert set(opened.torrents) == {b3(data) for data in FILES.values()}
    assert all(opened.torrents[f.b3].v2 == f.torrent.v2 for f in opened.release.files if f.torrent)


def test_what_opened_can_be_handed_on(world: World) -> None:
    opened = open_release(world.bundle, world.trust)
    again = open_release(unpack_release(pack_release(opened.bundle)), world.trust)
    assert again == opened


def test_the_roots_it_came_with_are_remembered(world: World) -> None:
    open_release(world.bundle, world.trust)
    assert world.trust.stored_chain(world.acme.identity) == world.acme.chain
    without = replace(world.bundle, roots=())
    assert open_release(without, world.trust).chain == world.acme.chain


def test_an_unpinned_publisher_is_refused_with_the_command_that_pins_it(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrustError) as caught:
        open_release(world.bundle, TrustFolder(tmp_path / "empty"))
    assert str(caught.value).endswith(f"samara trust add acme --identity {world.acme.identity}")
    assert not (tmp_path / "empty").exists()


def test_an_impostor_by_name_is_called_out(world: World) -> None:
    with pytest.raises(TrustError, match="ANOTHER PUBLISHER CALLS ITSELF acme"):
        open_release(bundle_of(world.mallory, name="acme"), world.trust)


def test_a_stranger_who_signs_under_acmes_identity_is_refused(world: World) -> None:
    forged = world.mallory.sign(payload_of(world.acme.identity), world.mallory.online_keys())
    with pytest.raises(TrustError, match="not signed by its publisher"):
        open_release(replace(world.bundle, envelope=forged), world.trust)
    with pytest.raises(TrustError, match="belongs to another publisher"):
        open_release(replace(world.bundle, envelope=forged, roots=world.mallory.chain.roots), world.trust)


def test_a_changed_manifest_is_refused(world: World) -> None:
    payload = world.bundle.envelope.payload.replace(b'"tag":"q8_0"', b'"tag":"q4_0"')
    with pytest.raises(TrustError, match="changed after signing"):
        open_release(replace(world.bundle, envelope=replace(world.bundle.envelope, payload=payload)), world.trust)


def test_after_a_rotation_the_old_key_opens_nothing_more(line_trust: tuple[Line, TrustFolder]) -> None:
    line, trust = line_trust
    old = ReleaseBundle(roots=line.roots[:1], envelope=signed_by(line, line.online_keys[:1]), torrents=torrents_of())
    new = ReleaseBundle(roots=line.roots, envelope=signed_by(line, line.online_keys[2:]), torrents=torrents_of())
    assert open_release(old, trust).chain.version == 1
    assert open_release(new, trust).chain.version == 3
    with pytest.raises(TrustError, match="retired since"):
        open_release(old, trust)


def test_a_rotation_is_remembered_even_from_a_release_that_is_refused(line_trust: tuple[Line, TrustFolder]) -> None:
    line, trust = line_trust
    bad = ReleaseBundle(roots=line.roots, envelope=signed_by(line, line.online_keys[:1]), torrents=torrents_of())
    with pytest.raises(TrustError, match="retired since"):
        open_release(bad, trust)
    stored = trust.stored_chain(line.identity)
    assert stored is not None
    assert stored.version == 3


def test_a_root_signed_only_by_its_new_key_opens_nothing(line_trust: tuple[Line, TrustFolder]) -> None:
    line, trust = line_trust
    gap = ReleaseBundle(
        roots=(line.roots[0], line.roots[2]), envelope=signed_by(line, line.online_keys[2:]), torrents=torrents_of()
    )
    with pytest.raises(TrustError, match="gap"):
        open_release(gap, trust)
    assert trust.stored_chain(line.identity) is None


def test_a_missing_torrent_is_named_by_its_file(world: World) -> None:
    with pytest.raises(MalformedError, match=r"lacks the torrent of notes/readme\.txt"):
        open_release(replace(world.bundle, torrents=world.bundle.torrents[:1]), world.trust)


def test_a_torrent_of_other_bytes_under_the_right_name_is_refused(world: World) -> None:
    data = FILES["tiny.gguf"]
    other = torrent_of(bytes(len(data)), gguf=True)
    info = bdecode(other)
    assert isinstance(info, dict)
    inner = info[b"info"]
    assert isinstance(inner, dict)
    name = f"{b3(data)[3:]}.gguf".encode()
    tree = inner[b"file tree"]
    assert isinstance(tree, dict)
    inner[b"file tree"] = {name: next(iter(tree.values()))}
    inner[b"name"] = name
    forged = replace(world.bundle, torrents=(bencode(info), world.bundle.torrents[1]))
    with pytest.raises(IntegrityError, match=r"the torrent of tiny\.gguf is not the one its manifest names"):
        open_release(forged, world.trust)


def test_a_torrent_of_another_file_is_not_taken_for_a_missing_one(world: World) -> None:
    stray = torrent_of(b"something else", gguf=True)
    with pytest.raises(MalformedError, match=r"lacks the torrent of tiny\.gguf"):
        open_release(replace(world.bundle, torrents=(stray, world.bundle.torrents[1])), world.trust)


def test_torrents_of_no_file_and_trackers_within_are_dropped(world: World) -> None:
    stray = torrent_of(b"something else", gguf=False)
    loud = bdecode(world.bundle.torrents[0])
    assert isinstance(loud, dict)
    loud[b"announce"] = b"http://tracker.invalid/announce"
    loud[b"url-list"] = b"http://mirror.invalid/x"
    torrents = (bencode(loud), world.bundle.torrents[1], stray)
    opened = open_release(replace(world.bundle, torrents=torrents), world.trust)
    assert opened.bundle.torrents == world.bundle.torrents


def test_two_torrents_of_one_name_must_be_the_same(world: World) -> None:
    twice = replace(world.bundle, torrents=world.bundle.torrents * 2)
    assert open_release(twice, world.trust).bundle.torrents == world.bundle.torrents


def test_inspecting_asks_no_pin_and_trusts_nobody(world: World) -> None:
    seen = inspect_release(bundle_of(world.mallory, name="acme"))
    assert not seen.trusted
    assert seen.problem is None
    assert seen.chain == world.mallory.chain
    assert seen.signers == tuple(world.mallory.chain.targets_keys)
    assert seen.release.publisher_name == "acme"


def test_inspecting_tells_what_does_not_hold(world: World) -> None:
    forgery = world.mallory.sign(payload_of(world.acme.identity), world.mallory.online_keys())
    forged = inspect_release(replace(world.bundle, envelope=forgery))
    assert isinstance(forged.problem, TrustError)
    assert forged.chain == world.acme.chain
    rootless = inspect_release(replace(world.bundle, roots=()))
    assert isinstance(rootless.problem, TrustError)
    assert rootless.chain is None
    torrentless = inspect_release(replace(world.bundle, torrents=()))
    assert isinstance(torrentless.problem, MalformedError)
    assert torrentless.signers


def opens_as_signed_or_not_at_all(data: bytes, world: World) -> None:
    """The one promise: only our own errors, and never anything but what acme signed."""
    try:
        opened = open_release(unpack_release(data), world.trust)
    except SamaraError:
        return
    assert opened.envelope.payload == world.bundle.envelope.payload
    assert opened.bundle.torrents == world.bundle.torrents
    assert opened.chain == world.acme.chain


def mutated(data: st.DataObject, original: bytes) -> bytes:
    out = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(out)))
        length = data.draw(st.integers(0, 40))
        out[at : at + length] = data.draw(st.binary(max_size=12))
    return bytes(out)


def wire(bundle: ReleaseBundle) -> dict[str, Any]:
    value = json.loads(zstandard.ZstdDecompressor().decompress(pack_release(bundle)))
    assert isinstance(value, dict)
    return value


def packed(value: object) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(json.dumps(value).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def disturbed(data: st.DataObject, value: Any) -> Any:
    """The value with one place in it replaced by any JSON."""
    paths = [path for path in _paths(value) if path]
    path = data.draw(st.sampled_from(paths))
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = data.draw(JSON)
    return value


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fuzz_any_bytes_of_the_file(world: World, data: st.DataObject) -> None:
    opens_as_signed_or_not_at_all(mutated(data, pack_release(world.bundle)), world)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_fuzz_any_place_in_the_container(world: World, data: st.DataObject) -> None:
    opens_as_signed_or_not_at_all(packed(disturbed(data, wire(world.bundle))), world)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), part=st.sampled_from(["root", "payload", "sig", "torrent"]))
def test_fuzz_any_part_inside_its_wrapping(world: World, data: st.DataObject, part: str) -> None:
    value = wire(world.bundle)
    holder, key = {
        "root": (value["roots"], 0),
        "payload": (value["envelope"], "payload"),
        "sig": (value["envelope"]["signatures"][0], "sig"),
        "torrent": (value["torrents"], data.draw(st.integers(0, 1))),
    }[part]
    holder[key] = base64.b64encode(mutated(data, base64.b64decode(holder[key]))).decode()
    opens_as_signed_or_not_at_all(packed(value), world)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_fuzz_manifests_that_acme_did_sign(world: World, data: st.DataObject) -> None:
    """A publisher's own nonsense must not crash a reader either."""
    payload = canonical_json_or_none(disturbed(data, json.loads(world.bundle.envelope.payload)))
    if payload is None:
        return
    odd = replace(world.bundle, envelope=world.acme.sign(payload, world.acme.online_keys()))
    for read in (lambda: open_release(odd, world.trust), lambda: inspect_release(odd)):
        try:
            read()
        except SamaraError:
            continue


def canonical_json_or_none(value: object) -> bytes | None:
    try:
        return canonical_json(value)
    except ValueError:  # NaN, or half a surrogate pair
        return None


def _paths(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in items for path in _paths(item, (*at, key)))]
