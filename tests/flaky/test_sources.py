"""Sources that fail: liars, slow-loris, the silent, the vanishing, names without addresses."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest
from bad_mirrors import BadMirror
from link_kit import CUT, LIMIT, MakeLinks, at_least, ends_well, fetched, has_begun, long
from rogues import Harm, Rogue
from support.bad_links import BadLink, Manners
from support.processes import pulling, samara, seed_process
from support.swarms import seeding
from support.world import PIECE, Shelf, assert_pulled, trusting_home

from samara.registry.home import Home
from samara.registry.trust.pins import TrustFolder
from samara.seeder.swarm_events import WRONG_BYTES

HONEST = 1_500_000  # bytes per second: the others are asked too
SLOW = f"--up={HONEST}"


# -- peers that do harm ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harms",
    [
        pytest.param([harm for harm in Harm if harm is not Harm.DRIPS], id="all-but-drips"),
        pytest.param(list(Harm), id="all", marks=pytest.mark.long),
    ],
)
def test_every_kind_of_rogue_beside_one_honest_peer(shelved: Shelf, home: Home, seed: int, harms: list[Harm]) -> None:
    """All at once. Who gave wrong bytes is named; what it spoilt comes again from the honest one, once."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(Rogue(harm, pieces=shelved.only.piece_count, seed=seed, host=f"127.0.0.{number}"))
            for number, harm in enumerate(harms, start=2)
        ]
        peers = [part for rogue in made for part in ("--peer", rogue.text)]
        with (
            seeding(shelved) as honest,
            BadLink(honest.endpoint, Manners(rate=30_000)) as link,
            pulling(home, shelved.file, *peers, "--peer", link.text) as pull,
        ):
            pull.expect("pull_progress", lambda _progress: all(rogue.asked for rogue in made))
            link.manners = Manners()
            ended = ends_well(pull, home, shelved, again=10**9, limit=45)
        # a piece of which a rogue gave anything may have to come again as a whole
        spoilt = set[int]().union(*(rogue.pieces for rogue in made))
        assert ended.again <= len(spoilt) * PIECE + sum(rogue.given for rogue in made)
        liars = [rogue.text for rogue in made if rogue.harm is Harm.WRONG_BYTES]
        assert [line["source"] for line in ended.rejected] == liars


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(Harm.WRONG_BYTES, marks=pytest.mark.long),
        *(long(harm) for harm in Harm if harm is not Harm.WRONG_BYTES),
    ],
)
def test_a_rogue_beside_an_honest_peer(shelved: Shelf, home: Home, seed: int, harm: Harm) -> None:
    with (
        Rogue(harm, pieces=shelved.only.piece_count, seed=seed) as rogue,
        seeding(shelved, up=HONEST) as honest,
        pulling(home, shelved.file, "--peer", rogue.text, "--peer", honest.text) as pull,
    ):
        ended = ends_well(pull, home, shelved, again=10**9)
        assert rogue.asked > 0
        spoilt = len(rogue.pieces) * PIECE if harm is Harm.WRONG_BYTES else rogue.given
        assert ended.again <= spoilt + CUT
    if harm is Harm.WRONG_BYTES:
        assert [line["source"] for line in ended.rejected] == [rogue.text]
        assert ended.rejected[0]["reason"].startswith(WRONG_BYTES)


@pytest.mark.parametrize(
    "harm",
    [
        Harm.WRONG_BYTES,
        long(Harm.DRIPS),
        long(Harm.SHORTER),
        long(Harm.SILENT),
    ],
)
def test_a_rogue_alone_ends_the_pull_and_an_honest_peer_completes_it(
    shelved: Shelf, home: Home, seed: int, harm: Harm
) -> None:
    """Exit code 4, nothing visible, the rogue named; the same command again needs no byte twice."""
    with Rogue(harm, pieces=shelved.only.piece_count, seed=seed) as rogue:
        with pulling(home, shelved.file, "--peer", rogue.text, "--give-up-after", "3") as pull:
            failed = pull.end(15)
        assert rogue.asked > 0
    assert failed.status == 4, failed.stderr[-2000:]
    assert not home.blob(shelved.only.b3_hex).exists()
    assert not (home.models / "acme").exists()
    if harm is Harm.WRONG_BYTES:
        assert rogue.text in failed.message
    with seeding(shelved) as honest, pulling(home, shelved.file, "--peer", honest.text) as pull:
        # what a liar had begun of a piece is believed until that piece is whole
        ends_well(pull, home, shelved, again=2 * PIECE if harm is Harm.WRONG_BYTES else 0)


