"""`samara records`: what the index kept of pulls, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cli_kit import Samara, make_samara
from support.swarms import seeding
from support.world import MIB, NOW, one_blob

from samara.registry.index import Index
from samara.registry.trust.pins import TrustFolder
from samara.schemas.errors import ExitCode
from samara.schemas.pull_record import EndpointRecord, Evidence, PullRecord, tidy

LIE = Evidence(file="model.gguf", block=17, expected="b3:" + "ab" * 32, actual="b3:" + "cd" * 32)
RECORD = PullRecord(
    started="2026-01-02T03:04:05Z",
    ended="2026-01-02T03:05:00Z",
    references=("acme/tiny:q8_0",),
    outcome="done",
    networks=("10.0.0.0/8",),
    endpoints=(
        EndpointRecord(
            endpoint="10.0.0.7:6901", kind="peer", found=("told", "lan"), bytes_in=5_000_000, bytes_out=70_000,
            blocks_verified=3, blocks_rejected=1, evidence=(LIE,),
        ),
        EndpointRecord(endpoint="10.0.0.8:443", kind="mirror", name="https://u:p@nas/a?k=1", found=("manifest",)),
        EndpointRecord(endpoint="192.0.2.9:80", kind="catalog", found=("configured",), refused="not allowed"),
    ),
)  # fmt: skip


@pytest.fixture
def samara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Samara]:
    yield from make_samara(tmp_path, monkeypatch, capsys)


def keep(samara: Samara, *records: PullRecord) -> None:
    with Index.open(samara.home) as index:
        for record in records:
            index.add_pull_record(record)


def test_people_see_each_endpoint_in_a_table(samara: Samara) -> None:
    keep(samara, RECORD)
    shown = samara("records").out
    assert shown.splitlines() == [
        "2026-01-02T03:04:05Z – 2026-01-02T03:05:00Z  done",
        "  acme/tiny:q8_0",
        "  5.0 MB in · 70.0 kB out · 3 endpoints",
        "  only networks 10.0.0.0/8",
        "    endpoint       kind     found by        in      out  verified  rejected",
        "    192.0.2.9:80   catalog  configured     0 B      0 B         0         0",
        "      not contacted: not allowed",
        "    10.0.0.8:443   mirror   manifest       0 B      0 B         0         0",
        "      https://nas/a",
        "    10.0.0.7:6901  peer     lan, told   5.0 MB  70.0 kB         3         1",
        f"      wrong: block 17 of model.gguf: expected {LIE.expected}, got {LIE.actual}",
    ]


def test_programs_get_the_records_as_they_are_kept(samara: Samara) -> None:
    keep(samara, RECORD, replace(RECORD, outcome="NetworkError"))
    records = samara.json("records")["records"]
    assert [one["outcome"] for one in records] == ["NetworkError", "done"]
    assert PullRecord.from_json(json.dumps(records[1]).encode()) == tidy(RECORD)


def test_the_newest_or_those_of_one_reference(samara: Samara) -> None:
    keep(samara, *(replace(RECORD, outcome=f"Error{n}", references=(f"acme/tiny:{n % 2}",)) for n in range(14)))
    assert [one["outcome"] for one in samara.json("records", "--last", "2")["records"]] == ["Error13", "Error12"]
    assert len(samara.json("records")["records"]) == 10
    assert len(samara.json("records", "acme/tiny:1", "--last", "1000")["records"]) == 7


def test_a_pull_that_met_nobody_has_no_table(samara: Samara) -> None:
    keep(samara, replace(RECORD, endpoints=(), networks=()))
    assert samara("records").out.splitlines()[1:] == ["  acme/tiny:q8_0", "  0 B in · 0 B out · 0 endpoints"]


def test_what_there_was_no_room_for_is_counted(samara: Samara) -> None:
    keep(samara, replace(RECORD, endpoints_left_out=3000, evidence_left_out=1))
    shown = samara("records").out
    assert "and 3,000 endpoints for which there was no room" in shown
    assert "and 1 wrong block for which there was no room" in shown


def test_much_evidence_is_cut_for_people_only(samara: Samara) -> None:
    lies = tuple(replace(LIE, block=number) for number in range(12))
    keep(samara, replace(RECORD, endpoints=(replace(RECORD.endpoints[0], evidence=lies),)))
    assert "… and 2 more (--json has all)" in samara("records").out
    assert len(samara.json("records")["records"][0]["endpoints"][0]["evidence"]) == 12


def test_a_machine_without_records_says_so(samara: Samara) -> None:
    done = samara("records")
    assert done.out == ""
    assert "no pull is on record here" in done.err
    assert not samara.home.root.exists(), "asking makes nothing"
    assert samara.json("records") == {"records": []}


def test_a_reference_without_records_is_not_found(samara: Samara) -> None:
    keep(samara, RECORD)
    assert "no pull of acme/other:1" in samara("records", "acme/other:1", code=ExitCode.NOT_FOUND).err


@pytest.mark.parametrize("count", ["0", "1001", "many"])
def test_a_number_that_makes_no_sense_is_a_usage_error(samara: Samara, count: str) -> None:
    samara("records", "--last", count, code=ExitCode.USAGE)


def test_a_real_pull_is_on_record_with_whom_it_talked_to(samara: Samara) -> None:
    published = one_blob(samara.folder / "shelf", MIB)
    TrustFolder(samara.home.trust).add("acme", published.publisher.identity, now=NOW)
    with seeding(published) as peer:
        samara("pull", str(published.file), "--peer", peer.text, "--no-discovery", "--listen", "127.0.0.1:0")
    (record,) = samara.json("records", published.reference)["records"]
    (endpoint,) = record["endpoints"]
    assert (record["outcome"], record["references"]) == ("done", [published.reference])
    assert (endpoint["endpoint"], endpoint["kind"], endpoint["found"]) == (peer.text, "peer", ["told"])
    assert peer.text in samara("records").out
