"""A registry that follows another one gets bytes from it, where there is no DHT: over HTTP alone, by its tracker alone,
through a chain; and registries that follow each other in a circle don't wait for each other.
"""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from support.followers import Node, free_ports, node
from support.registries import asking, mirroring, pulling_through
from support.swarms import loopback, seeding
from support.world import MIB, one_blob

from samara.schemas.hops import MOST_HOPS, Hops, parse_hops

SIZE = 3 * MIB


def get(url: str, path: str) -> tuple[int, bytes]:
    """One GET, whatever is answered."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_publisher_is_gone_and_a_follower_gets_the_bytes_over_http_alone(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    here, there = free_ports(2)
    with ExitStack() as stack:
        first = stack.enter_context(node(tmp_path / "a", here, pulling_through(asking(peer_to_peer=False)), published))
        only_http = asking(registries=(first.url,), peer_to_peer=False, private_mirrors=False)
        second = stack.enter_context(node(tmp_path / "b", there, mirroring(only_http), published))
        second.fetching.until(lambda status: bool(status.failed))  # neither has it
        assert first.fetching.status().failures == 0, "mirroring had another registry fetch"
        bring(first, published.source, published.only.b3_hex)
        first.fetching.until(lambda status: status.here == 1)
        status = second.fetching.until(lambda status: status.here == 1 and not status.coming)
        assert (status.from_peers, status.from_mirrors >= SIZE) == (0, True)
    assert second.home.blob(published.only.b3_hex).read_bytes() == published.source.read_bytes()


def test_the_tracker_of_a_followed_registry_alone_names_who_has_it(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    here, there = free_ports(2)
    with ExitStack() as stack:
        peers: list[tuple[str, int]] = []
        pull = asking(swarm=replace(loopback(), trackers=(f"http://127.0.0.1:{here}/announce",)), mirrors=False)
        with seeding(published) as seeder:
            peers.append(seeder.endpoint)
            first = stack.enter_context(
                node(tmp_path / "a", here, mirroring(replace(pull, peers=tuple(peers))), published)
            )
            first.fetching.until(lambda status: status.seeding == 1)
        tell = asking(registries=(first.url,), mirrors=False)
        second = stack.enter_context(node(tmp_path / "b", there, mirroring(tell), published))
        status = second.fetching.until(lambda status: status.here == 1 and not status.coming)
        assert (status.from_mirrors, status.from_peers >= SIZE) == (0, True)
        assert first.requests(200) + first.requests(206) == 0


def test_a_chain_of_registries_pulls_through_to_who_has_it(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    ports = free_ports(3)
    with ExitStack() as stack:
        last = stack.enter_context(
            node(tmp_path / "0", ports[0], pulling_through(asking(peer_to_peer=False)), published)
        )
        bring(last, published.source, published.only.b3_hex)
        chain = [last]
        for number in (1, 2):
            pull = asking(registries=(chain[-1].url,), peer_to_peer=False, private_mirrors=False)
            chain.append(
                stack.enter_context(node(tmp_path / str(number), ports[number], pulling_through(pull), published))
            )
        status, data = get(chain[-1].url, f"/v1/blobs/{published.only.b3_hex}")
        assert (status, data == published.source.read_bytes()) == (200, True)
        for one in chain[1:]:
            assert one.fetching.until(lambda status: not status.coming).brought == 1


def test_registries_in_a_circle_that_all_lack_it_say_so_and_rest(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    ports = free_ports(3)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    circle: list[Node] = []
    with ExitStack() as stack:
        for number in range(3):
            # each asks the next one, and itself by a name that it doesn't know
            registries = (urls[(number + 1) % 3], urls[number])
            pull = asking(registries=registries, peer_to_peer=False, give_up_after=25.0, private_mirrors=False)
            circle.append(
                stack.enter_context(node(tmp_path / str(number), ports[number], pulling_through(pull), published))
            )
        began = time.monotonic()
        status, _ = get(urls[0], f"/v1/blobs/{published.only.b3_hex}")
        assert status == 502
        assert time.monotonic() - began < 20.0, "they waited for each other"
        for one in circle:
            one.fetching.until(lambda status: not status.coming)
        asked = [one.fetching.status().failures for one in circle]
        threading.Event().wait(0.5)  # longer than any of them rests
        assert [one.fetching.status().failures for one in circle] == asked == [1, 1, 1]


def test_what_an_address_says_of_its_way_is_bounded() -> None:
    mine, other = "0123456789abcdef", "fedcba9876543210"
    assert parse_hops(None, None).may_begin(mine)
    assert parse_hops(other, None) == Hops(via=(other,))
    assert not parse_hops(f"{other},{mine}", None).may_begin(mine)
    assert not parse_hops(other, "1").may_begin(mine)
    many = ",".join(f"{number:016x}" for number in range(MOST_HOPS))
    assert not parse_hops(many, None).may_begin(mine)
    for absurd in (many + f",{other}", "x", "a,b", "," * 1_000_000, other.upper()):
        assert not parse_hops(absurd, None).may_begin(mine), absurd[:40]
    blob = f"http://a.example/v1/blobs/{'0' * 64}"
    assert Hops(via=(other, mine)).address(blob) == f"{blob}?via={other},{mine}"
    assert Hops(held=True).address(f"{blob}/m.gguf") == f"{blob}/m.gguf?held=1"
    for elsewhere in ("http://a.example/m.gguf", f"{blob}?sig=1", "http://a.example/v1/blobs/x"):
        assert Hops(held=True).address(elsewhere) == elsewhere


def bring(registry: Node, source: Path, b3_hex: str) -> None:
    """Its bytes come to a registry by another way, as `samara pull` would bring them."""
    from samara.registry.store import stamp_at

    path = registry.home.blob(b3_hex)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())
    path.chmod(0o444)
    stamp = stamp_at(path)
    assert stamp is not None
    registry.index.set_location(f"b3:{b3_hex}", path, stamp, in_store=True, verified_at=1.0)
