"""Mirrors that fail: wrong bytes, wrong lengths, slow-loris, stalls, other objects, refusals, redirects, bad links."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from bad_mirrors import BadMirror, Conduct, Reply
from link_kit import CUT, KIB, ends_well, has_begun, hold, long
from support.bad_links import BadLink, Manners
from support.processes import Line, Process, pulling, seed_process
from support.world import MIB, PIECE, Shelf, one_blob, random_file, trusting_home

from samara.registry.home import Home

UNDER_WAY = 4 * PIECE  # pieces that were half here on several connections when their source turned out to be bad
GONE = Conduct(always=Reply(status=404))
RATE = 2 * MIB  # bytes per second of a mirror that must not be done before the other is tried


@dataclass(frozen=True, kw_only=True)
class Served:
    """A release with two mirrors. The first is reached through a link that can be made bad."""

    shelf: Shelf
    one: BadMirror
    two: BadMirror
    link: BadLink
    urls: tuple[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("mirrored")
    path = root / "files" / "blob.bin"
    with BadMirror(path=path) as one, BadMirror(path=path) as two, BadLink(("127.0.0.1", one.port)) as link:
        urls = (f"http://{link.text}/blob.bin", two.url)
        yield Served(shelf=one_blob(root, 3 * MIB, mirrors=urls), one=one, two=two, link=link, urls=urls)


@pytest.fixture
def served(made: Served) -> Served:
    """The same, with both mirrors and the link good again."""
    made.one.behave()
    made.two.behave()
    made.link.manners = Manners()
    made.link.cut()
    made.link.cuts = 0
    return made


@pytest.fixture
def home(tmp_path: Path, served: Served) -> Home:
    return trusting_home(tmp_path / "home", served.shelf)


@pytest.fixture(scope="module")
def other(made: Served) -> Path:
    """Another object of the same length."""
    return random_file(made.one.path.with_name("other.bin"), made.shelf.size, seed=99)


@pytest.fixture(scope="module")
def longer(made: Served) -> Path:
    """And a longer one."""
    return random_file(made.one.path.with_name("longer.bin"), made.shelf.size + PIECE, seed=98)


@contextlib.contextmanager
def from_mirrors(home: Home, served: Served, *more: object) -> Iterator[Process]:
    with pulling(home, served.shelf.file, "--mirror-only", *more) as pull:
        yield pull


def why(lines: list[Line], url: str) -> str:
    """Why a mirror was left."""
    reasons = [line["reason"] for line in lines if line["source"] == url]
    assert reasons, f"{url} isn't among {lines}"
    return "; ".join(reasons)


# -- two mirrors, one of them bad --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conduct", "reason"),
    [
        pytest.param(Conduct(wrong=True), r"wrong bytes in block 0 \(piece \d+\): expected .*, got .*; not asked again",
                     id="wrong-bytes"),
        pytest.param(Conduct(total=4 * MIB), "expected 3,145,728 bytes, got 4,194,304; not asked again",
                     id="wrong-length"),
        pytest.param(Conduct(slow_head=0.2), None, id="slow-head"),
        long(Conduct(stall_after=200 * KIB), None, id="stalls"),
        long(Conduct(drips=0.2), None, id="drips"),
        long(Conduct(always=Reply(status=404)), "404", id="404"),
        long(Conduct(body=-1000), None, id="body-too-short"),
        long(Conduct(body=1000), None, id="body-too-long"),
        long(Conduct(ranges=False), None, id="no-ranges"),
    ],
)  # fmt: skip
def test_a_bad_mirror_beside_a_good_one(home: Home, served: Served, conduct: Conduct, reason: str | None) -> None:
    """The good one gives the rest. Who lies isn't asked again; the evidence is what came and what should have."""
    served.one.behave(conduct)
    served.two.behave(Conduct(rate=RATE))
    with from_mirrors(home, served) as pull:
        ended = ends_well(pull, home, served.shelf, again=UNDER_WAY)
    assert served.one.asked
    if reason is not None:
        assert re.search(reason, why(ended.rejected, served.urls[0]))


