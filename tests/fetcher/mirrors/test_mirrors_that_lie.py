"""Wrong bytes from mirrors: who sent them is banned with evidence, of several nobody is, and none get through."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from mirror_kit import MIB, PIECE, Asked, Blob, Manners, Rig, blob, serving

from samara.fetcher.mirrors.blob import Mirror, _mirror
from samara.schemas.digests import b3_text

SIZE = 12 * MIB
BLOCK = 4 * MIB  # a block is 16 pieces here: evidence is the piece's SHA-1


@pytest.fixture
def wanted(tmp_path: Path) -> Blob:
    return blob(tmp_path, SIZE)


def everywhere(step: int) -> frozenset[int]:
    return frozenset(range(77, SIZE, step))


def test_a_liar_is_banned_with_evidence_and_the_others_bring_its_pieces(tmp_path: Path, wanted: Blob) -> None:
    with (
        serving(wanted.data, flips=everywhere(PIECE)) as liar,
        serving(wanted.data, rate=4e6) as honest,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(liar.url, honest.url)
        rig.run()
        (banned,) = [one for one in rig.rejected if one.banned]
        assert honest.url not in rig.pool._blobs[wanted.name].mirrors or rig.reasons(honest.url) == []
        assert rig.received - SIZE <= liar.sent
    assert banned.url == liar.url
    assert set(rig.ears.gave.values()) == {honest.url}
    wrong = banned.wrong
    assert wrong is not None
    start, end = wanted.proof.span(wrong.piece)
    sent = bytearray(wanted.data[start:end])
    sent[77 % PIECE] ^= 0x10
    assert list(wrong.blocks) == [start // BLOCK]
    assert wrong.block is None
    assert wrong.expected == "sha1:" + hashlib.sha1(wanted.data[start:end]).hexdigest()
    assert wrong.actual == "sha1:" + hashlib.sha1(sent).hexdigest()
    assert f"block {start // BLOCK} (piece {wrong.piece})" in banned.reason
    assert "not asked again" in banned.reason


def test_where_a_whole_block_lies_in_the_piece_its_blake3_is_the_evidence(tmp_path: Path) -> None:
    wanted = blob(tmp_path, PIECE - 1000)  # one piece, one block
    with serving(wanted.data, flips=frozenset({5})) as liar, Rig(tmp_path, wanted) as rig:
        rig.add(liar.url)
        rig.until(lambda: bool(rig.rejected))
    wrong = rig.rejected[0].wrong
    assert wrong is not None
    sent = bytearray(wanted.data)
    sent[5] ^= 0x10
    assert (wrong.block, wrong.expected, wrong.actual) == (
        0,
        b3_text(blake3(wanted.data).digest()),
        b3_text(blake3(sent).digest()),
    )


def test_one_wrong_byte_late_is_enough(tmp_path: Path, wanted: Blob) -> None:
    at = SIZE - 2 * PIECE + 99
    with (
        serving(wanted.data, flips=frozenset({at}), rate=8e6) as liar,
        serving(wanted.data, rate=0.5e6) as honest,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(liar.url, honest.url, have=frozenset(range(8)))
        rig.until(lambda: bool(rig.rejected) or len(rig.have) == wanted.proof.count)
        honest.usually(rate=None)
        rig.run()
        banned = [(one.url, one.wrong.piece) for one in rig.rejected if one.wrong is not None]
    # unless the honest one happened to be asked for that piece, the liar has shown itself
    assert banned in ([], [(liar.url, at // PIECE)])
    assert rig.ears.gave[at // PIECE] == honest.url
    if banned:
        assert liar.url in rig.ears.gave.values(), "what it gave right before was used"


def test_a_liar_alone_leaves_a_pull_without_hope_and_nothing_wrong_in_the_file(tmp_path: Path, wanted: Blob) -> None:
    with serving(wanted.data, flips=everywhere(PIECE)) as liar, Rig(tmp_path, wanted) as rig:
        rig.add(liar.url)
        rig.until(lambda: rig.pool.is_hopeless(wanted.name, float("inf")))
        rig.step()
    assert [one.url for one in rig.rejected] == [liar.url]
    assert rig.have == set()
    assert rig.path.stat().st_size == 0


def test_who_is_banned_is_not_asked_again_when_the_blob_begins_anew(tmp_path: Path, wanted: Blob) -> None:
    with (
        serving(wanted.data, flips=everywhere(PIECE)) as liar,
        serving(wanted.data) as honest,
        Rig(tmp_path, wanted) as rig,
    ):
        rig.add(liar.url)
        rig.until(lambda: bool(rig.rejected))
        rig.until(lambda: not rig.pool.is_busy)
        asked = len(liar.asked)
        rig.pool.remove(wanted.name)
        rig.direct.remove(wanted.name)
        rig.add(liar.url, honest.url)
        rig.run()
        assert len(liar.asked) == asked


def test_a_piece_that_came_wrong_from_two_bans_nobody_and_is_fetched_whole_from_one(tmp_path: Path) -> None:
    """Half of the only missing piece is a liar's, half an honest one's: nobody knows which half is wrong."""
    wanted = blob(tmp_path, 4 * PIECE)
    only = 2
    half = PIECE // 2
    with (
        serving(wanted.data, flips=frozenset({only * PIECE + 5}), stall_after=half) as liar,
        serving(wanted.data) as honest,
        Rig(tmp_path, wanted, stall_timeout=0.5) as rig,
    ):
        rig.add(liar.url, have=frozenset({0, 1, 3}))
        rig.until(lambda: bool(rig.pool._blobs[wanted.name].fragments))
        fragment = rig.pool._blobs[wanted.name].fragments[only]
        assert fragment.urls == {liar.url}
        assert fragment.filled == half
        # the honest one turns up: it goes on with the liar's half
        state = rig.pool._blobs[wanted.name]
        rig.pool.add(
            wanted.name, wanted.proof, (honest.url,), rig.have, with_peers=False, now=0.0
        )  # fmt: skip
        rig.pool._blobs[wanted.name].mirrors.update(state.mirrors)
        rig.pool._blobs[wanted.name].mirrors[liar.url].score = state.mirrors[liar.url].score
        liar.usually(status=503)
        rig.pool._blobs[wanted.name].fragments[only] = fragment
        rig.run()
        assert [asked.start - only * PIECE for asked in honest.asked] == [half, 0], "the rest, then all of it"
    assert not any(one.banned for one in rig.rejected)
    assert rig.ears.gave == {only: honest.url}


def test_a_liars_beginnings_are_thrown_away_with_it(tmp_path: Path, wanted: Blob) -> None:
    """Else an honest mirror would go on with them, and its work be thrown away too."""
    count = wanted.proof.count

    def how(asked: Asked, usual: Manners) -> Manners:
        # the first request breaks within its first piece, whose bytes are wrong; the second one's first piece is wrong
        return replace(usual, reset_after=PIECE // 2) if asked.number == 0 else usual

    with (
        serving(wanted.data, flips=everywhere(PIECE // 4)) as liar,
        serving(wanted.data) as honest,
        Rig(tmp_path, wanted) as rig,
    ):
        liar.how = how
        rig.add(liar.url)
        rig.until(lambda: any(one.banned for one in rig.rejected))
        state = rig.pool._blobs[wanted.name]
        assert not any(liar.url in fragment.urls for fragment in state.fragments.values())
        rig.until(lambda: not rig.pool.is_busy)
        assert state.fragments == {}, "what ended after the ban isn't kept either"
        state.mirrors.update(blob_mirror(honest.url))
        rig.run()
        assert honest.sent == SIZE
    assert len(rig.ears.gave) == count


def blob_mirror(url: str) -> dict[str, Mirror]:
    return {url: _mirror(url)}


# -- objects that change -----------------------------------------------------------------------------------------------


def test_another_version_of_the_same_length_goes_on_and_old_beginnings_are_dropped(tmp_path: Path) -> None:
    """The server starts anew with another ETag in the middle of a piece. Nobody has lied."""
    wanted = blob(tmp_path, 4 * MIB)
    old = bytes(byte ^ 0xFF for byte in wanted.data)  # the old object, of other bytes and the same length

    def how(asked: Asked, usual: Manners) -> Manners:
        if asked.number == 0:
            return replace(usual, data=old, headers='ETag: "old"\r\n', reset_after=PIECE // 2)
        return replace(usual, headers='ETag: "new"\r\n')

    with serving(wanted.data) as one, Rig(tmp_path, wanted) as rig:
        one.how = how
        rig.add(one.url)
        rig.run()
        assert rig.received <= len(wanted.data) + PIECE * 3 // 2
    assert not any(news.banned for news in rig.rejected)
    assert any('"old" → "new"' in reason for reason in rig.reasons(one.url))


def test_a_beginning_of_the_old_version_that_is_being_gone_on_with_is_no_lie(tmp_path: Path) -> None:
    """Half of the only missing piece is of the old object; only the answer to the request for the rest tells."""
    wanted = blob(tmp_path, 4 * PIECE)
    old = bytes(byte ^ 0xFF for byte in wanted.data)

    def how(asked: Asked, usual: Manners) -> Manners:
        if asked.number == 0:
            return replace(usual, data=old, headers='ETag: "old"\r\n', reset_after=PIECE // 2)
        return replace(usual, headers='ETag: "new"\r\n')

    with serving(wanted.data) as one, Rig(tmp_path, wanted) as rig:
        one.how = how
        rig.add(one.url, have=frozenset({0, 1, 3}))
        rig.run()
        first, rest, again = (asked.start - 2 * PIECE for asked in one.asked)
        assert (first, again) == (0, 0)
        assert 0 < rest <= PIECE // 2
    assert not any(news.banned for news in rig.rejected)


def test_a_beginning_that_ends_after_the_change_was_seen_is_not_gone_on_with(tmp_path: Path) -> None:
    """One connection still reads the old object when another sees the new one."""
    wanted = blob(tmp_path, 4 * MIB)
    old = bytes(byte ^ 0xFF for byte in wanted.data)

    def how(asked: Asked, usual: Manners) -> Manners:
        if asked.number == 0:
            return replace(usual, data=old, headers='ETag: "old"\r\n', stall_after=PIECE // 2)
        return replace(usual, headers='ETag: "new"\r\n')

    with serving(wanted.data) as one, Rig(tmp_path, wanted, stall_timeout=1.0) as rig:
        one.how = how
        rig.add(one.url)
        rig.run()
    assert not any(news.banned for news in rig.rejected), "nobody has lied"


def test_an_object_of_another_length_is_banned_and_named(tmp_path: Path, wanted: Blob) -> None:
    def how(asked: Asked, usual: Manners) -> Manners:
        return usual if asked.number < 3 else replace(usual, total=SIZE + 1)

    with serving(wanted.data) as switched, serving(wanted.data, rate=1e6) as well, Rig(tmp_path, wanted) as rig:
        switched.how = how
        switched.usually(rate=3e6)
        rig.add(switched.url, well.url)
        rig.run()
        (banned,) = [one for one in rig.rejected if one.banned]
    assert banned.url == switched.url
    assert f"expected {SIZE:,} bytes, got {SIZE + 1:,}" in banned.reason
    assert switched.url in rig.ears.gave.values(), "what it gave before was right"


def test_of_a_mirror_whose_failure_is_told_the_ban_is_no_second_news(tmp_path: Path, wanted: Blob) -> None:
    def how(asked: Asked, usual: Manners) -> Manners:
        return replace(usual, status=503) if asked.number < 3 else replace(usual, total=SIZE - 1)

    with serving(wanted.data) as one, Rig(tmp_path, wanted) as rig:
        one.how = how
        rig.add(one.url)
        rig.until(lambda: any(news.banned for news in rig.rejected))
    assert [news.banned for news in rig.rejected if news.is_news] == [False]
    assert "something else" in next(news.reason for news in rig.rejected if news.banned)
