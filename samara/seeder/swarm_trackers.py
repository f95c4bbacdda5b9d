"""A session's trackers (BEP 3): who else has a blob, asked over HTTP(S). Knows libtorrent; decides nothing.

Not for use by itself: `samara.seeder.swarm.Swarm` has the session. libtorrent asks every tracker for every blob, in
turns for each of its infohashes and addresses, and obeys what protects others:
- its address filter holds for trackers too, after each look-up and redirect: `--only-networks` does;
- whoever leads to this machine's loopback must lead to /announce (`ssrf_mitigation`): no other door is knocked at.
Small files (catalogs, manifests) aren't announced: registries' trackers list blobs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from samara.seeder.swarm_events import TrackerFailed

SETTINGS = MappingProxyType(
    {
        "announce_to_all_tiers": True,
        "announce_to_all_trackers": True,
        "apply_ip_filter_to_trackers": True,
        "ssrf_mitigation": True,
        "stop_tracker_timeout": 1,
        "validate_https_trackers": True,
    }
)
_MAX_REASON = 200  # characters of what a tracker says


def with_trackers(parameters: Any, trackers: Sequence[str]) -> Any:
    """A torrent's parameters with these trackers, one tier each, and none of its own."""
    parameters.trackers = list(trackers)
    parameters.tracker_tiers = list(range(len(trackers)))
    return parameters


def failed(name: str, alert: Any) -> TrackerFailed:
    """What a `tracker_error_alert` about torrent `name` tells."""
    said = alert.failure_reason() or alert.error.message()
    reason = "".join(char if char.isprintable() else " " for char in str(said)[:_MAX_REASON])
    return TrackerFailed(torrent=name, url=str(alert.tracker_url()), reason=reason)