# -- a mirror alone that gets better -----------------------------------------------------------------------------------


def test_too_many_requests_means_waiting_as_long_as_it_says(home: Home, served: Served) -> None:
    retry = Reply(status=429, headers=(("Retry-After", "2"),))
    served.two.behave(GONE)
    served.one.behave(None, *[retry] * 5)
    with from_mirrors(home, served) as pull:
        ends_well(pull, home, served.shelf, again=0)
    asked = served.one.asked
    last = max(number for number, one in enumerate(asked) if one.status == 429)
    gaps = [after.at - before.at for before, after in pairwise(asked[: last + 2])]
    # several connections may be refused at once; then nobody asks until the time is over
    assert all(gap < 0.9 or gap > 1.9 for gap in gaps), gaps
    assert max(gaps) > 1.9


@pytest.mark.parametrize("status", [503, long(500), long(502), long(408)])
def test_a_mirror_that_is_out_of_order_for_a_while(home: Home, served: Served, status: int) -> None:
    served.two.behave(GONE)
    served.one.behave(None, *[Reply(status=status)] * 4)
    with from_mirrors(home, served) as pull:
        ends_well(pull, home, served.shelf, again=0)
    assert [asked.status for asked in served.one.asked].count(status) == 4


@pytest.mark.parametrize(
    "conduct", [Conduct(always=Reply(status=404)), Conduct(wrong=True)], ids=["404", "wrong-bytes"]
)
def test_with_bad_mirrors_alone_a_pull_ends_and_says_why(home: Home, served: Served, conduct: Conduct) -> None:
    """Exit code 4, nothing visible. When they are good again, the same command needs no byte twice."""
    served.one.behave(conduct)
    served.two.behave(conduct)
    with from_mirrors(home, served, "--give-up-after", "3") as pull:
        failed = pull.end()
    assert failed.status == 4, failed.stderr[-2000:]
    assert served.urls[0] in failed.message
    assert not home.blob(served.shelf.only.b3_hex).exists()
    served.one.behave()
    served.two.behave()
    with from_mirrors(home, served) as pull:
        ends_well(pull, home, served.shelf, again=0)


# -- another object under the same URL ---------------------------------------------------------------------------------


def test_a_mirror_changes_its_content_half_way(home: Home, served: Served, other: Path) -> None:
    """Same length, other bytes, another ETag; alone. What was proven stays; of the other nothing is taken."""
    served.two.behave(GONE)
    served.one.behave(Conduct(etag='"1"', rate=RATE))
    served.one.turns = (MIB, Conduct(etag='"2"', content=other))
    with from_mirrors(home, served, "--give-up-after", "3") as pull:
        failed = pull.end()
    assert failed.status == 4, failed.stderr[-2000:]
    assert not home.blob(served.shelf.only.b3_hex).exists()
    assert 'changed while it was fetched ("1" → "2")' in why(failed.named("source_rejected"), served.urls[0])
    served.one.behave(Conduct(etag='"1"'))
    with from_mirrors(home, served) as pull:
        ended = ends_well(pull, home, served.shelf, again=0)
    assert ended.outcome.result["bytes_reused"] >= MIB - UNDER_WAY


