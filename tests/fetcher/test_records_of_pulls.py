"""What is on record after a real pull: every endpoint, how it was found, bytes that add up, and how it ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.mirrors import Mirror
from support.pulls import Pull, options, pull_half, pulled
from support.swarms import lying, seeding
from support.world import MIB, PIECE, Shelf, flipped_copy, one_blob, trusting_home

from samara.fetcher.control import ControlFiles
from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.errors import NetworkError, SamaraError, UsageError
from samara.schemas.events import Event, Note, PullProgress, Warned
from samara.schemas.networks import parse_networks
from samara.schemas.pull_record import EndpointRecord, PullRecord

SIZE = 12 * MIB


@pytest.fixture
def shelved(tmp_path: Path, served: Mirror) -> Shelf:
    return one_blob(tmp_path / "shelf", SIZE, mirrors=(served.of("blob.bin"),))


@pytest.fixture
def home(tmp_path: Path, shelved: Shelf) -> Home:
    return trusting_home(tmp_path / "home", shelved)


def on_record(home: Home) -> PullRecord:
    """The newest, as the index has it."""
    with Index.open(home) as index:
        (record,) = index.pull_records(1)
    return record


def of(record: PullRecord, kind: str) -> list[EndpointRecord]:
    return [one for one in record.endpoints if one.kind == kind]


def endpoint(served: Mirror) -> str:
    return served.url.removeprefix("http://").removesuffix("/")


def test_peers_and_mirrors_with_bytes_that_add_up(tmp_path: Path, home: Home, shelved: Shelf, served: Mirror) -> None:
    served.rate = 2_000_000
    file = tmp_path / "records" / "record.json"
    with seeding(shelved, up=4_000_000) as peer:
        how = options(peer.endpoint, record=file)
        how = replace(how, swarm=replace(how.swarm, count_blocks=True))
        done = pulled(home, shelved.file, how)
        gave = peer.uploaded
    record = on_record(home)
    assert file.read_bytes() == record.as_json() + b"\n", "the index and the file say the same"
    assert (record.outcome, record.references) == ("done", (shelved.reference,))
    (a_peer,), (a_mirror,) = of(record, "peer"), of(record, "mirror")
    assert len(record.endpoints) == 2
    assert (a_peer.endpoint, a_peer.found) == (peer.text, ("told",))
    assert (a_mirror.endpoint, a_mirror.name, a_mirror.found) == (
        endpoint(served),
        served.of("blob.bin"),
        ("manifest",),
    )
    assert a_peer.bytes_in == gave == done.bytes_from_peers
    assert a_mirror.bytes_in == done.bytes_from_mirrors
    blocks = len(shelved.only.blocks)
    assert max(a_peer.blocks_verified, a_mirror.blocks_verified) <= blocks
    assert a_peer.blocks_verified + a_mirror.blocks_verified >= blocks
    assert record.started <= record.ended


def test_a_quick_pull_from_peers_alone_has_all_its_bytes_on_record(home: Home, shelved: Shelf) -> None:
    with seeding(shelved) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint, mirrors=False))
    (a_peer,) = on_record(home).endpoints
    assert a_peer.bytes_in == done.bytes_from_peers == SIZE


def test_who_brought_the_second_half_is_not_credited_with_the_first(tmp_path: Path) -> None:
    shelved = one_blob(tmp_path / "bare", SIZE)
    home = trusting_home(tmp_path / "half", shelved)
    pull_half(home, shelved)
    with seeding(shelved) as peer:
        pulled(home, shelved.file, options(peer.endpoint, mirrors=False))
    (a_peer,) = on_record(home).endpoints
    half = shelved.only.piece_count // 2 * PIECE
    assert a_peer.bytes_in == SIZE - half
    assert a_peer.blocks_verified == sum(block.end > half for block in shelved.only.blocks)


def test_a_mirror_alone_and_the_release_file_from_the_same_server(home: Home, shelved: Shelf, served: Mirror) -> None:
    """One server in two roles is two entries: asked for the release, because it was told, and for bytes."""
    (served.folder / "blob.samara").write_bytes(shelved.file.read_bytes())
    done = pulled(home, served.of("blob.samara"), options(peer_to_peer=False))
    record = on_record(home)
    (a_catalog,), (a_mirror,) = of(record, "catalog"), of(record, "mirror")
    assert (a_catalog.endpoint, a_catalog.found) == (endpoint(served), ("told",))
    assert (a_mirror.endpoint, a_mirror.found, a_mirror.bytes_in) == (endpoint(served), ("manifest",), SIZE)
    assert a_mirror.bytes_in == done.bytes_from_mirrors
    assert a_mirror.blocks_verified == len(shelved.only.blocks)
    assert len(record.endpoints) == 2


def test_a_lying_mirror_with_its_evidence(home: Home, shelved: Shelf, served: Mirror) -> None:
    served.wrong_from = 0
    with seeding(shelved, up=8_000_000) as peer:
        pulled(home, shelved.file, options(peer.endpoint))
    (liar,) = of(on_record(home), "mirror")
    assert liar.blocks_rejected == len(liar.evidence) == 1
    evidence = liar.evidence[0]
    assert evidence.file == "blob.bin"
    assert evidence.piece is not None
    assert evidence.block == evidence.piece * PIECE // (4 * MIB)
    assert evidence.expected != evidence.actual
    assert (evidence.expected or "").partition(":")[0] == (evidence.actual or "").partition(":")[0] == "sha1"
    assert liar.blocks_verified == 0


def test_a_lying_peer_with_its_evidence(tmp_path: Path, home: Home, shelved: Shelf) -> None:
    wrong = flipped_copy(shelved.source, tmp_path / "wrong" / "data", list(range(1000, SIZE, PIECE)))
    with lying(shelved, wrong) as liar, seeding(shelved, up=8_000_000) as honest:
        pulled(home, shelved.file, options(liar.endpoint, honest.endpoint, mirrors=False))
    found = {one.endpoint: one for one in of(on_record(home), "peer")}
    assert found[liar.text].blocks_rejected == len(found[liar.text].evidence) >= 1
    assert found[liar.text].evidence[0].expected is not None
    assert found[honest.text].blocks_rejected == 0


def test_a_mirror_that_says_no_was_a_mirror_all_the_same(home: Home, shelved: Shelf, served: Mirror) -> None:
    served.status = 404
    with seeding(shelved) as peer:
        pulled(home, shelved.file, options(peer.endpoint))
    record = on_record(home)
    assert of(record, "catalog") == []
    (absent,) = of(record, "mirror")
    assert (absent.endpoint, absent.name) == (endpoint(served), served.of("blob.bin"))
    assert (absent.found, absent.bytes_in, absent.blocks_verified) == (("manifest",), 0, 0)


@pytest.mark.parametrize("rule", ["no-private-addresses", "only-networks"])
def test_a_mirror_that_must_not_be_contacted_is_on_record_as_refused(
    home: Home, shelved: Shelf, served: Mirror, rule: str
) -> None:
    changes: dict[str, Any] = {"private_mirrors": False}
    if rule == "only-networks":
        changes = {"networks": parse_networks("127.0.0.2/31")}
    with seeding(shelved) as peer:
        pull = Pull(home, shelved.file, options(peer.endpoint, give_up_after=3.0, **changes))
        with contextlib.suppress(NetworkError):
            pull.result()
    record = on_record(home)
    assert served.requests == []
    (refused,) = of(record, "mirror")
    assert refused.refused is not None
    assert "127.0.0.1" in refused.refused
    assert refused.bytes_in == 0
    assert record.networks == (() if rule == "no-private-addresses" else ("127.0.0.2/31",))


@pytest.mark.parametrize("outcome", ["NetworkError", "InterruptedByUser"])
def test_a_pull_that_fails_or_is_cancelled_is_on_record_too(
    tmp_path: Path, home: Home, shelved: Shelf, served: Mirror, outcome: str
) -> None:
    file = tmp_path / "record.json"
    how = options(peer_to_peer=False, give_up_after=2.0, record=file)
    if outcome == "NetworkError":
        served.ends_after = 0
        error = Pull(home, shelved.file, how).error()
    else:
        served.rate = 300_000
        pull = Pull(home, shelved.file, how)
        pull.expect(PullProgress, lambda progress: progress.from_mirrors > 0)
        ControlFiles(home).cancel(None)
        error = pull.error()
    assert type(error).__name__ == outcome
    record = on_record(home)
    assert file.read_bytes() == record.as_json() + b"\n"
    assert record.outcome == outcome
    assert record.references == (shelved.reference,)
    (a_mirror,) = record.endpoints
    assert (a_mirror.kind, a_mirror.bytes_in > 0) == ("mirror", outcome != "NetworkError")


def test_a_pull_whose_reference_leads_nowhere_is_on_record(home: Home, shelved: Shelf) -> None:
    with pytest.raises(SamaraError) as caught:
        pulled(home, "acme/nothing:v1", options(peer_to_peer=False))
    record = on_record(home)
    assert record.outcome == type(caught.value).__name__
    assert record.references == ("acme/nothing:v1",)


def taken_away(folder: Path) -> Callable[[Event], None]:
    """Puts a file in the folder's place once the pull is under way."""

    def at_the_first_note(event: Event) -> None:
        if isinstance(event, Note) and folder.is_dir():
            folder.rmdir()
            folder.write_text("a file")

    return at_the_first_note


