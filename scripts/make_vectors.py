#!/usr/bin/env python3
"""Writes the test vectors of docs/manifest-spec.md and docs/names-spec.md to tests/vectors/, and the
worked example into the first of them.

    python scripts/make_vectors.py

Everything is made by the project's own code from fixed inputs: the same bytes on every machine and every day.
tests/schemas/test_vectors.py holds what is committed equal to what this makes, and reads it with a second
implementation. The keys in here are for tests only: their seeds are published, anybody can sign with them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from samara.registry.home import Home
from samara.registry.trust.catalogs import write_catalog
from samara.registry.trust.identity import ROOT_V1_NAME, identity_of, infohash_of, root_magnet
from samara.registry.trust.keys import SecretKey, open_key, seal_key
from samara.registry.trust.making import install_publisher
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.recovery import KeyRecord, Recovery
from samara.registry.trust.roots import first_root_plan, write_root
from samara.schemas.bittorrent import (
    info_bytes,
    parse_blob_torrent,
    piece_length_for,
    single_leaf_v2_info,
    small_torrent,
)
from samara.schemas.digests import b3, b3_text
from samara.schemas.envelope import PAYLOAD_TYPE
from samara.schemas.gguf import GgufHeader, KeySpan, TensorSpan
from samara.schemas.gguf_constants import TENSOR_TYPES
from samara.schemas.layouts import Layout, block_sizes
from samara.schemas.manifest import Release, ReleaseFile
from samara.schemas.metadata_bundle import MetadataBundle, pack_metadata
from samara.schemas.pointer import SALT, Pointer, pack_pointer
from samara.schemas.references import parse_reference
from samara.schemas.release_file import ReleaseBundle, pack_release_object, release_torrent, unpack_release
from samara.seeder.gguf_facts import read_gguf
from samara.seeder.hashing import hash_file
from samara.seeder.publish import Description, publish
from samara.seeder.torrent import build_torrent

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "vectors"
SPEC = ROOT / "docs" / "manifest-spec.md"
MODEL = ROOT / "tests" / "fixtures" / "tiny-q8_0.gguf"

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SEEDS = {"root": b"\x01" * 32, "online": b"\x02" * 32, "beacon": b"\x03" * 32}  # tests only: everybody knows them
LICENCE = b"To the extent possible under law, the makers of this model have waived all rights to it (CC0-1.0).\n"
REFERENCE = "example/tiny:q8_0"

KIB, MIB, GIB = 2**10, 2**20, 2**30
MARK = "<!-- {}: {}, made by scripts/make_vectors.py -->"


def main() -> None:
    files = vectors()
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)
        sys.stdout.write(f"wrote tests/vectors/{name}\n")
    SPEC.write_text(with_made_parts(SPEC.read_text(encoding="utf-8"), files["example.json"]), encoding="utf-8")
    sys.stdout.write("wrote the made parts of docs/manifest-spec.md\n")


def vectors() -> dict[str, bytes]:
    """File name → content of everything in tests/vectors/ that is made rather than written."""
    release_file, example, named = worked_example()
    return {
        "example.samara": release_file,
        "example.json": (json.dumps(example, indent=1, ensure_ascii=False) + "\n").encode(),
        "names.json": (json.dumps(named, indent=1, ensure_ascii=False) + "\n").encode(),
        "identities.json": as_lines(identity_cases()),
        "layouts.json": as_lines(layout_cases()),
        "torrents.json": as_lines(torrent_cases()),
    }


def as_lines(cases: Iterable[dict[str, Any]]) -> bytes:
    """A JSON list with one case in a line."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    return f"[\n{lines}\n]\n".encode()


# -- the worked example ------------------------------------------------------------------------------------------------


def worked_example() -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The `.samara` file of a release of two files, every value on the way to it, and what its name leads to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "LICENSE").write_bytes(LICENCE)
        home = Home(folder / "home")
        publisher = example_publisher(home)
        done = publish(
            home,
            [MODEL, folder / "LICENSE"],
            parse_reference(REFERENCE),
            publisher,
            description=Description(license="CC0-1.0", mirrors=("https://example.org/models/",)),
            output=folder / "example.samara",
            now=NOW,
        )
        packed = done.release_file.read_bytes()
        listed = own_catalog(publisher)
    assert listed is not None  # signed by the clock: not the same on every day
    catalog = write_catalog(publisher.chain, listed.catalog.entries, None, signers=[example_keys()["online"]], now=NOW)
    bundle = unpack_release(packed)
    keys = example_keys()
    return (
        packed,
        {
            "about": "The worked example of docs/manifest-spec.md. The seeds are public: for tests only.",
            "created": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "keys": {
                use: {"seed": SEEDS[use].hex(), "public": key.public.hex(), "keyid": key.keyid}
                for use, key in keys.items()
            },
            "root": root_values(publisher),
            "files": [file_values(file, bundle) for file in done.release.files],
            "manifest": manifest_values(done.release, bundle),
        },
        name_values(done.release, bundle, catalog),
    )


