"""Who publishes and seeds at once is in the swarm at once; who asks too early comes back soon."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import libtorrent as lt
from service_kit import ORIGIN, author
from support.world import random_file
from tracker_kit import peer_id

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.takedowns import Takedowns, parse_target
from samara.registry.tracker import Tracker, Upkeep
from samara.schemas.bittorrent import bdecode
from samara.schemas.publication import MEDIA_TYPE, pack_publication
from samara.schemas.release_file import ReleaseBundle

NEVER = 3600.0  # seconds between looks: whatever is known, is known by the publication itself


def announce(address: tuple[str, int], v2: str) -> Mapping[bytes, object]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    infohash = quote(bytes.fromhex(v2)[:20])
    connection.request("GET", f"/announce?info_hash={infohash}&peer_id={quote(peer_id(1))}&port=6881&left=0")
    found = bdecode(connection.getresponse().read())
    connection.close()
    assert isinstance(found, dict)
    return found


def test_a_publication_is_announced_to_before_its_answer_and_by_other_instances_at_their_next_look(
    tmp_path: Path,
) -> None:
    acme = author(tmp_path / "acme", "acme")
    release = acme.publish("m:v1", [random_file(tmp_path / "m.bin", 300_000, seed=5)])
    torrent = release.files[0].torrent
    assert torrent is not None
    home = Home(tmp_path / "registry")
    with Index.open(home) as index:
        tracker, other = Tracker(), Tracker()
        elsewhere = Upkeep(other, index.listings, look_every=NEVER)
        with Upkeep(tracker, index.listings, look_every=NEVER) as upkeep, elsewhere:
            service = Service(
                home=home, index=index, settings=Settings(origin=ORIGIN), tracker=tracker, published=upkeep.published
            )  # fmt: skip
            with RunningServer(create_app(service)) as server:
                assert b"failure reason" in announce(server.address, torrent.v2)
                connection = http.client.HTTPConnection(*server.address, timeout=60)
                body = pack_publication(acme.publication())
                connection.request("POST", "/v1/publish", body, {"Content-Type": MEDIA_TYPE})
                assert connection.getresponse().status == 201
                connection.close()
                assert announce(server.address, torrent.v2)[b"complete"] == 1
                assert other.totals().published == 0
                elsewhere.look()
                assert other.totals().published == 1
                upkeep.look()
                assert announce(server.address, torrent.v2)[b"complete"] == 1, "the next look keeps the swarm"
                # a look that is over when what it read is old news doesn't bring back what was taken down
                Takedowns(index.database).remove(parse_target(acme.identity), now=1.0)
                upkeep.published(acme.identity, 0.0)
                upkeep.look()
                assert b"failure reason" in announce(server.address, torrent.v2)


def test_libtorrent_comes_back_soon_to_a_tracker_that_doesnt_know_the_torrent_yet(tmp_path: Path) -> None:
    acme = author(tmp_path / "acme", "acme")
    acme.publish("m:v1", [random_file(tmp_path / "m.bin", 300_000, seed=5)])
    (bundle,) = acme.publication().releases
    assert isinstance(bundle, ReleaseBundle)
    home = Home(tmp_path / "registry")
    with Index.open(home) as index:
        service = Service(home=home, index=index, settings=Settings(origin=ORIGIN))
        with RunningServer(create_app(service)) as server:
            session = lt.session(
                {
                    "listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
                    "enable_natpmp": False, "alert_mask": lt.alert.category_t.tracker_notification,
                }
            )  # fmt: skip
            params = lt.add_torrent_params()
            params.ti = lt.torrent_info(bundle.torrents[0])
            params.save_path = str(tmp_path / "lt")
            params.trackers = [f"{server.url}/announce"]
            params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
            handle = session.add_torrent(params)
            deadline = time.monotonic() + 30
            waits: list[float] = []
            while not waits:
                assert time.monotonic() < deadline
                session.wait_for_alert(500)
                session.pop_alerts()
                trackers: Any = handle.trackers()  # times as numbers, whatever the stubs say
                waits = [
                    one["next_announce"] - time.time()
                    for tracker in trackers
                    for endpoint in tracker["endpoints"]
                    for one in endpoint["info_hashes"]
                    if one["fails"]
                ]
            assert max(waits) <= 5 * 60 + 5, "its own least interval, not its half hour"
