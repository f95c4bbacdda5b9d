"""Manifests made by hand for the tests of the wire formats: values only, no keys, no files. No test in here."""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from vector_files import vector

from samara.schemas.bittorrent import piece_length_for
from samara.schemas.digests import b3, sha256_text
from samara.schemas.envelope import canonical_json
from samara.schemas.gguf import GgufFacts
from samara.schemas.layouts import fixed_blocks
from samara.schemas.manifest import (
    MAX_SIZE,
    BlockEntry,
    FileEntry,
    Predicate,
    PublisherEntry,
    TorrentEntry,
    UpstreamEntry,
)
from samara.schemas.references import is_name

IDENTITY = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
HEX64 = "ab" * 32
GONE: Any = type("Gone", (), {"__repr__": lambda _: "gone"})()  # in `edited`: take the field away

Digests = tuple[str, str]


def digests_of(data: bytes) -> Digests:
    """(BLAKE3, SHA-256) as text."""
    return b3(data), sha256_text(hashlib.sha256(data).digest())


def swarm_entry(size: int) -> TorrentEntry:
    """A torrent of the right shape for a file of that size; its hashes are anybody's."""
    return TorrentEntry(v1="cd" * 20, v2=HEX64, piece_length=piece_length_for(size), pieces_root=HEX64)


def file_entry(path: str, data: bytes, *, inline: bool) -> FileEntry:
    """A file cut into one block."""
    return FileEntry(
        path=path,
        size=len(data),
        role="other",
        layout="fixed-4MiB-v1",
        blocks=[BlockEntry(size=len(data), b3=b3(data))],
        torrent=None if inline else swarm_entry(len(data)),
        inline=base64.b64encode(data).decode() if inline else None,
    )


def sample() -> Any:
    """A small good manifest as a JSON value of one's own: weights from a swarm, two files inline."""
    return vector("manifests.json")["good"]


def sample_payload() -> bytes:
    """The same as bytes."""
    return canonical_json(sample())


def edited(value: Any, pointer: str, new: Any) -> Any:
    """A copy of a JSON value in which the place at `pointer` (RFC 6901) holds `new`, or is GONE."""
    changed = copy.deepcopy(value)
    *way, last = pointer.lstrip("/").split("/")
    at = changed
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    key: Any = int(last) if isinstance(at, list) else last
    if new is GONE:
        del at[key]
    elif isinstance(at, list) and key == len(at):
        at.append(new)
    else:
        at[key] = new
    return changed


def pointers(value: Any, here: str = "") -> list[str]:
    """Every place in a JSON value but the whole."""
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [place for key, item in items for place in (f"{here}/{key}", *pointers(item, f"{here}/{key}"))]


# -- what hypothesis draws ---------------------------------------------------------------------------------------------

identities = st.builds(lambda head, last: head + last, st.text("abcdz234567", min_size=51, max_size=51), st.sampled_from("aq"))  # fmt: skip  # noqa: E501
names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True).filter(is_name)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
digest_bytes = st.binary(min_size=32, max_size=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

_letters = st.sampled_from("abcXYZ019 .-_+(é水αДا")
_parts = st.text(_letters, min_size=1, max_size=12).filter(lambda part: part[0] not in " ." and part[-1] not in " .")


@st.composite
def file_entries(draw: st.DrawFn, *, number: int) -> tuple[FileEntry, Digests]:
    """One file with its digests, inline or from a swarm. `number` keeps paths and digests apart."""
    path = "/".join([*draw(st.lists(_parts, max_size=2)), f"f{number}"])
    if draw(st.booleans()):
        data = draw(st.binary(min_size=1, max_size=30)) + bytes([number])
        return file_entry(path, data, inline=True), digests_of(data)
    size = draw(st.integers(1, 40_000_000))
    sizes = fixed_blocks(size)
    whole = bytes([number]) + draw(digest_bytes)[1:]
    blocks = [BlockEntry(size=length, b3="b3:" + (whole if len(sizes) == 1 else bytes(32)).hex()) for length in sizes]
    facts = GgufFacts(
        architecture="llama", parameter_count=draw(st.integers(0, 2**63 - 1)), quantisation=draw(words)[:32]
    )
    entry = FileEntry(
        path=path,
        size=size,
        role=draw(words)[:32],
        layout=draw(words),
        blocks=blocks,
        torrent=swarm_entry(size),
        mirrors=draw(st.lists(st.sampled_from(["http://a", "https://example.org/x%20y?z=1#f"]), max_size=3)),
        gguf=draw(st.none() | st.just(facts)),
    )
    return entry, ("b3:" + whole.hex(), "sha256:" + draw(digest_bytes).hex())


@st.composite
def manifests(draw: st.DrawFn) -> tuple[Predicate, list[Digests]]:
    """A predicate that is good, and the digests of its files."""
    files = [draw(file_entries(number=number)) for number in range(draw(st.integers(1, 4)))]
    repo = draw(st.none() | words)
    predicate = Predicate(
        publisher=PublisherEntry(identity=draw(identities), name=draw(names)),
        model=draw(names),
        tag=draw(names),
        version=draw(st.integers(1, MAX_SIZE - 1)),
        created=draw(st.datetimes()).isoformat(timespec="seconds") + "Z",
        license=draw(st.none() | words),
        description=draw(st.none() | words),
        upstream=None if repo is None else UpstreamEntry(repo=repo, commit=draw(st.none() | words)),
        base_model=draw(st.none() | words),
        files=[entry for entry, _ in files],
    )
    return predicate, [digests for _, digests in files]