def example_keys() -> dict[str, SecretKey]:
    found = {}
    for use, seed in SEEDS.items():
        private = Ed25519PrivateKey.from_private_bytes(seed)
        data = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        found[use] = open_key(data, None, what=use)
    return found


def example_publisher(home: Home) -> Publisher:
    """A publisher with the keys above; its folder holds the online key."""
    keys = example_keys()
    root = write_root(
        first_root_plan(
            root=keys["root"].public, online=keys["online"].public, beacon=keys["beacon"].public, now=NOW
        ),
        [keys["root"]],
    )  # fmt: skip
    online = KeyRecord(file="online.key", use="online", public=keys["online"].public.hex())
    material = Recovery(
        name="example",
        created="2026-01-02T03:04:05Z",
        roots=(root,),
        keys=((online, seal_key(keys["online"], None)),),
    )
    return install_publisher(home, "example", material)


def root_values(publisher: Publisher) -> dict[str, Any]:
    (root,) = publisher.chain.roots
    return {
        "text": root.decode(),
        "length": len(root),
        "pieces_root": hashlib.sha256(root).hexdigest(),
        "info": single_leaf_v2_info(ROOT_V1_NAME, root).hex(),
        "infohash": infohash_of(publisher.identity),
        "identity": publisher.identity,
        "magnet": root_magnet(publisher.identity),
    }


def file_values(file: ReleaseFile, bundle: ReleaseBundle) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": file.path,
        "size": file.size,
        "b3": file.b3,
        "sha256": file.sha256,
        "layout": file.layout,
        "blocks": [{"offset": one.offset, "size": one.size, "b3": b3_text(one.digest)} for one in file.blocks],
    }
    if file.layout == Layout.GGUF:
        with MODEL.open("rb") as opened:
            header, _ = read_gguf(opened, file.size)
        found["header"] = {
            "keys": [[span.key, span.start, span.end] for span in header.keys],
            "tensor_infos_at": header.tensor_infos_at,
            "data_at": header.data_at,
            "tensors": [[span.name, span.start, span.end] for span in header.tensors],
        }
    if file.inline is not None:
        found["inline"] = file.inline.decode()
    if file.torrent is not None:
        parsed = next(one for one in map(parse_blob_torrent, bundle.torrents) if one.v2 == file.torrent.v2)
        hashes = parsed.hashes
        found["torrent"] = {
            "name": parsed.name,
            "piece_length": hashes.piece_length,
            "pieces": [hashes.v1_pieces[i : i + 20].hex() for i in range(0, len(hashes.v1_pieces), 20)],
            "piece_layer": [hashes.v2_layer[i : i + 32].hex() for i in range(0, len(hashes.v2_layer), 32)],
            "pieces_root": hashes.pieces_root.hex(),
            "v1": parsed.v1,
            "v2": parsed.v2,
            "magnet": file.magnet,
        }
    return found


def manifest_values(release: Release, bundle: ReleaseBundle) -> dict[str, Any]:
    payload = bundle.envelope.payload
    (signature,) = bundle.envelope.signatures
    return {
        "payload": payload.decode(),
        "length": len(payload),
        "digest": release.digest,
        "pae_begins": f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ",
        "keyid": signature.keyid,
        "signature": signature.sig.hex(),
        "uri": release.uri,
    }


