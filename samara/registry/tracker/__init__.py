"""A BitTorrent tracker's swarms in memory (BEP 3, 7, 23, 31, 48): fed by the service, bounded, gone when it stops.

    values     what is announced and answered, and the rules, as frozen values
    queries    a query string → what is announced. Pure
    answers    what is answered → bencoding. Pure
    pools      endpoints to draw from at random
    swarms     one swarm: who is in it, and who has to go
    tracker    all swarms of what is published, under one lock
    published  which infohashes are published, read out of the index
    health     how swarms were, recorded into the index
    upkeep     the thread that does what isn't done by an announce

Speaks no HTTP: `samara.registry.service.tracker` does. Start reading: tracker.py, then swarms.py.
"""

from samara.registry.tracker.tracker import Tracker
from samara.registry.tracker.upkeep import Upkeep
from samara.registry.tracker.values import Counts, Rules, Totals

__all__ = ["Counts", "Rules", "Totals", "Tracker", "Upkeep"]
