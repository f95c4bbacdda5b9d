"""libtorrent's alerts and peers → frozen values. Reads them, keeps nothing: they die when the session is asked again.

The alerts that every torrent has; those of small files and of the DHT are read by `swarm_small` and `swarm_dht`.
"""

from __future__ import annotations

from typing import Any

import libtorrent as lt

from samara.schemas.endpoints import format_endpoint
from samara.schemas.pull_record import Found
from samara.seeder import swarm_trackers
from samara.seeder.swarm_events import (
    BlockReceived,
    DiskFailed,
    Downloading,
    EventsLost,
    Finished,
    Flushed,
    ListenFailed,
    ListeningOn,
    PeerBanned,
    PeerLost,
    PeerMet,
    PieceFailed,
    PieceFinished,
    SourceBytes,
    SwarmEvent,
)

_FOUND: tuple[tuple[int, Found], ...] = (
    (lt.peer_info.tracker, "tracker"),
    (lt.peer_info.dht, "dht"),
    (lt.peer_info.pex, "exchange"),
    (lt.peer_info.lsd, "lan"),
)


def torrent_of(alert: Any) -> str:
    """The v2 infohash of the torrent an alert is about; empty if it is about none, or one that has none or is gone."""
    handle = getattr(alert, "handle", None)
    if handle is None:
        return ""
    try:
        hashes = handle.info_hashes()
        return str(hashes.v2) if hashes.has_v2() else ""
    except RuntimeError:  # the torrent was removed while its last alerts were on their way
        return ""


def translate(name: str, kind: str, alert: Any) -> SwarmEvent | None:
    """What an alert of a `kind` (libtorrent's name of it) about torrent `name` tells; None: nothing that is read."""
    match kind:
        case "piece_finished_alert":
            return PieceFinished(torrent=name, piece=int(alert.piece_index))
        case "cache_flushed_alert":
            return Flushed(torrent=name)
        case "state_changed_alert":
            return Downloading(torrent=name) if alert.state == lt.torrent_status.states.downloading else None
        case "torrent_finished_alert":
            return Finished(torrent=name)
        case "hash_failed_alert":
            return PieceFailed(torrent=name, piece=int(alert.piece_index))
        case "peer_ban_alert":
            return PeerBanned(torrent=name, endpoint=format_endpoint(alert.endpoint))
        case "peer_connect_alert":
            return PeerMet(torrent=name, endpoint=format_endpoint(alert.endpoint))
        case "block_finished_alert":
            if alert.endpoint[1] == 0:  # we added it ourselves
                return None
            return BlockReceived(torrent=name, endpoint=format_endpoint(alert.endpoint), piece=int(alert.piece_index))
        case "peer_disconnected_alert" | "peer_error_alert":
            reason = str(alert.error.message())
            return PeerLost(torrent=name, endpoint=format_endpoint(alert.endpoint), reason=reason)
        case "file_error_alert" | "torrent_error_alert":
            return DiskFailed(torrent=name, errno=_errno(alert.error), message=str(alert.error.message()))
        case "alerts_dropped_alert":
            return EventsLost()
        case "tracker_error_alert":
            return swarm_trackers.failed(name, alert)
        case "listen_succeeded_alert":
            return ListeningOn(endpoint=_listening(alert)) if "tcp" in str(alert.socket_type).lower() else None
        case "listen_failed_alert":
            return ListenFailed(endpoint=_listening(alert), message=str(alert.error.message()))
        case _:
            return None


def source_bytes(peer: Any) -> SourceBytes:
    """What a connection (`peer_info`) has given and taken so far."""
    return SourceBytes(
        source=format_endpoint(peer.ip),
        found=_found(peer),
        downloaded=peer.total_download,
        uploaded=peer.total_upload,
    )


def _listening(alert: Any) -> str:
    return format_endpoint((str(alert.address), int(alert.port)))


def _found(peer: Any) -> frozenset[Found]:
    if not peer.flags & lt.peer_info.local_connection:
        return frozenset({"incoming"})
    return frozenset(how for flag, how in _FOUND if peer.source & flag)


def _errno(error: Any) -> int:
    # other categories number their errors too, from 1 on
    return int(error.value()) if error.category().name() in {"system", "generic"} else 0
