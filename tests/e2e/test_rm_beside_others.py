"""`samara rm` while others use the same store: a seeder goes on, and lets go; a pull is not disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes import pulling, samara, seed_process
from support.pulls import options, pulled
from support.swarms import seeding
from support.world import MIB, leftovers, one_blob, random_file, shelf, trusting_home

from samara.schemas.errors import ExitCode


def test_a_seeder_lets_go_of_what_is_forgotten(tmp_path: Path) -> None:
    first = one_blob(tmp_path / "first", 2 * MIB)
    second = shelf(
        tmp_path / "first",
        [random_file(tmp_path / "other.bin", MIB, seed=9)],
        reference="acme/other:v1",
        publisher=first.publisher,
    )
    home = trusting_home(tmp_path / "home", first)
    for published in (first, second):
        with seeding(published) as peer:
            pulled(home, str(published.file), options(peer.endpoint))
    with seed_process(home) as seeder:
        seeder.process.expect("seed_table", lambda table: len(table["rows"]) == 2)
        assert samara(home, "rm", first.reference, "--json").status == ExitCode.OK
        seeder.process.expect("seed_table", lambda table: [row["path"] for row in table["rows"]] == ["other.bin"])
        assert seeder.stop().status == ExitCode.OK
    assert not home.blob(first.only.b3_hex).exists()
    assert home.blob(second.only.b3_hex).exists()
    assert leftovers(home) == []


@pytest.mark.long
def test_what_a_pull_is_fetching_stays(tmp_path: Path) -> None:
    published = one_blob(tmp_path / "shelf", 8 * MIB)
    home = trusting_home(tmp_path / "home", published)
    with seeding(published, up=MIB) as peer, pulling(home, published.file, "--peer", peer.text) as pull:
        pull.expect("pull_progress", lambda progress: progress["done"] > 0)
        refused = samara(home, "rm", published.reference, "--json")
        assert refused.status == ExitCode.STORE, refused.stderr
        assert "pulling" in refused.message
        assert pull.end().status == ExitCode.OK
    assert home.blob(published.only.b3_hex).read_bytes() == published.source.read_bytes()
