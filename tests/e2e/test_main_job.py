"""The whole promise on the command line: publish, seed, pull, path, verify; and once more, from what is here."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.processes import pulling, samara, seed_process, seeds
from support.world import FIXTURES, MIB, leftovers, random_file, shelf, trusting_home

from samara.registry.home import Home

TINY = FIXTURES / "tiny.gguf"


def test_from_one_machine_to_another(tmp_path: Path) -> None:
    giver, getter = Home(tmp_path / "giver"), Home(tmp_path / "getter")
    big = random_file(tmp_path / "files" / "big.bin", 5 * MIB + 1234, seed=7)
    release = tmp_path / "pair.samara"

    made = samara(giver, "publisher", "init", "acme", "--json")
    identity = made.result["identity"]
    published = samara(giver, "publish", TINY, big, "--as", "acme/pair:v1", "-o", release, "--json")
    assert (made.status, published.status) == (0, 0), published.stderr
    assert samara(getter, "trust", "add", "acme", "--identity", identity, "--yes").status == 0

    with seed_process(giver) as seeder:
        with pulling(getter, release, "--peer", seeder.text) as first:
            done = first.end()
        with pulling(getter, f"acme/pair@{published.result['manifest']}", "--to", tmp_path / "out") as second:
            again = second.end()
        stopped = seeder.stop()

    total = TINY.stat().st_size + big.stat().st_size
    assert done.status == 0, done.stderr
    assert done.result["bytes_total"] == done.result["bytes_from_peers"] == total
    assert (done.result["bytes_reused"], done.result["bytes_from_mirrors"], done.result["rejected"]) == (0, 0, [])
    assert done.result["seconds"] > done.result["seconds_to_first_byte"] > 0
    assert done.result["manifest"] == published.result["manifest"]
    assert done.result["identity"] == identity
    assert [file["path"] for file in done.result["files"]] == ["tiny.gguf", "big.bin"]
    assert {line["path"] for line in done.named("file_ready")} == {"tiny.gguf", "big.bin"}
    last = {line["path"]: line for line in done.named("pull_progress")}
    assert all(line["verified"] == line["done"] == line["total"] for line in last.values())
    assert stopped.status == 0
    assert stopped.result == {"blobs": 2, "uploaded": total}

    # nobody was named and nothing was fetched the second time
    assert again.status == 0, again.stderr
    assert again.result["bytes_reused"] == total
    assert again.result["bytes_from_peers"] == again.result["bytes_from_mirrors"] == 0
    assert (tmp_path / "out" / "tiny.gguf").read_bytes() == TINY.read_bytes()
    assert (tmp_path / "out" / "big.bin").read_bytes() == big.read_bytes()

    paths = [Path(line) for line in samara(getter, "path", "acme/pair:v1").stdout.splitlines()]
    assert [path.name for path in paths] == ["tiny.gguf", "big.bin"]
    for path, source in zip(paths, (TINY, big), strict=True):
        assert path.read_bytes() == source.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o444
    assert leftovers(getter) == []
    checked = samara(getter, "verify", "acme/pair:v1")
    assert checked.status == 0, checked.stderr


def test_what_was_pulled_is_seeded_on(tmp_path: Path) -> None:
    """A → B, A gone, B → C: nobody needs the publisher any more."""
    published = shelf(tmp_path, [TINY], reference="acme/tiny:f16")
    release = published.file
    between, last = (trusting_home(tmp_path / name, published) for name in ("between", "last"))
    with seed_process(between) as seeder:
        with seed_process(published.home) as first, pulling(between, release, "--peer", first.text) as pull:
            assert pull.end().status == 0
            first.process.send(signal.SIGTERM)
            assert first.process.end().status == 0
        # the seeder that ran all along picks the new blob up by itself
        seeder.process.expect("seed_table", seeds("tiny.gguf"))
        with pulling(last, release, "--peer", seeder.text) as pull:
            done = pull.end()
    assert done.status == 0, done.stderr
    assert done.result["bytes_from_peers"] == TINY.stat().st_size


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_seeder_stops_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    with seed_process(Home(tmp_path / "home")) as seeder:
        seeder.process.expect("note", lambda line: "nothing is whole here yet" in line["message"])
        seeder.process.send(stop)
        done = seeder.process.end()
    assert done.status == 0, done.stderr
    assert done.result == {"blobs": 0, "uploaded": 0}
