"""What is here is not fetched: other versions, other blobs, half downloads of others, at whatever offset."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3
from support.models import gguf
from support.pulls import Pull, options, pulled
from support.swarms import lying, seeding, seeding_part
from support.world import MIB, PIECE, Shelf, flip, one_blob, random_file, shelf, trusting_home

from samara.fetcher.reuse import Copy, Place, copy_blocks, gaps, inside, straddling_leaves
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.store import stamp_at
from samara.schemas.bittorrent import LEAF
from samara.schemas.errors import NetworkError, StoreError
from samara.schemas.events import PullPlanned
from samara.schemas.manifest import blocks_of

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"


def versions(root: Path, **second: object) -> tuple[Shelf, Shelf]:
    """Two releases of one model by one publisher."""
    first = shelf(root, [gguf(root / "one" / "model.gguf")], reference="acme/model:v1")
    edited = gguf(root / "two" / "model.gguf", **second)  # type: ignore[arg-type]
    return first, shelf(root, [edited], reference="acme/model:v2", publisher=first.publisher)


def have(home: Home, published: Shelf) -> None:
    """Pull a release whole."""
    with seeding(published) as peer:
        pulled(home, published.file, options(peer.endpoint))


def test_an_edited_chat_template_costs_two_pieces_at_most(tmp_path: Path) -> None:
    first, second = versions(tmp_path, template=TEMPLATE * 3)
    home = trusting_home(tmp_path / "home", first)
    have(home, first)
    with seeding(second) as peer:
        pull = Pull(home, second.file, options(peer.endpoint))
        done = pull.result()
        assert peer.uploaded <= 2 * PIECE
    assert done.files[0].location.read_bytes() == second.source.read_bytes()
    assert done.bytes_from_peers <= 2 * PIECE
    (planned,) = pull.of(PullPlanned)
    assert planned.pieces_to_fetch <= 2
    assert planned.bytes_here + planned.bytes_to_fetch == planned.bytes_total == second.size


def test_a_tuned_tensor_costs_itself_and_two_pieces_at_most(tmp_path: Path) -> None:
    first, second = versions(tmp_path, tuned={5: 999})
    home = trusting_home(tmp_path / "home", first)
    have(home, first)
    with seeding(second) as peer:
        done = pulled(home, second.file, options(peer.endpoint))
    assert done.files[0].location.read_bytes() == second.source.read_bytes()
    assert done.bytes_from_peers <= MIB + 2 * PIECE


def test_only_the_unknown_leaves_of_a_piece_are_fetched(tmp_path: Path) -> None:
    """The tuned tensor begins and ends inside pieces: what of them is known is not asked for again."""
    first, second = versions(tmp_path, tuned={5: 999})
    home = trusting_home(tmp_path / "home", first)
    have(home, first)
    with seeding(second) as peer:
        done = pulled(home, second.file, options(peer.endpoint))
    assert done.bytes_from_peers <= MIB + 2 * LEAF


def test_a_file_in_place_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    first, second = versions(tmp_path, template=TEMPLATE)
    home = trusting_home(tmp_path / "home", first)
    with Index.open(first.home) as theirs:
        blob = theirs.blob(first.only.b3)
    assert blob is not None
    with seeding(second) as peer:
        before = stamp_at(first.source)
        done = pulled(home, second.file, options(peer.endpoint, adopt=(first.source.parent,)))
    assert stamp_at(first.source) == before
    assert done.bytes_from_peers <= 2 * PIECE


@pytest.mark.parametrize("sparse", [False, True])
def test_a_half_download_of_another_program_is_adopted(tmp_path: Path, sparse: bool) -> None:
    """95 % of a blob: cut short as browsers leave it, or with holes as aria2 and Ollama do."""
    published = one_blob(tmp_path, 20 * MIB)
    whole = published.source.read_bytes()
    part = tmp_path / "downloads" / "blob.bin.part"
    part.parent.mkdir()
    with part.open("wb") as file:
        if sparse:
            file.truncate(len(whole))
            file.write(whole[: 10 * MIB])
            file.seek(11 * MIB)
            file.write(whole[11 * MIB :])
        else:
            file.write(whole[: 19 * MIB])
    home = trusting_home(tmp_path / "home", published)
    with seeding(published) as peer:
        done = pulled(home, published.file, options(peer.endpoint, adopt=(part,)))
    assert done.files[0].location.read_bytes() == whole
    assert done.bytes_from_peers <= MIB + 2 * PIECE  # also of blocks that aren't whole there, what its pieces prove
    assert part.stat().st_size == (20 if sparse else 19) * MIB


def test_a_whole_file_of_others_needs_no_network(tmp_path: Path) -> None:
    published = one_blob(tmp_path)
    home = trusting_home(tmp_path / "home", published)
    done = pulled(home, published.file, options(adopt=(published.source,), give_up_after=5))
    assert done.bytes_from_peers == 0
    assert done.files[0].location.read_bytes() == published.source.read_bytes()


def test_what_is_adopted_is_proven_not_believed(tmp_path: Path) -> None:
    published = one_blob(tmp_path)
    wrong = random_file(tmp_path / "other" / "blob.bin", published.size, seed=1)
    flip(wrong, 5 * MIB)
    home = trusting_home(tmp_path / "home", published)
    with seeding(published) as peer:
        done = pulled(home, published.file, options(peer.endpoint, adopt=(wrong,)))
    assert done.files[0].location.read_bytes() == published.source.read_bytes()
    assert 0 < done.bytes_from_peers <= 4 * MIB + 2 * PIECE


def test_an_edited_old_version_is_only_a_hint(tmp_path: Path) -> None:
    """The index remembers where blocks were; the file has changed since, and its stamp was put back."""
    first, second = versions(tmp_path, template=TEMPLATE)
    home = trusting_home(tmp_path / "home", first)
    have(home, first)
    flip(home.blob(first.only.b3_hex), first.size - 100)
    with seeding(second) as peer:
        done = pulled(home, second.file, options(peer.endpoint))
    assert done.files[0].location.read_bytes() == second.source.read_bytes()


def test_what_was_copied_is_kept_when_nobody_has_the_rest(tmp_path: Path) -> None:
    first, second = versions(tmp_path, template=TEMPLATE)
    home = trusting_home(tmp_path / "home", first)
    have(home, first)
    with pytest.raises(NetworkError):
        pulled(home, second.file, options(("127.0.0.1", 9), give_up_after=1))
    home.blob(first.only.b3_hex).unlink()
    with seeding(second) as peer:
        done = pulled(home, second.file, options(peer.endpoint))
    assert done.bytes_from_peers <= 2 * PIECE


def test_a_liar_over_a_straddled_piece_costs_no_honest_peer(tmp_path: Path) -> None:
    first, second = versions(tmp_path, tuned={5: 999})
    home = trusting_home(tmp_path / "home", first)
    have(home, first)
    wrong = random_file(tmp_path / "wrong.bin", second.size, seed=77)
    with seeding(second, up=2 * MIB) as peer, lying(second, wrong) as liar:
        done = pulled(home, second.file, options(liar.endpoint, peer.endpoint))
    assert done.files[0].location.read_bytes() == second.source.read_bytes()
    assert all(rejected.source == liar.text for rejected in done.rejected)


def test_an_adopted_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    published = one_blob(tmp_path)
    home = trusting_home(tmp_path / "home", published)
    error = Pull(home, published.file, options(("127.0.0.1", 9), adopt=(tmp_path / "nowhere",))).error()
    assert "nowhere doesn't exist" in str(error)


class TestLeaves:
    BLOCKS = blocks_of([(100_000, b""), (50_000, b""), (400_000, b""), (20_000, b"")])

    def test_whole_pieces_are_not_among_them(self) -> None:
        assert straddling_leaves(self.BLOCKS, range(4), 262_144, LEAF) == {}

    def test_a_leaf_counts_only_when_proven_blocks_cover_all_of_it(self) -> None:
        found = straddling_leaves(self.BLOCKS, [0], 262_144, LEAF)
        assert found == {0: [True] * 6 + [False] * 10}

    def test_the_last_leaf_is_short(self) -> None:
        found = straddling_leaves(self.BLOCKS, [3], 262_144, LEAF)
        assert list(found) == [2]
        assert found[2][-1]
        assert sum(found[2]) == 1

    def test_neighbours_join(self) -> None:
        both = straddling_leaves(self.BLOCKS, [0, 1], 262_144, LEAF)
        assert sum(both[0]) == 150_000 // LEAF


def test_what_is_claimed_is_never_written_over_by_somebodys_half_download(tmp_path: Path) -> None:
    """The partial has half of a block, recorded; the adopted file has the block wrong just there."""
    published = one_blob(tmp_path, 8 * MIB)
    home = trusting_home(tmp_path / "home", published)
    with seeding_part(published, 6) as peer:
        error = Pull(home, published.file, options(peer.endpoint, give_up_after=0.5, checkpoint_seconds=0.05)).error()
    assert isinstance(error, NetworkError)
    wrong = random_file(tmp_path / "other.part", published.size, seed=1)
    for piece in range(6):
        flip(wrong, piece * PIECE + 100)
    with seeding(published) as peer:
        done = pulled(home, published.file, options(peer.endpoint, adopt=(wrong,)))
    assert done.files[0].location.read_bytes() == published.source.read_bytes()
    assert done.bytes_from_peers == 0
    assert done.rejected == ()


class TestGaps:
    BLOCKS = blocks_of([(100, b""), (250, b""), (50, b"")])

    def test_claimed_pieces_are_spared(self) -> None:
        assert list(gaps(self.BLOCKS[1:2], {2}, 100)) == [(100, 200), (300, 350)]

    def test_without_claims_it_is_the_blocks(self) -> None:
        assert list(gaps(self.BLOCKS, (), 1000)) == [(0, 100), (100, 350), (350, 400)]


class TestCopyBlocks:
    DATA = bytes(range(256)) * 1024
    BLOCKS = blocks_of([(len(part), blake3(part).digest()) for part in (DATA[:100_000], DATA[100_000:])])

    @pytest.fixture
    def right(self, tmp_path: Path) -> Path:
        """The bytes, 33 further on."""
        (tmp_path / "right").write_bytes(b"x" * 33 + self.DATA)
        return tmp_path / "right"

    @pytest.fixture
    def wrong(self, tmp_path: Path) -> Path:
        (tmp_path / "wrong").write_bytes(bytes(len(self.DATA) + 33))
        return tmp_path / "wrong"

    def copies(self, *paths: Path) -> list[Copy]:
        return [
            Copy(block=b, places=tuple(Place(path=path, offset=b.offset + 33, size=b.size) for path in paths))
            for b in self.BLOCKS
        ]

    def test_whoever_has_it_right(self, tmp_path: Path, right: Path, wrong: Path) -> None:
        with (tmp_path / "target").open("w+b") as target:
            came = copy_blocks(self.copies(wrong, tmp_path / "gone", right), target.fileno())
        assert {number: place.path for number, place in came.items()} == {0: right, 1: right}
        assert (tmp_path / "target").read_bytes() == self.DATA

    def test_what_is_wrong_or_cut_short_is_not_written(self, tmp_path: Path, right: Path, wrong: Path) -> None:
        os.truncate(right, 33 + 150_000)
        with (tmp_path / "target").open("w+b") as target:
            came = copy_blocks(self.copies(wrong, right), target.fileno(), holding={0, 1})
        assert list(came) == [0]
        assert (tmp_path / "target").read_bytes() == self.DATA[:100_000]

    def test_progress_ends_at_all_of_it(self, tmp_path: Path, right: Path) -> None:
        told: list[int] = []
        with (tmp_path / "target").open("w+b") as target:
            copy_blocks(self.copies(right), target.fileno(), on_progress=told.append)
        assert told[-1] == len(self.DATA)

    def test_a_target_that_can_not_be_written_says_so(self, right: Path, wrong: Path) -> None:
        with wrong.open("rb") as target, pytest.raises(StoreError):
            copy_blocks(self.copies(right), target.fileno())


class TestInside:
    BLOCKS = blocks_of([(100, b""), (250, b""), (50, b"")])

    def test_only_whole_ones(self) -> None:
        assert [block.index for block in inside(self.BLOCKS, [(0, 100), (120, 400)])] == [0, 2]
        assert [block.index for block in inside(self.BLOCKS, [(0, 349)])] == [0]
        assert list(inside(self.BLOCKS, [])) == []
