"""What a registry fetches by itself is no way to what its operator merely has: a digest that a stranger lists, whole or
as a block of another file, brings out nothing. And what is barred goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.pulls import options, pulled
from support.registries import asking, list_shelf, mirroring, provided, registry_home
from support.swarms import seeding, seeding_part
from support.world import MIB, NOW, Shelf, one_blob, partial_data, random_file, shelf

from samara.registry.barred import parse_subject
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.takedowns import Takedowns
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import NetworkError, NotFoundError

SIZE = 12 * MIB
WAIT = 20.0


@contextmanager
def operators_own(tmp_path: Path) -> Iterator[tuple[Home, Index, Shelf]]:
    """A registry whose operator pulled something from somebody who lists nothing here."""
    private = one_blob(tmp_path / "private", SIZE, seed=7)
    with registry_home(tmp_path / "registry") as (home, index), seeding(private) as seeder:
        TrustFolder(home.trust).add("private", private.publisher.identity, now=NOW)
        pulled(home, private.file, options(seeder.endpoint))
        yield home, index, private


def test_a_stranger_who_lists_its_digest_gets_nothing_and_nothing_is_seeded(tmp_path: Path) -> None:
    with operators_own(tmp_path) as (home, index, private):
        stranger = shelf(tmp_path / "stranger", [private.source], reference="stranger/blob:v1")
        assert stranger.only.b3 == private.only.b3
        list_shelf(index, stranger)
        with provided(home, index, mirroring(asking(give_up_after=1.0))) as registry:
            with pytest.raises(NotFoundError, match="isn't on this registry's disk"):
                registry.bring(private.only.b3).wait(0, WAIT)
            status = registry.until(lambda status: status.published == 1)
            assert (status.seeding, status.held) == (0, 0)
        with provided(home, index, mirroring(asking(), serves_all=True)) as registry:
            registry.until(lambda status: status.seeding == 1)
        assert home.blob(private.only.b3_hex).exists()


def test_a_stranger_who_lists_its_blocks_in_another_file_gets_none_of_them(tmp_path: Path) -> None:
    with operators_own(tmp_path) as (home, index, private):
        longer = tmp_path / "longer.bin"
        longer.write_bytes(private.source.read_bytes() + b"and some more" * 100_000)
        stranger = shelf(tmp_path / "stranger", [longer], reference="stranger/blob:v1")
        shared = {block.digest for block in stranger.only.blocks} & {block.digest for block in private.only.blocks}
        assert len(shared) == 3
        list_shelf(index, stranger)
        with provided(home, index, mirroring(asking(("127.0.0.1", 9), give_up_after=2.0))) as registry:
            arriving = registry.bring(stranger.only.b3)
            with pytest.raises(NetworkError):
                assert arriving.wait(0, WAIT) == 0, "blocks of the operator's own file"


def test_what_the_operator_is_still_pulling_is_given_to_nobody(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with registry_home(tmp_path / "registry", published) as (home, index):
        TrustFolder(home.trust).add("acme", published.publisher.identity, now=NOW)
        with seeding_part(published, 20) as peer, pytest.raises(NetworkError):
            pulled(home, published.file, options(peer.endpoint, give_up_after=1.0))
        assert partial_data(home, published.only).exists()
        with provided(home, index, mirroring(asking())) as registry, pytest.raises(NotFoundError):
            registry.bring(published.only.b3).wait(0, WAIT)
        assert partial_data(home, published.only).exists()


@pytest.mark.parametrize("which", ["blob", "release", "publisher"])
def test_what_is_barred_is_dropped_whatever_the_quota(tmp_path: Path, which: str) -> None:
    published = one_blob(tmp_path, 100_000)
    with seeding(published) as seeder, registry_home(tmp_path / "registry", published) as (home, index):
        with provided(home, index, mirroring(asking(seeder.endpoint))) as registry:
            registry.until(lambda status: status.here == 1 and not status.coming)
            release = published.release.digest
            subject = {"blob": published.only.b3, "release": release, "publisher": published.publisher.identity}[which]
            Takedowns(index.database).bar(parse_subject(subject), "stolen", now=1.0)
            status = registry.until(lambda status: status.evicted == 1 and not status.seeding)
            assert (status.published, status.held) == (0, 0)
        assert not home.blob(published.only.b3_hex).exists()


def test_what_somebody_else_lists_too_stays_when_a_publisher_is_barred(tmp_path: Path) -> None:
    sources = [random_file(tmp_path / f"{number}.bin", 100_000, seed=number) for number in (1, 2)]
    published = shelf(tmp_path / "published", sources, reference="acme/both:v1")
    other = shelf(tmp_path / "other", sources[:1], reference="other/blob:v1")
    with seeding(published) as seeder, registry_home(tmp_path / "registry", published, other) as (home, index):
        with provided(home, index, mirroring(asking(seeder.endpoint))) as registry:
            registry.until(lambda status: status.here == 2 and not status.coming)
            takedowns = Takedowns(index.database)
            takedowns.bar(parse_subject(published.publisher.identity), "spam", now=1.0)
            status = registry.until(lambda status: status.evicted == 1 and status.published == 1)
            assert (status.here, status.held) == (1, 1)
            assert home.blob(other.only.b3_hex).exists()
            takedowns.bar(parse_subject(other.publisher.identity), "spam too", now=2.0)
            registry.until(lambda status: status.evicted == 2 and not status.seeding)
        assert not home.blob(other.only.b3_hex).exists()
