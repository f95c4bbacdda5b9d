"""What an edit of a real GGUF does to its blocks."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from gguf_maker import gguf_bytes, tensor, text, texts, uint32, with_value
from hypothesis import given, settings
from hypothesis import strategies as st

from samara.schemas.layouts import GROUP, Layout
from samara.seeder.gguf_facts import describe, read_gguf

FIXTURES = Path(__file__).parents[1] / "fixtures"
TINY = (FIXTURES / "tiny.gguf").read_bytes()

TOKENS = [f"token {i}" for i in range(9_000)]
MERGES = [f"a{i} b{i}" for i in range(9_000)]
BASE = gguf_bytes(
    {
        "general.architecture": text("llama"),
        "general.name": text("a model"),
        "tokenizer.ggml.tokens": texts(TOKENS),
        "tokenizer.ggml.merges": texts(MERGES),
        "tokenizer.chat_template": text("{{ messages }}"),
        "general.file_type": uint32(1),
    },
    [tensor(f"blk.{i}", blake3(bytes([i])).digest(length=size)) for i, size in enumerate([100, 200_000, 70_000, 300])],
)
# Each key of BASE that can be longer, and its value with something put in.
LENGTHENED_BY: list[tuple[str, Callable[[str], bytes]]] = [
    ("general.name", lambda more: text(f"a {more} model")),
    ("tokenizer.ggml.tokens", lambda more: texts([*TOKENS[:100], TOKENS[100] + more, *TOKENS[101:]])),
    ("tokenizer.ggml.merges", lambda more: texts([*MERGES[:8_000], more, *MERGES[8_000:]])),
    ("tokenizer.chat_template", lambda more: text(f"{{{{ messages }}}} {more}")),
]

patient = settings(max_examples=30, deadline=None)  # each example hashes whole files


def blocks(model: bytes) -> list[tuple[int, str]]:
    """(start, digest) of each block under the GGUF layout."""
    shape = describe(io.BytesIO(model), len(model))
    assert shape.layout is Layout.GGUF, shape.warning
    edges = accumulate(shape.block_sizes, initial=0)
    return [(start, blake3(model[start:end]).hexdigest()) for start, end in pairwise(edges)]


def tensor_digests(model: bytes) -> list[str]:
    header, _ = read_gguf(io.BytesIO(model), len(model))
    return [digest for start, digest in blocks(model) if start >= header.data_at]


def large_key_digests(model: bytes, *, but: str) -> list[str]:
    header, _ = read_gguf(io.BytesIO(model), len(model))
    large = [span for span in header.keys if span.end - span.start >= GROUP and span.key != but]
    return [digest for start, digest in blocks(model) for span in large if span.start <= start < span.end]


def test_the_fixtures_are_cut_by_the_gguf_layout() -> None:
    for path in FIXTURES.glob("*.gguf"):
        with path.open("rb") as file:
            shape = describe(file, path.stat().st_size)
        assert (shape.layout, shape.warning, sum(shape.block_sizes)) == (Layout.GGUF, None, path.stat().st_size)


@patient
@given(st.text(max_size=3_000))
def test_another_chat_template_leaves_every_tensor_block_as_it_was(template: str) -> None:
    assert tensor_digests(with_value(TINY, "tokenizer.chat_template", text(template))) == tensor_digests(TINY)


def test_a_chat_template_so_large_that_it_is_a_region_alone_does_too() -> None:
    edited = with_value(TINY, "tokenizer.chat_template", text("{# long #}" * 10_000))
    assert tensor_digests(edited) == tensor_digests(TINY)
    assert len(blocks(edited)) == len(blocks(TINY)) + 1


@patient
@given(st.sampled_from(LENGTHENED_BY), st.integers(0, 200_000))
def test_bytes_inserted_into_one_key_leave_tensors_and_other_large_keys_as_they_were(
    value_of: tuple[str, Callable[[str], bytes]], inserted: int
) -> None:
    key, value = value_of
    edited = with_value(BASE, key, value("x" * inserted))
    assert tensor_digests(edited) == tensor_digests(BASE)
    assert large_key_digests(edited, but=key) == large_key_digests(BASE, but=key)


@pytest.mark.parametrize("model", [TINY, BASE], ids=["tiny", "made"])
@patient
@given(data=st.data())
def test_one_changed_byte_changes_exactly_the_block_that_holds_it(model: bytes, data: st.DataObject) -> None:
    header, _ = read_gguf(io.BytesIO(model), len(model))
    template = next(span for span in header.keys if span.key == "tokenizer.chat_template")
    places = st.integers(header.data_at, len(model) - 1) | st.integers(template.end - 10, template.end - 1)
    at = data.draw(places, label="position")
    changed = bytearray(model)
    changed[at] ^= data.draw(st.integers(1, 255), label="difference")
    before, after = blocks(model), blocks(bytes(changed))
    assert [start for start, _ in before] == [start for start, _ in after]
    differing = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert differing == [max(i for i, (start, _) in enumerate(before) if start <= at)]


def test_a_tensor_trained_further_changes_its_own_blocks_only() -> None:
    header, _ = read_gguf(io.BytesIO(TINY), len(TINY))
    target = next(span for span in header.tensors if span.name == "blk.2.ffn_down.weight")
    tuned = TINY[: target.start] + bytes(target.end - target.start) + TINY[target.end :]
    before, after = Counter(digest for _, digest in blocks(TINY)), Counter(digest for _, digest in blocks(tuned))
    assert (before - after).total() == 1


def test_a_tensor_put_between_others_leaves_their_blocks_as_they_were() -> None:
    tensors = [tensor(f"blk.{i}", blake3(bytes([i])).digest(length=80_000)) for i in range(4)]
    longer = [*tensors[:2], tensor("new", b"new" * 30_000), *tensors[2:]]
    assert set(tensor_digests(gguf_bytes({}, tensors))) < set(tensor_digests(gguf_bytes({}, longer)))