def test_a_file_that_cannot_be_written_costs_the_index_nothing(tmp_path: Path, home: Home, shelved: Shelf) -> None:
    """It is an error, for it was asked for; what the index keeps is kept."""
    file = tmp_path / "folder" / "record.json"
    how = options(peer_to_peer=False, record=file)
    error = Pull(home, shelved.file, how, on_event=taken_away(file.parent)).error()
    assert str(file.parent) in str(error)
    assert on_record(home).outcome == "done"


def test_a_record_that_cannot_be_kept_does_not_hide_why_the_pull_failed(
    tmp_path: Path, home: Home, shelved: Shelf, served: Mirror
) -> None:
    served.status = 404
    file = tmp_path / "folder" / "record.json"
    how = options(peer_to_peer=False, give_up_after=1.0, record=file)
    pull = Pull(home, shelved.file, how, on_event=taken_away(file.parent))
    assert isinstance(pull.error(), NetworkError)
    assert any("record" in warned.message for warned in pull.of(Warned))
    assert on_record(home).outcome == "NetworkError"


def test_what_must_not_become_a_record_is_said_before_anything_is_fetched(
    tmp_path: Path, home: Home, shelved: Shelf, served: Mirror
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for odd in (tmp_path / "pipe", tmp_path / "link", tmp_path, Path()):
        error = Pull(home, shelved.file, options(peer_to_peer=False, record=odd)).error()
        assert isinstance(error, UsageError)
    assert (tmp_path / "pipe").is_fifo()
    assert served.requests == []
