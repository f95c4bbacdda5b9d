"""A BitTorrent tracker's swarms in memory (BEP 3, 7, 23, 48): pure of HTTP, fed by the service, bounded.

Start reading: swarms.py.
"""

from samara.registry.tracker.swarms import Tracker

__all__ = ["Tracker"]
