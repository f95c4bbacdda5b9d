"""Our own sessions and a registry's tracker: they find each other by it alone, and keep to what people allowed."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from support.processes import seed_process, started
from support.swarms import LISTEN_WITHIN, loopback
from support.waiting import eventually
from support.world import Shelf, assert_pulled, one_blob, trusting_home
from tracker_kit import announced, torrent_of, tracking

from samara.registry.tracker.values import Counts, Torrent
from samara.schemas.errors import UsageError
from samara.seeder.swarm import Swarm
from samara.seeder.swarm_events import Downloading, Finished, SwarmEvent, TrackerFailed
from samara.seeder.swarm_options import SwarmOptions

WITHIN = 60.0  # seconds


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return one_blob(tmp_path_factory.mktemp("published"), 3_000_000)


def named(shelf: Shelf) -> Torrent:
    return torrent_of(shelf.torrent, shelf.only.b3)


def asking(*trackers: str) -> SwarmOptions:
    return replace(loopback(), trackers=trackers)


def until(swarm: Swarm, enough: Callable[[SwarmEvent], bool]) -> SwarmEvent:
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        for happened in swarm.poll(0.2):
            if enough(happened):
                return happened
    raise AssertionError("it didn't happen")


def test_two_sessions_find_each_other_by_the_tracker_alone(published: Shelf, tmp_path: Path) -> None:
    """A download that was completed is counted, once for both infohashes."""
    with tracking(tmp_path / "registry", named(published)) as (service, url):
        tracker = service.tracker
        with Swarm(asking(url)) as seeder, Swarm(asking(url)) as leecher:
            for swarm in (seeder, leecher):
                swarm.wait_listening(LISTEN_WITHIN)
            seeder.add_seed(published.torrent, published.source, check_first=False)
            eventually(lambda: tracker.counts(published.only.b3).seeders == 1)
            target = tmp_path / "got.bin"
            name = leecher.add_fetch(published.torrent, target, [False] * published.only.piece_count)
            until(leecher, lambda happened: isinstance(happened, Downloading))
            leecher.begin(name, ())
            until(leecher, lambda happened: isinstance(happened, Finished))
            eventually(lambda: announced(service) == 6)  # two started, one completed; each by two infohashes
            assert tracker.counts(published.only.b3) == Counts(seeders=2, leechers=0, completed=1)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(published.source.read_bytes()).digest()


def test_samara_seed_and_samara_pull_meet_at_a_tracker(published: Shelf, tmp_path: Path) -> None:
    home = trusting_home(tmp_path / "home", published)
    with (
        tracking(tmp_path / "registry", named(published)) as (service, url),
        seed_process(published.home, "--tracker", url) as seeder,
    ):
        counts = partial(service.tracker.counts, published.only.b3)
        eventually(lambda: announced(service) == 2)
        assert counts() == Counts(seeders=1, leechers=0, completed=0)
        pull = ("pull", published.file, "--listen", "127.0.0.1:0", "--no-discovery", "--tracker", url, "--json")
        with started(home, *pull, "--give-up-after", "30") as process:
            outcome = process.end()
        assert seeder.stop().status == 0
        eventually(lambda: counts() == Counts(seeders=0, leechers=0, completed=1))  # who ends says so
    assert outcome.status == 0, outcome.stderr
    assert outcome.result["bytes_from_peers"] == published.size
    assert_pulled(home, published)


def test_a_tracker_that_refuses_is_named_once_by_who_seeds(published: Shelf, tmp_path: Path) -> None:
    with (
        tracking(tmp_path / "registry") as (_, url),
        seed_process(published.home, "--tracker", url) as seeder,
    ):
        warned = seeder.process.expect("warned", lambda line: url in line["message"])
        assert "not published here" in warned["message"]
        outcome = seeder.stop()
    assert len([line for line in outcome.named("warned") if url in line["message"]]) == 1


def test_who_pulls_in_vain_learns_what_the_tracker_said(published: Shelf, tmp_path: Path) -> None:
    home = trusting_home(tmp_path / "home", published)
    with tracking(tmp_path / "registry") as (_, url):
        pull = ("pull", published.file, "--listen", "127.0.0.1:0", "--no-discovery", "--tracker", url, "--json")
        with started(home, *pull, "--give-up-after", "3") as process:
            outcome = process.end()
    assert outcome.status != 0
    assert f"{url}: not published here" in outcome.message


@pytest.mark.parametrize(
    "bad",
    [
        "udp://127.0.0.1:6969/announce",
        "127.0.0.1:6969",
        "http://",
        "http://:80/announce",
        "http://127.0.0.1:0/announce",
        "http://127.0.0.1:99999/announce",
        "http://[::1/announce",
        "http://user@127.0.0.1/announce",
        "http://127.0.0.1/ann ounce",
        "http://127.0.0.1/announce\r\nX: y",
        "http://127.0.0.1/announce#part",
        "file:///etc/passwd",
        "http://127.0.0.1/" + "x" * 1100,
    ],
)
def test_what_is_no_tracker_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="not the address of a tracker"):
        SwarmOptions(trackers=(bad,))


def test_trackers_stay_without_discovery_and_go_without_peers() -> None:
    options = SwarmOptions(trackers=("http://127.0.0.1/announce", "https://[::1]:8642/x/announce?key=1"))
    assert options.without_discovery().trackers == options.trackers
    assert options.within((ip_network("10.0.0.0/8"),)).trackers == options.trackers
    assert options.mirrors_only().trackers == ()
    with pytest.raises(UsageError, match="too many trackers"):
        SwarmOptions(trackers=tuple(f"http://127.0.0.1:{port}/announce" for port in range(7000, 7065)))


# -- who must not be contacted -----------------------------------------------------------------------------------------


@dataclass
class Door:
    """A web server that notes who knocks and sends everybody elsewhere, or answers 404."""

    url: str
    leads_to: str | None
    paths: list[str] = field(default_factory=list)


@contextmanager
def door(host: str, *, leads_to: str | None = None) -> Iterator[Door]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.paths.append(self.path.partition("?")[0])
            self.send_response(404 if here.leads_to is None else 302)
            if here.leads_to is not None:
                self.send_header("Location", here.leads_to)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    here = Door(url=f"http://{host}:{server.server_address[1]}", leads_to=leads_to)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failure_of(shelf: Shelf, options: SwarmOptions) -> TrackerFailed:
    with Swarm(options) as swarm:
        swarm.wait_listening(LISTEN_WITHIN)
        swarm.add_seed(shelf.torrent, shelf.source, check_first=False)
        failed = until(swarm, lambda happened: isinstance(happened, TrackerFailed))
    assert isinstance(failed, TrackerFailed)
    return failed


def test_a_tracker_that_is_there_is_asked(published: Shelf) -> None:
    """So that the tests below mean something."""
    with door("127.0.0.1") as here:
        failed = failure_of(published, asking(f"{here.url}/announce"))
    assert "404" in failed.reason or "Not Found" in failed.reason, failed
    assert "/announce" in here.paths


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_tracker_outside_the_networks_is_asked(published: Shelf, name: str) -> None:
    """--only-networks holds whether the tracker is given by address or by name."""
    with door("127.0.0.1") as outside:
        url = outside.url.replace("127.0.0.1", name) + "/announce"
        options = replace(loopback("127.0.0.2"), trackers=(url,)).within((ip_network("127.0.0.2/32"),))
        failed = failure_of(published, options)
    assert outside.paths == []
    assert "banned" in failed.reason, failed


def test_no_tracker_leads_outside_the_networks(published: Shelf) -> None:
    with door("127.0.0.1") as outside, door("127.0.0.2", leads_to=f"{outside.url}/announce") as inside:
        options = replace(loopback("127.0.0.2"), trackers=(f"{inside.url}/announce",))
        failed = failure_of(published, options.within((ip_network("127.0.0.2/32"),)))
        assert "/announce" in inside.paths
    assert outside.paths == []
    assert "banned" in failed.reason, failed


def test_no_tracker_leads_to_other_doors_of_this_machine(published: Shelf) -> None:
    """A registry is trusted with nothing: not with making us ask our own router or database either."""
    with door("127.0.0.1") as own, door("127.0.0.1", leads_to=f"{own.url}/admin/shutdown") as tracker:
        failure_of(published, asking(f"{tracker.url}/announce"))
        assert "/announce" in tracker.paths
    assert own.paths == []
