"""Bencode, torrents, infohashes, magnets: exact forms, and nothing but MalformedError for everything else."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from samara.schemas.bittorrent import (
    LEAF,
    MAX_PIECE,
    MAX_TORRENT_BYTES,
    MAX_VALUES,
    MIN_PIECE,
    Bdecoded,
    TorrentHashes,
    bdecode,
    bencode,
    blob_file_name,
    hybrid_torrent,
    info_bytes,
    infohashes,
    magnet,
    merkle_root,
    parse_blob_torrent,
    piece_count,
    piece_length_for,
    pieces_root_of_layer,
    single_leaf_v2_info,
    zero_piece_node,
)
from samara.schemas.errors import MalformedError

HEX = "0123456789abcdef" * 4
NAME = HEX + ".gguf"


def bencodables() -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.integers(-(10**20), 10**20), st.binary(max_size=40))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.binary(max_size=8), inner, max_size=5)),
        max_leaves=8,
    )


# --- bencode --------------------------------------------------------------------------------------------------------


@given(bencodables())
def test_what_is_encoded_decodes_to_itself(value: Any) -> None:
    assert bdecode(bencode(value)) == value


@settings(max_examples=500)
@given(st.text(alphabet="0123456789-+ :_ilde", max_size=30).map(str.encode))
def test_every_value_has_only_one_encoding(data: bytes) -> None:
    try:
        value = bdecode(data)
    except MalformedError:
        return
    assert bencode(value) == data


@given(st.binary(max_size=100))
def test_noise_is_malformed_or_canonical(data: bytes) -> None:
    try:
        value = bdecode(data)
    except MalformedError:
        return
    assert bencode(value) == data


def test_known_encodings() -> None:
    assert bencode({"b": 1, "a": [b"x", -5], "A": {}}) == b"d1:Ade1:al1:xi-5ee1:bi1ee"
    assert bencode(["", 0]) == b"l0:i0ee"
    with pytest.raises(TypeError):
        bencode(True)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"i", b"ie", b"i-0e", b"i01e", b"i+1e", b"i 1e", b"i1_0e", b"i1", b"i1.0e", b"i" + b"9" * 30 + b"e",
        b"1", b"1:", b"2:a", b"01:a", b"-1:a", b"+1:a", b"1 :a", b"99999999999999999999:a",
        b"l", b"li1e", b"le ", b"lee", b"i1ei2e",
        b"d", b"d1:a", b"d1:ae", b"di1ei2ee", b"dlei1ee", b"d1:bi1e1:ai1ee", b"d1:ai1e1:ai1ee", b"d1:ai1e", b"x",
    ],
)  # fmt: skip
def test_other_spellings_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        bdecode(data)


@pytest.mark.parametrize("length", range(-25, 0))
def test_a_negative_length_does_not_send_the_reader_back(length: int) -> None:
    with pytest.raises(MalformedError):
        bdecode(b"l" + b"%d:" % length + b"e")
    with pytest.raises(MalformedError):
        bdecode(b"l3:abc" + b"%d:" % length + b"e")


def test_depth_and_number_of_values_are_bounded() -> None:
    assert bdecode(b"l" * 16 + b"e" * 16)
    with pytest.raises(MalformedError):
        bdecode(b"l" * 18 + b"e" * 18)
    with pytest.raises(MalformedError):
        bdecode(b"l" * 100_000)
    assert bdecode(b"l" + b"le" * (MAX_VALUES - 1) + b"e")
    with pytest.raises(MalformedError):
        bdecode(b"l" + b"le" * MAX_VALUES + b"e")


# --- pieces and trees -----------------------------------------------------------------------------------------------


@given(st.integers(1, 1 << 50))
def test_piece_length_is_the_smallest_power_of_two_that_gives_at_most_2048_pieces(size: int) -> None:
    length = piece_length_for(size)
    assert length.bit_count() == 1 and MIN_PIECE <= length <= MAX_PIECE
    assert length == MAX_PIECE or length * 2048 >= size
    assert length == MIN_PIECE or (length // 2) * 2048 < size
    assert (piece_count(size, length) - 1) * length < size <= piece_count(size, length) * length


def test_piece_lengths_at_their_borders() -> None:
    assert piece_length_for(1) == piece_length_for(2048 * MIN_PIECE) == MIN_PIECE
    assert piece_length_for(2048 * MIN_PIECE + 1) == 2 * MIN_PIECE
    assert piece_length_for(1024 * MAX_PIECE) == MAX_PIECE // 2
    assert piece_length_for(1024 * MAX_PIECE + 1) == piece_length_for(1 << 60) == MAX_PIECE


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70), st.integers(0, 6))
def test_a_trees_root_over_pieces_is_its_root_over_leaves(leaves: list[bytes], height: int) -> None:
    per_piece = 1 << height
    assume(len(leaves) > per_piece)
    padded = leaves + [bytes(32)] * (-len(leaves) % per_piece)
    layer = b"".join(
        merkle_root(padded[at : at + per_piece], pad=bytes(32)) for at in range(0, len(padded), per_piece)
    )  # fmt: skip
    assert pieces_root_of_layer(layer, per_piece * LEAF) == merkle_root(leaves, pad=bytes(32))


def test_a_piece_without_leaves_has_the_root_of_zeros() -> None:
    assert zero_piece_node(LEAF) == bytes(32)
    assert zero_piece_node(4 * LEAF) == merkle_root([bytes(32)] * 4, pad=bytes(32))


# --- identities and magnets -----------------------------------------------------------------------------------------


def test_an_identity_is_the_infohash_of_its_root() -> None:
    info = single_leaf_v2_info("1.root.json", b'{"signatures":[],"signed":{}}')
    _, v2 = infohashes(info)
    text = base64.b32encode(bytes.fromhex(v2)).decode().lower().rstrip("=")
    assert text == "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"


@pytest.mark.parametrize("size", [0, LEAF + 1])
def test_a_root_of_more_than_one_leaf_has_no_identity(size: int) -> None:
    with pytest.raises(MalformedError):
        single_leaf_v2_info("1.root.json", bytes(size))


def test_magnets_name_both_swarms() -> None:
    v1, v2 = "1" * 40, "2" * 64
    assert magnet(v1, v2) == f"magnet:?xt=urn:btih:{v1}&xt=urn:btmh:1220{v2}"
    assert magnet(None, v2, name="a b&c") == f"magnet:?xt=urn:btmh:1220{v2}&dn=a%20b%26c"


# --- a blob's torrent -----------------------------------------------------------------------------------------------


def hashes_for(pieces: int = 3, *, short_by: int = 5) -> TorrentHashes:
    nodes = [hashlib.sha256(b"%d" % i).digest() for i in range(pieces)]
    layer = b"".join(nodes)
    return TorrentHashes(
        size=pieces * MIN_PIECE - short_by,
        piece_length=MIN_PIECE,
        pieces_root=nodes[0] if pieces == 1 else pieces_root_of_layer(layer, MIN_PIECE),
        v1_pieces=b"".join(hashlib.sha1(node).digest() for node in nodes),
        v2_layer=layer,
    )


def torrent(pieces: int = 3) -> dict[bytes, Any]:
    top: Any = bdecode(hybrid_torrent(NAME, hashes_for(pieces)))
    return dict(top)


def with_info(**changes: Any) -> bytes:
    top = torrent()
    info = {**top[b"info"], **{key.replace("_", " ").encode(): value for key, value in changes.items()}}
    return bencode({**top, b"info": {key: value for key, value in info.items() if value is not None}})


@pytest.mark.parametrize("pieces", [1, 2, 3, 17])
def test_our_torrents_come_back_as_they_were(pieces: int) -> None:
    data = hybrid_torrent(NAME, hashes_for(pieces))
    parsed = parse_blob_torrent(data)
    assert parsed.canonical == data
    assert parsed.hashes == hashes_for(pieces)
    assert parsed.name == NAME
    assert (parsed.v1, parsed.v2) == infohashes(info_bytes(data))


def test_what_others_add_beside_info_is_dropped() -> None:
    foreign: dict[bytes, Any] = {
        **torrent(),
        b"announce": b"http://tracker.example",
        b"announce-list": [[b"udp://tracker.example"]],
        b"nodes": [[b"10.0.0.1", 6881]],
        b"url-list": [b"http://127.0.0.1/"],
        b"creation date": 5,
        b"comment": b"hello",
    }
    foreign[b"piece layers"] = {**foreign[b"piece layers"], b"x" * 32: b"y" * 64}
    assert parse_blob_torrent(bencode(foreign)).canonical == hybrid_torrent(NAME, hashes_for())


@pytest.mark.parametrize(
    "changes",
    [
        {"private": 1},
        {"source": b"elsewhere"},
        {"meta_version": None},
        {"meta_version": 1},
        {"name": b"../../etc/passwd"},
        {"name": b"model.gguf"},
        {"name": b"\xff" * 32},
        {"name": None},
        {"name": NAME.encode() + b"\n"},
        {"name": HEX.upper().encode() + b".gguf"},
        {"length": 0},
        {"length": -5},
        {"length": 1 << 62},
        {"length": 3 * MIN_PIECE + 1},
        {"length": b"5"},
        {"length": None},
        {"files": []},
        {"piece_length": 2 * MIN_PIECE},
        {"piece_length": 0},
        {"pieces": b""},
        {"pieces": bytes(59)},
        {"pieces": bytes(80)},
        {"pieces": 7},
        {"file_tree": {}},
        {"file_tree": []},
        {"file_tree": {NAME: {"": {"length": 5}}}},
        {"file_tree": {NAME: {"": {"length": 5, "pieces root": bytes(32)}}}},
        {"file_tree": {NAME: {"": {"pieces root": bytes(31)}}}},
        {"file_tree": {NAME: {"": []}}},
        {"file_tree": {NAME: []}},
        {"file_tree": {"other": {"": {"length": 5, "pieces root": bytes(32)}}}},
    ],
)
def test_another_info_dictionary_than_ours_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_blob_torrent(with_info(**changes))


@pytest.mark.parametrize(
    "layers", [None, 5, {}, {bytes(32): bytes(96)}, "short", "wrong", "long", "number"]
)  # fmt: skip
def test_a_wrong_piece_layer_is_refused(layers: Any) -> None:
    top = torrent()
    ((root, layer),) = top[b"piece layers"].items()
    named = {
        "short": {root: layer[:-32]},
        "wrong": {root: bytes(32) + layer[32:]},
        "long": {root: layer + zero_piece_node(MIN_PIECE)},
        "number": {root: 5},
    }  # fmt: skip
    wrong = named[layers] if isinstance(layers, str) else layers
    rest: dict[bytes, Any] = {b"info": top[b"info"]}
    with pytest.raises(MalformedError):
        parse_blob_torrent(bencode(rest if wrong is None else {**rest, b"piece layers": wrong}))


@pytest.mark.parametrize("data", [b"", b"de", b"i1e", b"le", b"d4:infoi1ee", b"d4:infodee", b"0:"])
def test_what_is_no_torrent_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_blob_torrent(data)


def test_size_is_bounded_before_parsing() -> None:
    with pytest.raises(MalformedError, match="too large"):
        parse_blob_torrent(bytes(MAX_TORRENT_BYTES + 1))


def nodes_of(value: Bdecoded, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: list[tuple[Any, Bdecoded]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path] + [found for key, child in children for found in nodes_of(child, (*path, key))]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_value_in_any_place_is_refused_or_harmless(data: st.DataObject) -> None:
    top: Any = torrent(data.draw(st.integers(1, 4)))
    path = data.draw(st.sampled_from(nodes_of(top)))
    value = data.draw(bencodables())
    if not path:
        top = value
    else:
        place = top
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    try:
        parsed = parse_blob_torrent(bencode(top))
    except MalformedError:
        return
    assert parse_blob_torrent(parsed.canonical) == parsed


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_flipped_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    good = bytearray(hybrid_torrent(NAME, hashes_for(data.draw(st.integers(1, 3)))))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    del good[data.draw(st.integers(0, 2 * len(good))) :]
    try:
        parsed = parse_blob_torrent(bytes(good))
    except MalformedError:
        return
    assert parse_blob_torrent(parsed.canonical) == parsed


def test_a_blobs_file_name_is_its_digest() -> None:
    assert blob_file_name(HEX, gguf=True) == f"{HEX}.gguf"
    assert blob_file_name(HEX, gguf=False) == f"{HEX}.bin"