# -- peers that come and go --------------------------------------------------------------------------------------------


def test_a_seeder_vanishes_and_another_appears(shelved: Shelf, home: Home) -> None:
    with BadLink(("127.0.0.1", 1), Manners(refuses=True)) as later, seed_process(shelved.home, SLOW) as first:
        peers = ("--peer", first.text, "--peer", later.text)
        with pulling(home, shelved.file, *peers) as pull:
            pull.expect("pull_progress", at_least(0.3))
            first.process.send(signal.SIGKILL)
            first.process.end()
            with seed_process(shelved.home) as second:
                later.target = second.endpoint
                later.manners = Manners()
                ends_well(pull, home, shelved, again=CUT)


@pytest.mark.long
def test_a_seeder_is_killed_and_started_again_at_its_address(shelved: Shelf, home: Home) -> None:
    with seed_process(shelved.home, SLOW) as first, pulling(home, shelved.file, "--peer", first.text) as pull:
        pull.expect("pull_progress", has_begun)
        first.process.send(signal.SIGKILL)
        first.process.end()
        with seed_process(shelved.home, listen=first.text):
            ends_well(pull, home, shelved, again=CUT)


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_connections_are_reset_while_the_release_is_fetched_from_peers(shelved: Shelf, home: Home, seed: int) -> None:
    """By magnet link: release, then bytes, through a link that cuts its first connections after a few hundred bytes."""
    roots = TrustFolder(shelved.home.trust).stored_chain(shelved.release.identity)
    assert roots is not None
    TrustFolder(home.trust).store_roots(shelved.release.identity, roots)
    shown = samara(shelved.home, "show", shelved.reference, "--json").result
    with (
        seed_process(shelved.home) as seeder,
        BadLink(seeder.endpoint, Manners(cut_after=(100, 3000), cuts_at_most=4), seed=seed) as link,
        pulling(home, shown["files"][0]["magnet"], "--peer", link.text) as pull,
    ):
        ends_well(pull, home, shelved, again=4 * CUT)
        assert 2 <= link.cuts <= 4  # one may be hung up before it is cut


def test_connections_are_reset_while_the_release_file_is_fetched(
    tmp_path: Path, shelved: Shelf, home: Home, seed: int
) -> None:
    """By URL: a `.samara` file through a link that cuts its first connections; nothing half of it is believed."""
    with (
        BadMirror(path=shelved.file) as served,
        BadLink(("127.0.0.1", served.port), Manners(cut_after=(300, 2000), cuts_at_most=2), seed=seed) as link,
        seeding(shelved) as peer,
    ):
        for _again in range(3):
            with pulling(home, f"http://{link.text}/blob.samara", "--peer", peer.text) as pull:
                outcome = pull.end()
            if outcome.status == 0:
                break
            assert outcome.status == 4, outcome.stderr[-2000:]
            assert not home.models.exists()
        assert outcome.status == 0
        assert_pulled(home, shelved)
        assert link.cuts > 0


# -- two pullers -------------------------------------------------------------------------------------------------------


def test_two_pulls_fight_over_a_lossy_link(
    make_links: MakeLinks, tmp_path: Path, shelved: Shelf, home: Home, seed: int
) -> None:
    """One home: they share one transfer, and the second finds all of it here. Another home beside them has its own."""
    elsewhere = trusting_home(tmp_path / "elsewhere", shelved)
    with make_links() as links, links.seeding(shelved.home) as seeder:
        links.slow(16)
        links.lossy(2, seed=seed)
        peer = ("--peer", links.peer(seeder))
        with (
            links.pulling(home, shelved.file, *peer) as one,
            links.pulling(home, shelved.file, *peer) as two,
            links.pulling(elsewhere, shelved.file, *peer) as three,
        ):
            both = [one.end(LIMIT), two.end(LIMIT)]
            ends_well(three, elsewhere, shelved, again=CUT)
        assert links.lost() > 0
    assert [outcome.status for outcome in both] == [0, 0], both[0].stderr + both[1].stderr
    assert shelved.size <= sum(fetched(outcome.result) for outcome in both) <= shelved.size + CUT
    assert_pulled(home, shelved)
