"""Sources that fail: liars, slow-loris, the silent, the vanishing, names without addresses."""

from __future__ import annotations

import signal

import pytest
from link_kit import CUT, at_least, ends_well, has_begun
from rogues import Harm, Rogue
from support.bad_links import BadLink, Manners
from support.processes import pulling, samara, seed_process
from support.world import PIECE, Shelf

from samara.registry.home import Home
from samara.registry.trust.pins import TrustFolder
from samara.seeder.swarm_events import WRONG_BYTES

SLOW = "--up=1500000"  # bytes per second of the honest: the others are asked too


# -- peers that do harm ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", list(Harm))
def test_a_rogue_beside_an_honest_peer(shelved: Shelf, home: Home, seed: int, harm: Harm) -> None:
    with (
        Rogue(harm, pieces=shelved.only.piece_count, seed=seed) as rogue,
        seed_process(shelved.home, SLOW) as honest,
        pulling(home, shelved.file, "--peer", rogue.text, "--peer", honest.text) as pull,
    ):
        # what it gave of a piece spoils the whole piece, once: the honest peer gives all of it again
        spoilt = shelved.only.piece_count * PIECE if harm is Harm.WRONG_BYTES else rogue.given
        ended = ends_well(pull, home, shelved, again=spoilt + CUT)
        assert rogue.asked > 0
    if harm is Harm.WRONG_BYTES:
        assert ended.again <= len(rogue.pieces) * PIECE + CUT
        assert [(line["source"], line["reason"]) for line in ended.rejected] == [(rogue.text, WRONG_BYTES)]


@pytest.mark.parametrize("harm", [Harm.WRONG_BYTES, Harm.SHORTER, Harm.SILENT])
def test_a_rogue_alone_ends_the_pull_and_an_honest_peer_completes_it(
    shelved: Shelf, home: Home, seed: int, harm: Harm
) -> None:
    """Exit code 4, nothing visible, the rogue named; the same command again needs no byte twice."""
    with Rogue(harm, pieces=shelved.only.piece_count, seed=seed) as rogue:
        with pulling(home, shelved.file, "--peer", rogue.text, "--give-up-after", "3") as pull:
            failed = pull.end()
        assert rogue.asked > 0
    assert failed.status == 4, failed.stderr[-2000:]
    assert not home.blob(shelved.only.b3_hex).exists()
    assert not (home.models / "acme").exists()
    if harm is Harm.WRONG_BYTES:
        assert rogue.text in failed.message
    with seed_process(shelved.home) as honest, pulling(home, shelved.file, "--peer", honest.text) as pull:
        ends_well(pull, home, shelved, again=0)


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
        assert link.cuts == 4