def name_values(release: Release, bundle: ReleaseBundle, catalog: MetadataBundle) -> dict[str, Any]:
    """The publisher's catalog after this one release, and everything that leads to it and from it."""
    metadata = pack_metadata(catalog)
    swarm = small_torrent(f"{release.identity}.metadata", metadata)
    pointer = pack_pointer(Pointer(bundle=swarm.v2, length=swarm.size, timestamp_version=1))
    signed = b"4:salt%d:%s3:seqi1e1:v%d:%s" % (len(SALT), SALT, len(pointer), pointer)
    beacon = Ed25519PrivateKey.from_private_bytes(SEEDS["beacon"])
    released = release_torrent(bundle)
    return {
        "about": "The catalog of docs/manifest-spec.md's worked example, as docs/names-spec.md says. For tests only.",
        "name": release.uri,
        "timestamp": catalog.timestamp.decode(),
        "snapshot": catalog.snapshot.decode(),
        "targets": catalog.targets.decode(),
        "bundle": {
            "name": swarm.name,
            "length": swarm.size,
            "sha256": hashlib.sha256(metadata).hexdigest(),
            "info": info_bytes(swarm.data).hex(),
            "infohash": swarm.v2,
        },
        "pointer": {
            "salt": SALT.decode(),
            "value": pointer.hex(),
            "seq": 1,
            "signed": signed.hex(),
            "signature": beacon.sign(signed).hex(),
        },
        "release": {
            "name": released.name,
            "length": released.size,
            "sha256": hashlib.sha256(pack_release_object(bundle)).hexdigest(),
            "info": info_bytes(released.data).hex(),
            "infohash": released.v2,
        },
        "magnet": release.files[0].magnet_of(manifest=release.digest, release=released.v2),
        "small_files": [small_file_case(size) for size in (1, 16_384, 16_385, 32_768, 49_153, 1_000_000)],
    }


