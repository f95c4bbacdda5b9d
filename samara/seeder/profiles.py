"""Measured libtorrent settings. Pure data; `bench/tuning.py` shows what each chosen setting is worth on this machine.

libtorrent's defaults move 9–29 MB/s where the same machine can move 400 (uTP in user space, small send buffers). FAST
is for desktops and servers, SMALL for a NAS or a board with little memory. Units are libtorrent's: bytes, milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

Settings = MappingProxyType[str, int | bool | str]

# Outgoing uTP stays off until TCP has found nobody: `Swarm.allow_utp` turns it on, for hole punching.
FAST: Settings = MappingProxyType(
    {
        "enable_outgoing_utp": False,
        "mixed_mode_algorithm": 0,
        "send_buffer_watermark": 1 << 20,
        "send_buffer_watermark_factor": 200,
        "send_buffer_low_watermark": 1 << 18,
        "max_allowed_in_request_queue": 500,
        "tick_interval": 100,
        "max_queued_disk_bytes": 8 << 20,
    }
)

SMALL: Settings = MappingProxyType(
    {
        "enable_outgoing_utp": False,
        "mixed_mode_algorithm": 0,
        "tick_interval": 200,
        "max_queued_disk_bytes": 4 << 20,
        "max_allowed_in_request_queue": 250,
        "max_out_request_queue": 250,
        "aio_threads": 1,
        "hashing_threads": 1,
        "connections_limit": 40,
        "alert_queue_size": 2000,
        "file_pool_size": 20,
        "send_buffer_watermark": 256 << 10,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Settings and the disk backend that goes with them."""

    settings: Settings
    posix_disk: bool


PROFILES = MappingProxyType(
    {"fast": Profile(settings=FAST, posix_disk=True), "small": Profile(settings=SMALL, posix_disk=True)}
)