def test_a_mirror_changes_its_content_beside_a_good_one(home: Home, served: Served, longer: Path) -> None:
    served.two.behave(Conduct(rate=RATE // 8))
    served.one.behave(Conduct(etag='"1"', rate=RATE))
    served.one.turns = (MIB // 2, Conduct(etag='"2"', content=longer))
    with from_mirrors(home, served) as pull:
        ended = ends_well(pull, home, served.shelf, again=UNDER_WAY)
    assert "something else" in why(ended.rejected, served.urls[0])


@pytest.mark.long
def test_the_same_content_under_another_etag_is_no_other_content(home: Home, served: Served) -> None:
    """A server that was restarted, or another machine behind the same name."""
    served.two.behave(GONE)
    served.one.behave(Conduct(etag='"1"', rate=RATE))
    served.one.turns = (MIB, Conduct(etag='"2"'))
    with from_mirrors(home, served) as pull:
        ends_well(pull, home, served.shelf, again=UNDER_WAY)


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_a_mirror_sends_elsewhere(home: Home, served: Served) -> None:
    served.one.behave(Conduct(always=Reply(status=302, headers=(("Location", served.two.url + "?elsewhere"),))))
    with from_mirrors(home, served) as pull:
        ends_well(pull, home, served.shelf, again=0)
    assert any(asked.path.endswith("?elsewhere") and asked.status == 206 for asked in served.two.asked)


@pytest.mark.long
def test_a_mirror_sends_in_circles(home: Home, served: Served) -> None:
    circle = Conduct(always=Reply(status=302, headers=(("Location", "/blob.bin"),)))
    served.one.behave(circle)
    served.two.behave(circle)
    with from_mirrors(home, served, "--give-up-after", "3") as pull:
        failed = pull.end()
    assert failed.status == 4, failed.stderr[-2000:]
    assert "redirect" in failed.message


# -- a bad link before a mirror ----------------------------------------------------------------------------------------


def test_connections_to_a_mirror_are_cut_at_random_bytes(home: Home, served: Served, seed: int) -> None:
    """What came of a piece before the cut is kept: each connection asks for what follows."""
    served.two.behave(GONE)
    served.link.manners = Manners(cut_after=(20 * KIB, 300 * KIB))
    with from_mirrors(home, served) as pull:
        ended = ends_well(pull, home, served.shelf, again=UNDER_WAY)
    assert served.link.cuts > 5
    assert ended.again <= served.link.cuts * CUT


@pytest.mark.long
def test_the_link_to_a_mirror_is_silent_for_a_while(home: Home, served: Served) -> None:
    served.two.behave(GONE)
    served.link.manners = Manners(rate=RATE)
    with from_mirrors(home, served) as pull:
        pull.expect("pull_progress", has_begun)
        served.link.silence()
        hold(3)
        served.link.speak()
        ends_well(pull, home, served.shelf, again=UNDER_WAY)


@pytest.mark.long
def test_a_connection_to_a_mirror_that_died_unheard_is_replaced(home: Home, served: Served) -> None:
    """The fetcher has another address now, or a router has forgotten: nobody says so, new connections are fine."""
    served.two.behave(GONE)
    served.link.manners = Manners(rate=RATE)
    with from_mirrors(home, served) as pull:
        pull.expect("pull_progress", has_begun)
        served.link.forget()
        ends_well(pull, home, served.shelf, again=UNDER_WAY)


# -- mirrors and peers -------------------------------------------------------------------------------------------------


def test_mirrors_vanish_and_a_peer_completes_the_pull(home: Home, served: Served) -> None:
    for mirror in (served.one, served.two):
        mirror.behave(Conduct(rate=RATE // 4))
        mirror.turns = (MIB // 4, GONE)
    with (
        seed_process(served.shelf.home, "--up=1000000") as seeder,
        pulling(home, served.shelf.file, "--peer", seeder.text) as pull,
    ):
        ended = ends_well(pull, home, served.shelf, again=UNDER_WAY)
    assert ended.outcome.result["bytes_from_peers"] > 0


def test_the_only_peer_vanishes_and_a_mirror_completes_the_pull(home: Home, served: Served) -> None:
    served.one.behave(Conduct(rate=RATE // 16))
    served.two.behave(GONE)
    with (
        seed_process(served.shelf.home, "--up=500000") as seeder,
        pulling(home, served.shelf.file, "--peer", seeder.text) as pull,
    ):
        pull.expect("pull_progress", lambda progress: bool(progress["from_peers"] > 0))
        seeder.process.send(signal.SIGKILL)
        ended = ends_well(pull, home, served.shelf, again=UNDER_WAY)
    assert ended.outcome.result["bytes_from_mirrors"] > 0
