"""Which addresses a session listens on, and what is said of those it can't."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import cast

import pytest

from samara.registry.home import Home
from samara.registry.index import Index
from samara.schemas.endpoints import format_endpoint, parse_endpoint
from samara.schemas.errors import NetworkError, UsageError
from samara.schemas.events import Event, Listening, Warned
from samara.seeder.seed import _Seeder
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import ListenFailed, ListeningOn
from samara.seeder.swarm_listening import ListenOutcome
from samara.seeder.swarm_options import SwarmOptions


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def session(*listen: str) -> Swarm:
    return Swarm(SwarmOptions(listen=listen).without_discovery())


def test_every_chosen_address_is_waited_for() -> None:
    chosen = {f"127.0.0.1:{free_port()}", f"127.0.0.2:{free_port()}"}
    with session(*chosen) as swarm:
        assert set(swarm.wait_listening(30)) == chosen


def test_all_addresses_with_one_port() -> None:
    port = free_port()
    with session(f"0.0.0.0:{port}") as swarm:
        assert f"127.0.0.1:{port}" in swarm.wait_listening(30)


def heard(chosen: tuple[str, ...], *events: ListeningOn | ListenFailed) -> ListenOutcome:
    outcome = ListenOutcome(chosen)
    for happened in events:
        outcome.hear(happened)
    return outcome


def test_a_second_address_that_fails_later_is_an_error() -> None:
    one, two = ListeningOn(endpoint="127.0.0.1:1001"), ListenFailed(endpoint="127.0.0.2:1002", message="taken")
    chosen = ("127.0.0.1:1001", "127.0.0.2:1002")
    first = heard(chosen, one)
    first.require_no_failure()
    assert not first.is_settled
    no_ipv6 = ListenFailed(endpoint="[::]:0", message="no such family")
    for both in (heard(chosen, one, two), heard(chosen, two, one), heard(chosen, one, two, no_ipv6)):
        with pytest.raises(NetworkError, match=r"127\.0\.0\.2:1002"):
            both.require_no_failure()


def test_of_ports_that_the_system_chooses_one_is_enough() -> None:
    no_ipv6 = ListenFailed(endpoint="[::]:0", message="no such family")
    alone = heard((), no_ipv6)
    assert not alone.is_settled
    with pytest.raises(NetworkError, match=r"\[::\]:0"):
        alone.require_no_failure()
    both = heard((), no_ipv6, ListeningOn(endpoint="0.0.0.0:41001"))
    both.require_no_failure()
    assert both.is_settled
    assert both.endpoints() == ("0.0.0.0:41001",)


def test_an_address_nothing_is_heard_of_is_an_error() -> None:
    with session("127.0.0.1:0", "nosuchinterface:6901") as swarm, pytest.raises(NetworkError, match="nosuchinterface"):
        swarm.wait_listening(1)


def test_seeding_tells_of_addresses_that_come_and_fail_later(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    told: list[Event] = []
    with Index.open(home) as index:
        seeder = _Seeder(index, cast(Swarm, None), None, told.append)
        seeder._handle(ListeningOn(endpoint="192.0.2.1:6901"))
        seeder._handle(ListenFailed(endpoint="192.0.2.2:6901", message="gone"))
    assert told[0] == Listening(endpoint="192.0.2.1:6901")
    assert isinstance(told[1], Warned)
    assert "192.0.2.2:6901" in told[1].message


def test_a_peer_with_a_name_that_cannot_be_is_unreachable() -> None:
    with session("127.0.0.1:0") as swarm:
        lost = swarm.connect("none", [("a..b", 5), ("a\0b", 5)])
    assert set(lost) == {"a..b:5", "a\0b:5"}


@pytest.mark.parametrize("text", ["", "x", ":1", "h:", "h:65536", "h:²", "h:" + "1" * 5000])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(UsageError, match="not an endpoint"):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:6901", "host.example:65535"])
def test_endpoints_are_read_as_they_are_written(text: str) -> None:
    assert format_endpoint(parse_endpoint(text)) == text