def small_file_case(size: int) -> dict[str, Any]:
    """A small file whose byte number i is i mod 251."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    return {"name": "small", "size": size, "infohash": small_torrent("small", data).v2}


# -- cases by themselves -----------------------------------------------------------------------------------------------


def identity_cases() -> list[dict[str, Any]]:
    """`text` repeated `times` is root version 1, whether or not it would be accepted as such."""
    cases = [('{"signatures":[],"signed":{}}', 1), ("x", 1), ("x", 16384)]
    return [
        {"text": text, "times": times, "identity": identity, "infohash": infohash_of(identity)}
        for text, times in cases
        for identity in [identity_of((text * times).encode())]
    ]


def torrent_cases() -> list[dict[str, Any]]:
    """Blobs whose byte number i is i mod 251; of the largest the piece length only."""
    sizes = [1, 16383, 16384, 16385, 100_000, 262_143, 262_144, 262_145, 600_000, 1_048_577, 3_000_000]
    large = [512 * MIB, 512 * MIB + 1, GIB + 1, 32 * GIB, 32 * GIB + 1, 10**12]
    return [*map(torrent_case, sizes), *({"size": size, "piece_length": piece_length_for(size)} for size in large)]


def torrent_case(size: int) -> dict[str, Any]:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "blob")
        path.write_bytes(data)
        hashes = hash_file(path, [size]).torrent
    names = {}
    for gguf in (False, True):
        built = build_torrent(b3(data)[3:], gguf=gguf, hashes=hashes)
        name = parse_blob_torrent(built.data).name
        names[name[64:]] = {"v1": built.v1, "v2": built.v2, "sha256_of_torrent": hashlib.sha256(built.data).hexdigest()}
    return {
        "size": size,
        "b3": b3(data),
        "piece_length": hashes.piece_length,
        "pieces_root": hashes.pieces_root.hex(),
        "names": names,
    }


def layout_cases() -> list[dict[str, Any]]:
    """`keys` are [size, how many]; `tensors` are [size, padding, how many], the whole list `times` over."""
    fixed = [1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 10 * MIB, 64 * GIB, 64 * GIB + 1, 10**12]
    large = 64 * KIB
    gguf: list[tuple[str, list[list[int]], int, int, list[list[int]], int]] = [
        ("a header alone", [[100, 1], [200, 1]], 32, 0, [], 1),
        ("a header without anything", [], 0, 0, [], 1),
        ("small keys in groups up to 64 KiB", [[30_000, 5]], 40, 0, [[large, 0, 1]], 1),
        ("a key of 64 KiB is a region alone", [[100, 1], [large, 1], [100, 1]], 40, 0, [[100, 28, 3]], 1),
        ("a key one byte smaller is not", [[100, 1], [large - 1, 1], [100, 1]], 40, 0, [[100, 28, 3]], 1),
        ("a key over 4 MiB", [[100, 1], [9 * MIB, 1], [100, 1]], 40, 0, [[100, 28, 1]], 1),
        ("padding does not make a tensor large", [], 8, 0, [[100, 0, 1], [large - 10, 10, 1], [100, 0, 1]], 1),
        ("small and large tensors", [[50, 20]], 4000, 0, [[256, 0, 2], [70_000, 16, 1], [5 * MIB, 0, 2]], 3),
        ("bytes before the first tensor", [[50, 20]], 4000, 96, [[256, 0, 2], [70_000, 16, 1]], 1),
        ("58.6 GiB of large tensors", [[100, 1]], 32, 0, [[100 * MIB, 0, 600]], 1),
        ("64.5 GiB of large tensors", [[100, 1]], 32, 0, [[110 * MIB, 0, 600]], 1),
        ("60,000 tensors of 64 KiB", [[100, 1]], 32, 0, [[large, 0, 60_000]], 1),
        ("60,000 large and small tensors in turn", [[100, 1]], 32, 0, [[large, 0, 1], [100, 28, 1]], 30_000),
        ("a terabyte", [[100, 1]], 32, 0, [[GIB, 0, 1], [8 * KIB, 0, 1]], 1000),
    ]
    return [
        *({"layout": Layout.FIXED, "size": size, **cut(block_sizes(Layout.FIXED, size))} for size in fixed),
        *(layout_case(*case) for case in gguf),
    ]


def layout_case(
    about: str, keys: list[list[int]], infos: int, lead: int, tensors: list[list[int]], times: int
) -> dict[str, Any]:  # fmt: skip
    header, size = header_of(keys, infos, lead, tensors * times)
    return {
        "layout": Layout.GGUF,
        "about": about,
        "keys": keys,
        "infos": infos,
        "lead": lead,
        "tensors": tensors,
        "times": times,
        "size": size,
        **cut(block_sizes(Layout.GGUF, size, header)),
    }


def cut(sizes: Sequence[int]) -> dict[str, Any]:
    """The blocks: how many, the first 20 sizes, and SHA-256 over all of them in decimal, a line feed after each."""
    text = "".join(f"{size}\n" for size in sizes)
    return {"blocks": len(sizes), "first": sizes[:20], "sizes_sha256": hashlib.sha256(text.encode()).hexdigest()}


def header_of(
    keys: list[list[int]], infos: int, lead: int, tensors: list[list[int]]
) -> tuple[GgufHeader, int]:  # fmt: skip
    """24 bytes, keys of these sizes, `infos` bytes, `lead` bytes, tensors of these sizes with padding."""
    key_ends = list(accumulate((size for size, count in keys for _ in range(count)), initial=24))
    spans = [(size, padding) for size, padding, count in tensors for _ in range(count)]
    data_at = key_ends[-1] + infos
    starts = list(accumulate((size + padding for size, padding in spans), initial=data_at + lead))
    header = GgufHeader(
        version=3,
        keys=tuple(KeySpan(key=f"key {i}", start=a, end=b) for i, (a, b) in enumerate(pairwise(key_ends))),
        tensor_infos_at=key_ends[-1],
        data_at=data_at,
        tensors=tuple(
            TensorSpan(name=f"tensor {i}", start=start, end=start + size)
            for i, (start, (size, _)) in enumerate(zip(starts, spans, strict=False))
        ),
    )
    return header, starts[-1]


# -- the spec's own copy -----------------------------------------------------------------------------------------------


def with_made_parts(spec: str, example: bytes) -> str:
    """The spec with its table of types and its worked example made anew."""
    for part, text in (("types", types_table()), ("example", example_text(json.loads(example)))):
        before, begin, rest = spec.partition(MARK.format("begin", part))
        _, end, after = rest.partition(MARK.format("end", part))
        if not begin or not end:
            raise ValueError(f"{SPEC.name} has no place for {part}")
        spec = f"{before}{begin}\n{text}{end}{after}"
    return spec


def types_table() -> str:
    """Three columns of (type, name, elements of a block, bytes of a block)."""
    rows = [f"| {number} | {name} | {elements} | {size} |" for number, (name, elements, size) in TENSOR_TYPES.items()]
    third = -(-len(rows) // 3)
    columns = [rows[i : i + third] for i in range(0, len(rows), third)]
    head = "| type | name | elements | bytes | | type | name | elements | bytes | | type | name | elements | bytes |"
    lines = [head, "|---" * 14 + "|", *("".join(row) for row in zip_longest(*columns, fillvalue="| | | | |"))]
    return "\n" + "".join(line.replace("||", "| |") + "\n" for line in lines) + "\n"


def example_text(value: dict[str, Any]) -> str:
    """The worked example as the spec shows it."""
    model, licence = value["files"]
    return "".join(
        section(title, body)
        for title, body in [
            ("Keys (32-byte seeds of Ed25519; for tests only)", key_lines(value["keys"])),
            (f"Root version 1, {value['root']['length']} bytes", [value["root"]["text"]]),
            (
                "Identity",
                [
                    f"pieces root  {value['root']['pieces_root']}",
                    f"info         {info_line(value['root'])}",
                    f"v2 infohash  {value['root']['infohash']}",
                    f"identity     {value['root']['identity']}",
                ],
            ),
            (f"{model['path']}: where its parts lie", header_lines(model["header"], model["size"])),
            (f"{model['path']}: blocks under {model['layout']}", block_lines(model)),
            (f"{model['path']}: torrent", torrent_lines(model["torrent"])),
            (
                f"{licence['path']}: inline, no torrent",
                [*block_lines(licence), f"text    {licence['inline'].rstrip()}"],
            ),
            (f"Manifest, {value['manifest']['length']} bytes", shortened(value["manifest"]["payload"])),
            (
                "Its digest and signature",
                [
                    f"digest     {value['manifest']['digest']}",
                    f"PAE        {value['manifest']['pae_begins']}<payload>",
                    f"key id     {value['manifest']['keyid']}",
                    f"signature  {value['manifest']['signature']}",
                    f"URI        {value['manifest']['uri']}",
                ],
            ),
        ]
    )


def section(title: str, lines: Sequence[str]) -> str:
    body = "\n".join(lines)
    return f"\n**{title}**\n\n```text\n{body}\n```\n"


def key_lines(keys: dict[str, Any]) -> list[str]:
    lines = []
    for use, key in keys.items():
        lines += [
            f"{use:<6}  seed    {key['seed']}",
            f"        public  {key['public']}",
            f"        key id  {key['keyid']}",
        ]
    return lines


def info_line(root: dict[str, Any]) -> str:
    raw = bytes.fromhex(root["info"]).replace(bytes.fromhex(root["pieces_root"]), b"<the 32 bytes above>")
    return raw.decode("ascii")


def header_lines(header: dict[str, Any], size: int) -> list[str]:
    keys, tensors = header["keys"], header["tensors"]
    lines = [f"{start:>7} {end:>7}  {name}" for name, start, end in keys]
    lines += [f"{header['tensor_infos_at']:>7} {header['data_at']:>7}  tensor infos with padding"]
    lines += [f"{start:>7} {end:>7}  {name}" for name, start, end in tensors[:5]]
    lines += [f"                 … {len(tensors) - 6} more, without gaps …"]
    lines += [f"{start:>7} {end:>7}  {name}" for name, start, end in tensors[-1:]]
    return ["  start     end  part", f"{0:>7} {24:>7}  preamble", *lines, f"        {size:>7}  end of file"]


def block_lines(file: dict[str, Any]) -> list[str]:
    lines = [f"{one['offset']:>7} {one['size']:>7}  {one['b3']}" for one in file["blocks"]]
    whole = [f"whole   {file['b3']}", f"        {file['sha256']}"]
    return [" offset    size  digest", *lines, *whole]


def torrent_lines(torrent: dict[str, Any]) -> list[str]:
    pieces = [f"piece {i}      SHA-1 {sha1}" for i, sha1 in enumerate(torrent["pieces"])]
    layer = [f"             node  {node}" for node in torrent["piece_layer"]]
    return [
        f"name         {torrent['name']}",
        f"piece length {torrent['piece_length']}",
        *(line for pair in zip(pieces, layer, strict=True) for line in pair),
        f"pieces root  {torrent['pieces_root']}",
        f"v1 infohash  {torrent['v1']}",
        f"v2 infohash  {torrent['v2']}",
    ]


def shortened(payload: str) -> list[str]:
    """The payload's members, one in a line, with the blocks between the first and the last left out."""
    value = json.loads(payload)
    blocks = value["predicate"]["files"][0]["blocks"]
    value["predicate"]["files"][0]["blocks"] = [blocks[0], f"… {len(blocks) - 2} more …", blocks[-1]]
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return text.splitlines()


if __name__ == "__main__":
    main()
