"""What a libtorrent session, and each of its torrents, is told at its beginning.

Of what lies behind each figure: `profiles` has those that make it fast or small, `swarm_dht`, `swarm_trackers` and
`swarm_small` those of their parts. Not for use by itself: `samara.seeder.swarm.Swarm` is the session.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libtorrent as lt

from samara.seeder import swarm_small, swarm_trackers
from samara.seeder.swarm_dht import Endpoint, dht_settings
from samara.seeder.swarm_options import SwarmOptions
from samara.seeder.torrent import small_torrent_info, torrent_info

_USER_AGENT = "samara"
_ALERTS = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.storage
    | lt.alert_category.peer
    | lt.alert_category.connect
    | lt.alert_category.dht_operation
    | lt.alert_category.piece_progress
)


def alerts_of(options: SwarmOptions) -> int:
    """The mask of the alerts that are read, those of the DHT's items apart (`swarm_dht` asks for them at times)."""
    return _ALERTS | lt.alert_category.block_progress if options.count_blocks else _ALERTS


def session_parameters(options: SwarmOptions, *, listen: str, dht_nodes: Sequence[Endpoint]) -> Any:
    """What to make a session of. `listen`: libtorrent's notation of where; `dht_nodes`: `options`' nodes, resolved."""
    settings: Any = {
        "alert_queue_size": 20_000,
        **options.profile.settings,
        **swarm_small.SETTINGS,
        **swarm_trackers.SETTINGS,
        **dht_settings(dht_nodes, enabled=options.dht),
        "dht_read_only": options.dht_read_only,
        "alert_mask": alerts_of(options),
        "allow_multiple_connections_per_ip": True,  # a whole lab may sit behind one address
        "close_redundant_connections": False,
        "connection_speed": 100,
        "download_rate_limit": options.download_limit,
        "enable_lsd": options.lan,
        "enable_natpmp": options.port_mapping,
        "enable_upnp": options.port_mapping,
        "handshake_timeout": 10,
        "listen_interfaces": listen,
        "listen_system_port_fallback": False,  # a taken port is an error, not a reason to take another
        "max_retry_port_bind": 0,
        "min_reconnect_time": 2,
        "peer_connect_timeout": 7,
        "unchoke_slots_limit": -1,
        "upload_rate_limit": options.upload_limit,
        "user_agent": _USER_AGENT,
    }
    parameters = lt.session_params()
    parameters.settings = settings
    if options.profile.posix_disk:
        parameters.disk_io_constructor = "posix_disk_io_constructor"
    return parameters


def blob_parameters(torrent: bytes, path: Path) -> Any:
    """What to add a blob's torrent with, whose file is at `path`. Raises MalformedError."""
    return _parameters_of(torrent_info(torrent), path)


def small_parameters(torrent: bytes, path: Path) -> Any:
    """The same for a small file's torrent. Of a foreign .torrent nothing but the info dict is used."""
    return _parameters_of(small_torrent_info(torrent), path)


def _parameters_of(info: lt.torrent_info, path: Path) -> Any:
    parameters = lt.add_torrent_params()
    parameters.ti = info
    parameters.save_path = os.fspath(path.parent)
    parameters.renamed_files = {0: path.name}
    parameters.storage_mode = lt.storage_mode_t.storage_mode_sparse
    # auto-managed torrents are queued and paused by libtorrent's own policy; ours run when we say so
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    parameters.flags |= lt.torrent_flags.override_trackers | lt.torrent_flags.override_web_seeds
    return parameters
