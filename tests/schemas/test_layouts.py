"""Where blobs are cut. Headers here are made up; real files are cut in tests/seeder/test_gguf_blocks.py."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samara.schemas.errors import UsageError
from samara.schemas.gguf import GgufHeader, KeySpan, TensorSpan
from samara.schemas.layouts import BLOCK, GROUP, MAX_BLOCKS, Layout, block_sizes, fixed_blocks, gguf_blocks

KIB, MIB, GIB = 2**10, 2**20, 2**30


def header_of(
    keys: Sequence[int], infos: int, tensors: Sequence[tuple[int, int]], lead: int = 0
) -> tuple[GgufHeader, int]:
    """A header with keys of these sizes, `infos` bytes of tensor infos with padding, `lead` bytes before the first
    tensor, and tensors of these (size, padding); and the size of its file."""
    key_ends = list(accumulate(keys, initial=24))
    data_at = key_ends[-1] + infos
    tensor_starts = list(accumulate((size + padding for size, padding in tensors), initial=data_at + lead))
    header = GgufHeader(
        version=3,
        keys=tuple(KeySpan(key=f"key.{i}", start=a, end=b) for i, (a, b) in enumerate(pairwise(key_ends))),
        tensor_infos_at=key_ends[-1],
        data_at=data_at,
        tensors=tuple(
            TensorSpan(name=f"tensor.{i}", start=start, end=start + size)
            for i, (start, (size, _)) in enumerate(zip(tensor_starts, tensors, strict=False))
        ),
    )
    return header, tensor_starts[-1]


def cuts(sizes: Sequence[int]) -> list[int]:
    """Where blocks start, and the end."""
    return list(accumulate(sizes, initial=0))


Piece = tuple[str, int, int]


def contents(header: GgufHeader, size: int) -> list[tuple[Piece, ...]]:
    """What each block holds, as (part, from, to) with offsets inside the part: equal contents have equal digests."""
    parts = [("preamble", 0), *((key.key, key.start) for key in header.keys), ("infos", header.tensor_infos_at)]
    parts += [("data", header.data_at), *((tensor.name, tensor.start) for tensor in header.tensors)]
    starts = [start for _, start in parts]
    blocks = []
    for begin, end in pairwise(cuts(gguf_blocks(header, size))):
        first, last = bisect_right(starts, begin) - 1, bisect_right(starts, end - 1) - 1
        blocks.append(
            tuple(
                (parts[i][0], max(begin, starts[i]) - starts[i], min(end, [*starts, size][i + 1]) - starts[i])
                for i in range(first, last + 1)
            )
        )
    return blocks


part_sizes = st.one_of(
    st.integers(1, 4 * KIB),
    st.integers(GROUP - 40, GROUP + 40),
    st.integers(1, 3 * GROUP),
    st.integers(BLOCK - 40, 2 * BLOCK + 40),
)
key_lists = st.lists(part_sizes, max_size=12)
tensor_lists = st.lists(st.tuples(st.one_of(st.just(0), part_sizes), st.integers(0, 63)), max_size=16)
headers = st.builds(header_of, key_lists, st.integers(0, 100 * KIB), tensor_lists, st.sampled_from([0, 0, 32]))


patient = settings(deadline=None)


class TestNames:
    def test_there_are_two_and_they_never_change(self) -> None:
        assert list(Layout) == ["fixed-4MiB-v1", "gguf-4MiB-v1"]

    def test_each_is_found_by_its_name(self) -> None:
        header, size = header_of([100], 56, [(5 * MIB, 0)])
        assert block_sizes("fixed-4MiB-v1", size) == fixed_blocks(size)
        assert block_sizes("gguf-4MiB-v1", size, header) == gguf_blocks(header, size)

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(UsageError, match="unknown layout: expected fixed-4MiB-v1 or gguf-4MiB-v1, got 'rabin-1'"):
            block_sizes("rabin-1", 10)

    def test_gguf_needs_a_header(self) -> None:
        with pytest.raises(ValueError, match="header"):
            block_sizes("gguf-4MiB-v1", 10)


class TestFixed:
    @pytest.mark.parametrize(
        ("size", "blocks"),
        [
            (0, ()),
            (1, (1,)),
            (4 * MIB, (4 * MIB,)),
            (4 * MIB + 1, (4 * MIB, 1)),
            (9 * MIB, (4 * MIB, 4 * MIB, MIB)),
        ],
    )
    def test_cuts_every_4_mib(self, size: int, blocks: tuple[int, ...]) -> None:
        assert fixed_blocks(size) == blocks

    def test_keeps_4_mib_up_to_64_gib_and_doubles_above(self) -> None:
        assert fixed_blocks(64 * GIB) == (4 * MIB,) * MAX_BLOCKS
        assert fixed_blocks(64 * GIB + 1) == (8 * MIB,) * (MAX_BLOCKS // 2) + (1,)
        assert set(fixed_blocks(1024 * GIB)) == {64 * MIB}

    @patient
    @given(st.integers(0, 2**50))
    def test_covers_any_size_exactly_with_few_blocks(self, size: int) -> None:
        blocks = fixed_blocks(size)
        assert sum(blocks) == size
        assert len(blocks) <= MAX_BLOCKS
        assert len(set(blocks[:-1])) <= 1
        assert all(0 < block <= blocks[0] for block in blocks)


class TestGguf:
    def test_an_example_worked_by_hand(self) -> None:
        header, size = header_of(
            keys=[40_000, 25_000, 600, 100_000, 5_000_000, 200, 700],
            infos=9_984,
            tensors=[(8_192, 0), (9_000_000, 32), (1_000, 24), (70_000, 16), (30_000, 16), (30_000, 16), (30_000, 0)],
        )
        assert gguf_blocks(header, size) == (
            24 + 40_000 + 25_000,  # the preamble with the keys that fit 64 KiB
            600,  # the next would be over it
            100_000,  # a large key
            4_194_304,  # another, cut every 4 MiB from its start
            805_696,
            200 + 700,
            9_984,  # tensor infos
            8_192,  # a small tensor before a large one
            4_194_304,
            4_194_304,
            611_392 + 32,  # the end of the large one with its padding
            1_000 + 24,
            70_000 + 16,
            30_000 + 16 + 30_000 + 16,
            30_000,
        )

    def test_a_header_alone_is_two_blocks(self) -> None:
        header, size = header_of([100, 200], 32, [])
        assert gguf_blocks(header, size) == (324, 32)

    def test_the_smallest_gguf_is_one_block(self) -> None:
        header, size = header_of([], 0, [])
        assert gguf_blocks(header, size) == (24,)

    def test_bytes_after_a_header_without_tensors_are_cut_apart_from_it(self) -> None:
        header, _ = header_of([100], 4, [])
        assert gguf_blocks(header, 128 + 1000) == (124, 4, 1000)

    def test_padding_does_not_make_a_small_tensor_large(self) -> None:
        header, size = header_of([], 8, [(100, 0), (GROUP - 10, 10), (100, 0)])
        assert gguf_blocks(header, size) == (24, 8, 100, GROUP, 100)
        header, size = header_of([], 8, [(100, 0), (GROUP - 200, 60), (40, 0)])
        assert gguf_blocks(header, size) == (24, 8, GROUP)

    @patient
    @given(headers)
    def test_blocks_are_positive_and_cover_the_file_exactly(self, made: tuple[GgufHeader, int]) -> None:
        blocks = gguf_blocks(*made)
        assert sum(blocks) == made[1]
        assert all(0 < block <= BLOCK for block in blocks)
        assert len(blocks) <= MAX_BLOCKS

    @patient
    @given(headers)
    def test_parts_that_the_layout_names_begin_blocks(self, made: tuple[GgufHeader, int]) -> None:
        header, size = made
        found = set(cuts(gguf_blocks(header, size)))
        assert {header.tensor_infos_at, header.data_at} <= found
        for key in header.keys:
            assert key.end - key.start < GROUP or {key.start, key.end} <= found
        for tensor, following in pairwise([*header.tensors, TensorSpan(name="", start=size, end=size)]):
            assert tensor.end - tensor.start < GROUP or {tensor.start, following.start} <= found

    @patient
    @given(headers)
    def test_blocks_that_hold_several_parts_are_at_most_64_kib(self, made: tuple[GgufHeader, int]) -> None:
        sizes = gguf_blocks(*made)
        for size, held in zip(sizes, contents(*made), strict=True):
            assert size <= GROUP or len({name for name, begin, end in held if end > begin}) == 1

    @patient
    @given(key_lists.filter(bool), tensor_lists, st.data())
    def test_another_length_of_one_key_changes_blocks_up_to_the_next_large_keys_only(
        self, keys: list[int], tensors: list[tuple[int, int]], data: st.DataObject
    ) -> None:
        edited = data.draw(st.integers(0, len(keys) - 1), label="edited key")
        length = data.draw(part_sizes, label="its new length")
        padding = data.draw(st.integers(0, 31), label="new padding of the tensor infos")
        before = header_of(keys, 5_000, tensors)
        after = header_of([*keys[:edited], length, *keys[edited + 1 :]], 5_000 + padding, tensors)
        reached = {f"key.{edited}", "preamble" if not edited else "", "infos"}
        for step in (-1, 1):
            at = edited + step
            while 0 <= at < len(keys) and keys[at] < GROUP:
                reached.add(f"key.{at}")
                at += step
            if at < 0:
                reached.add("preamble")
        changed = {name for block in set(contents(*before)) ^ set(contents(*after)) for name, _, _ in block}
        assert changed <= reached

    @patient
    @given(st.lists(st.integers(1, GROUP - 1), min_size=1, max_size=12), st.data())
    def test_a_key_that_grows_within_its_groups_64_kib_changes_no_other_group(
        self, keys: list[int], data: st.DataObject
    ) -> None:
        edited = data.draw(st.integers(0, len(keys) - 1), label="edited key")
        header, size = header_of(keys, 5_000, [])
        sizes, groups = gguf_blocks(header, size), contents(header, size)
        at = next(i for i, group in enumerate(groups) if any(name == f"key.{edited}" for name, _, _ in group))
        room = min(GROUP - sizes[at], GROUP - 1 - keys[edited])
        growth = data.draw(st.integers(0, max(room, 0)), label="growth")
        grown = gguf_blocks(*header_of([*keys[:edited], keys[edited] + growth, *keys[edited + 1 :]], 5_000, []))
        assert grown == (*sizes[:at], sizes[at] + growth, *sizes[at + 1 :])


class TestManyBlocks:
    @pytest.mark.parametrize(
        ("tensors", "largest"),
        [
            ([(100 * MIB, 0)] * 600, 4 * MIB),  # 58.6 GiB
            ([(110 * MIB, 0)] * 600, 8 * MIB),  # 64.5 GiB
            ([(400 * MIB, 0), (8 * KIB, 0)] * 1000, 32 * MIB),  # 390 GiB
            ([(GROUP, 0)] * 60_000, 512 * KIB),  # nothing but small parts: grouped further
            ([(GROUP, 0), (100, 28)] * 30_000, 512 * KIB),
        ],
        ids=["58 GiB", "64 GiB", "390 GiB", "60,000 of 64 KiB", "large and small in turn"],
    )
    def test_there_are_never_more_than_16384(self, tensors: list[tuple[int, int]], largest: int) -> None:
        header, size = header_of([100], 32, tensors)
        blocks = gguf_blocks(header, size)
        assert sum(blocks) == size
        assert len(blocks) <= MAX_BLOCKS
        assert max(blocks) <= largest

    def test_a_terabyte_with_thousands_of_tensors_keeps_its_groups_and_gets_larger_blocks(self) -> None:
        header, size = header_of([100], 32, [(GIB, 0), (8 * KIB, 0)] * 1000)
        blocks = gguf_blocks(header, size)
        assert set(blocks) == {124, 32, 8 * KIB, 128 * MIB}
