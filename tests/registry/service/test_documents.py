"""docs/registry.md and docs/api.md hold to what the service does: every metric, every reason with its status."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import replace
from pathlib import Path

from service_kit import registry

from samara.registry.last_audit import audit_of, write_last_audit
from samara.registry.publications.follow_status import FollowStatus
from samara.registry.publications.refusals import Reason
from samara.registry.service.api_publish import STATUSES
from samara.registry.service.app import create_app
from samara.registry.service.operations import gauges
from samara.registry.service.ports import KeepStatus
from samara.registry.service.server import RunningServer
from samara.registry.tracker.published import Published
from samara.registry.tracker.values import Announce

DOCS = Path(__file__).parents[3] / "docs"


class _Holding:
    """A keeper that says how it stands."""

    def touch(self, b3: str) -> None:
        """Nothing to remember."""

    def status(self) -> KeepStatus:
        """Nothing kept yet."""
        return KeepStatus(mirroring=True, quota=None)


class _Following:
    """A follower whose registry went away."""

    def status(self) -> tuple[FollowStatus, ...]:
        """Of one registry."""
        told = "a trouble of the operator's own: /srv/secret"
        return (FollowStatus(origin="https://b.example", last_ok=5.0, failures=2, trouble=told, publishers=3),)


def test_a_followed_registry_stands_on_the_status_page_and_its_troubles_dont(tmp_path: Path) -> None:
    with registry(tmp_path) as service, RunningServer(create_app(replace(service, follower=_Following()))) as server:
        request = urllib.request.Request(f"{server.url}/status", headers={"Accept": "text/html"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = answer.read().decode()
    assert "b.<wbr>example" in page
    assert "failed 2 times in a row" in page
    assert "secret" not in page


def test_every_metric_is_told_and_no_other(tmp_path: Path) -> None:
    told = set(re.findall(r"\bsamara_[a-z_]+", (DOCS / "registry.md").read_text(encoding="utf-8")))
    with registry(tmp_path) as service:
        write_last_audit(service.home, audit_of([], at=5.0, outcome="ok", blocks_read=True))
        torrents = Published(service.listings).changed()
        assert torrents
        service.tracker.publish(torrents)
        torrent = next(iter(torrents))
        seen = Announce(infohash=torrent.v1, peer_id=bytes(20), port=6881, is_whole=True)
        assert service.tracker.announce(seen, bytes([203, 0, 113, 9]), 0.0) is not None
        there = {gauge.name for gauge in gauges(replace(service, keeper=_Holding(), follower=_Following()))}
        for family in service.metrics.registry.collect():
            there.add(family.name + ("_total" if family.type == "counter" else ""))
    assert told == there


def test_every_reason_of_a_refusal_is_told_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9]{3}) \|", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    # what can't be read at all is refused before there is a reason
    assert {name: int(status) for name, status in rows} == {
        reason.value: status for reason, status in STATUSES.items() if reason is not Reason.MALFORMED
    }
