"""Names that have no address, then have one; name servers that are silent; a machine that is found elsewhere now.

On a lab with a name server of its own: what a resolver does can't be had otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_mirrors import BadMirror, Conduct
from link_kit import CUT, PORT, LabLinks, ends_well, has_begun, hold
from name_server import NameServer
from support.lab import NO_LAB, there_is_no_lab
from support.world import MIB, PIECE, Shelf, one_blob, trusting_home

from samara.registry.home import Home

NAS = "nas.example"
WEB_PORT = 8080
UNDER_WAY = 4 * PIECE

pytestmark = pytest.mark.skipif(there_is_no_lab(), reason=NO_LAB)


@pytest.fixture
def links() -> Iterator[LabLinks]:
    """A fetcher, two seeders; the second machine has the name server, too."""
    with LabLinks(2) as made:
        made.lab.names_from("fetcher", made.lab.address("seeder1"))
        yield made


@pytest.fixture
def names(links: LabLinks) -> Iterator[NameServer]:
    with contextlib.ExitStack() as stack:
        with links.lab["seeder1"].entered():
            server = stack.enter_context(NameServer(links.lab.address("seeder1")))
        yield server


def test_a_name_without_an_address_gets_one(links: LabLinks, names: NameServer, shelved: Shelf, home: Home) -> None:
    """Beside a peer that isn't there: what is said of names is asked again, not remembered."""
    nobody = f"{links.lab.address('seeder1')}:{PORT}"
    with (
        links.seeding(shelved.home, 0),
        links.pulling(home, shelved.file, "--peer", f"{NAS}:{PORT}", "--peer", nobody) as pull,
    ):
        pull.expect("pull_progress", lambda _progress: names.asked >= 2)
        names.names[NAS] = links.lab.address("seeder0")
        ends_well(pull, home, shelved, again=0)


@pytest.mark.long
def test_a_broken_name_server_gets_well(links: LabLinks, names: NameServer, shelved: Shelf, home: Home) -> None:
    names.names[NAS] = links.lab.address("seeder0")
    names.is_broken = True
    nobody = f"{links.lab.address('seeder1')}:{PORT}"
    with (
        links.seeding(shelved.home, 0),
        links.pulling(home, shelved.file, "--peer", f"{NAS}:{PORT}", "--peer", nobody) as pull,
    ):
        pull.expect("pull_progress", lambda _progress: names.asked >= 2)
        names.is_broken = False
        ends_well(pull, home, shelved, again=0)


def test_a_silent_name_server_keeps_nobody_away(
    links: LabLinks, names: NameServer, shelved: Shelf, home: Home
) -> None:  # fmt: skip
    names.is_silent = True
    with (
        links.seeding(shelved.home, 0) as seeder,
        links.pulling(home, shelved.file, "--peer", f"{NAS}:{PORT}", "--peer", seeder.text) as pull,
    ):
        ends_well(pull, home, shelved, again=0)
        assert names.asked > 0


@pytest.mark.long
def test_with_a_silent_name_server_a_pull_still_gives_up(
    links: LabLinks, names: NameServer, shelved: Shelf, home: Home
) -> None:
    """However long each look-up takes: resolvers wait up to half a minute."""
    names.is_silent = True
    links.lab.names_from("fetcher", links.lab.address("seeder1"), timeout=3, attempts=2)
    nobody = f"{links.lab.address('seeder1')}:{PORT}"
    how = ("--peer", f"{NAS}:{PORT}", "--peer", nobody, "--give-up-after", "10")
    with links.pulling(home, shelved.file, *how) as pull:
        failed = pull.end(40)
    assert failed.status == 4, failed.stderr[-2000:]
    assert NAS in failed.message


@pytest.mark.long
def test_a_seeder_is_found_at_its_new_address(
    links: LabLinks, names: NameServer, shelved: Shelf, home: Home
) -> None:  # fmt: skip
    """It was stopped, moved, and started again: its name leads there."""
    names.names[NAS] = links.lab.address("seeder0")
    links.slow(8)
    with links.pulling(home, shelved.file, "--peer", f"{NAS}:{PORT}", "--give-up-after", 30) as pull:
        with links.seeding(shelved.home, 0):
            pull.expect("pull_progress", has_begun)
        names.names[NAS] = links.lab.move("seeder0", 60)
        with links.seeding(shelved.home, 0):
            ends_well(pull, home, shelved, again=CUT)


def test_a_mirrors_name_has_no_address_for_a_while(
    links: LabLinks, names: NameServer, mirrored: tuple[Shelf, BadMirror], mirror_home: Home
) -> None:
    shelf, served = mirrored
    with links.pulling(mirror_home, shelf.file, "--mirror-only") as pull:
        pull.expect("pull_progress", lambda _progress: names.asked >= 2)
        names.names[NAS] = links.lab.address("seeder0")
        ends_well(pull, mirror_home, shelf, again=0)
    assert served.asked


@pytest.mark.parametrize("percent", [3, pytest.param(10, marks=pytest.mark.long)])
def test_packets_to_a_mirror_are_lost(
    links: LabLinks, names: NameServer, mirrored: tuple[Shelf, BadMirror], mirror_home: Home, seed: int, percent: int
) -> None:
    shelf, _served = mirrored
    names.names[NAS] = links.lab.address("seeder0")
    links.lossy(percent, seed=seed)
    with links.pulling(mirror_home, shelf.file, "--mirror-only") as pull:
        ends_well(pull, mirror_home, shelf, again=UNDER_WAY)
    assert links.lost() > 0


@pytest.mark.long
@pytest.mark.parametrize("seconds", [5, 60])
def test_the_link_to_a_mirror_goes_down_and_the_fetcher_comes_back_with_another_address(
    links: LabLinks, names: NameServer, mirrored: tuple[Shelf, BadMirror], mirror_home: Home, seconds: int
) -> None:
    shelf, served = mirrored
    served.conduct = Conduct(rate=300_000)
    names.names[NAS] = links.lab.address("seeder0")
    with links.pulling(mirror_home, shelf.file, "--mirror-only") as pull:
        pull.expect("pull_progress", has_begun)
        links.down()
        hold(seconds)
        links.move_fetcher()
        links.up()
        ends_well(pull, mirror_home, shelf, again=UNDER_WAY)


@pytest.fixture
def mirrored(links: LabLinks, tmp_path: Path) -> Iterator[tuple[Shelf, BadMirror]]:
    """A release whose only mirror is named NAS, and lies on the first machine."""
    shelf = one_blob(tmp_path / "mirrored", 2 * MIB, mirrors=(f"http://{NAS}:{WEB_PORT}/blob.bin",))
    with contextlib.ExitStack() as stack:
        with links.lab["seeder0"].entered():
            served = BadMirror(path=shelf.source, host=links.lab.address("seeder0"), port=WEB_PORT)
            stack.enter_context(served)
        yield shelf, served


@pytest.fixture
def mirror_home(tmp_path: Path, mirrored: tuple[Shelf, BadMirror]) -> Home:
    return trusting_home(tmp_path / "home", mirrored[0])
