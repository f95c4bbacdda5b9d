"""docs/registry.md and docs/api.md hold to what the service does: every metric, every reason with its status."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from service_kit import registry

from samara.registry.last_audit import audit_of, write_last_audit
from samara.registry.publications.refusals import Reason
from samara.registry.service.api_publish import STATUSES
from samara.registry.service.operations import gauges
from samara.registry.service.ports import KeepStatus
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
        there = {gauge.name for gauge in gauges(replace(service, keeper=_Holding()))}
        for family in service.metrics.registry.collect():
            there.add(family.name + ("_total" if family.type == "counter" else ""))
    assert told == there


def test_every_reason_of_a_refusal_is_told_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9]{3}) \|", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    # what can't be read at all is refused before there is a reason
    assert {name: int(status) for name, status in rows} == {
        reason.value: status for reason, status in STATUSES.items() if reason is not Reason.MALFORMED
    }
