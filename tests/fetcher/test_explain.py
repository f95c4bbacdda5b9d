"""`--explain` says whom a pull would contact, and contacts nobody; `--only-networks` holds at the socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from support.mirrors import Mirror
from support.processes import pulling, samara
from support.swarms import seeding
from support.world import MIB, Shelf, assert_pulled, one_blob, trusting_home

from samara.fetcher.explain import WouldContact, explain
from samara.fetcher.options import PullOptions
from samara.registry.trust.pins import TrustFolder
from samara.schemas.networks import parse_networks
from samara.seeder.swarm_options import PUBLIC_DHT, SwarmOptions


@pytest.fixture
def shelved(tmp_path: Path, served: Mirror) -> Shelf:
    return one_blob(tmp_path / "shelf", MIB, mirrors=(served.of("blob.bin"), "https://models.example/blob.bin"))


def told_without_sockets(*arguments: Any) -> tuple[WouldContact, ...]:
    """`explain`, which must open no socket and look up no name."""

    def refuse(*_arguments: object, **_named: object) -> None:
        raise AssertionError("somebody opened a socket or looked up a name")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return explain(*arguments)


def test_everybody_by_default(tmp_path: Path, shelved: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    home = trusting_home(tmp_path / "home", shelved)
    pin = TrustFolder(home.trust).resolve("acme")
    TrustFolder(home.trust).set_sources(pin.identity, ["https://acme.example/catalog/"])
    options = PullOptions(peers=(("192.0.2.7", 6901),))
    named = {(one.kind, one.who): one for one in told_without_sockets(home, [str(shelved.file)], options)}
    mirrors = [one for (kind, _who), one in named.items() if kind == "mirror"]
    assert [one.refused is None for one in mirrors] == [False, True]  # that on loopback, and the public one
    assert ("proxy", "proxy.example:3128") in named
    assert ("peer", "192.0.2.7:6901") in named
    assert ("dht", PUBLIC_DHT[0]) in named
    assert any(kind == "lan" for kind, _who in named)
    assert any(kind == "router" for kind, _who in named)
    by_name = {one.kind: one for one in told_without_sockets(home, ["acme/blob:v1"], options)}
    assert by_name["catalog"].who == "https://acme.example/catalog/"
    assert "not known yet" in by_name["mirror"].who


def test_within_networks(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    options = PullOptions(
        peers=(("10.0.0.7", 6901), ("192.0.2.7", 6901)), networks=parse_networks("10.0.0.0/8"), swarm=SwarmOptions()
    )
    told = told_without_sockets(home, [str(shelved.file)], options)
    assert {one.who: one.refused is None for one in told if one.kind == "peer"} == {
        "10.0.0.7:6901": True,
        "192.0.2.7:6901": False,
    }
    assert all(one.refused for one in told if one.kind in {"dht", "lan", "router"})


def test_mirrors_alone(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    told = told_without_sockets(home, [str(shelved.file)], PullOptions(peer_to_peer=False, private_mirrors=True))
    assert {one.kind for one in told} == {"mirror"}
    assert all(one.refused is None for one in told)


def test_the_command_fetches_nothing(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    ended = samara(home, "pull", shelved.file, "--explain", "--no-discovery", "--json")
    assert ended.status == 0
    assert [one["kind"] for one in ended.result["contacts"]] == ["mirror", "mirror"]
    assert served.requests == []
    assert not home.partials.exists()


def test_nobody_outside_the_networks_is_contacted(tmp_path: Path, shelved: Shelf, served: Mirror) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    record = tmp_path / "record.json"
    how = ("--only-networks", "10.0.0.0/8,fd00::/8", "--record", record, "--give-up-after", "2")
    with seeding(shelved) as peer:
        with pulling(home, shelved.file, "--peer", peer.text, *how) as pull:
            ended = pull.end()
        assert peer.uploaded == 0
    assert ended.status == 4
    assert "outside the networks" in ended.message
    assert served.requests == []
    written = json.loads(record.read_text())
    assert written["networks"] == ["10.0.0.0/8", "fd00::/8"]
    assert written["outcome"] == "NetworkError"
    assert all(one["refused"] for one in written["endpoints"])
    assert {one["kind"] for one in written["endpoints"]} == {"mirror", "peer"}


def test_who_calls_from_outside_the_networks_is_not_let_in(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    listen = ("--listen", "127.0.0.3:0", "--p2p-only", "--only-networks", "127.0.0.2/32", "--give-up-after", "2")
    with seeding(shelved) as peer, pulling(home, shelved.file, "--peer", peer.text, *listen) as pull:
        assert pull.end().status == 4
        assert peer.uploaded == 0


def test_inside_the_networks_all_is_as_ever(tmp_path: Path, shelved: Shelf) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        how = ("--only-networks", "127.0.0.0/8", "--p2p-only")
        with pulling(home, shelved.file, "--peer", peer.text, *how) as pull:
            assert pull.end().status == 0
    assert_pulled(home, shelved)


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "10.0.0.1/8", "lan", "10.0.0.0/8;fd00::/8"])
def test_networks_that_are_none(tmp_path: Path, shelved: Shelf, wrong: str) -> None:
    home = trusting_home(tmp_path / "home", shelved)
    ended = samara(home, "pull", shelved.file, "--only-networks", wrong)
    assert ended.status == 2
    assert "10.0.0.0/8,fd00::/8" in ended.message
