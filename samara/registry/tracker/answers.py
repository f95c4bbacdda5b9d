"""A tracker's answers as bencoding (BEP 3, 7, 23, 24, 31, 48). Pure.

Peers are always given in the compact form: every client understands it, and BEP 23 leaves that to the tracker.
"""

from __future__ import annotations

from collections.abc import Mapping

from samara.registry.tracker.values import Answer, Counts, Rules
from samara.schemas.bittorrent import Bencodable, bencode


def announce_answer(answer: Answer, rules: Rules, *, address: bytes) -> bytes:
    """The peers of a swarm, for who announced from `address` (4 or 16 bytes)."""
    counts, peers, peers6 = answer.counts, answer.peers, answer.peers6
    # written out, keys in their order: of all that is bencoded here this is what has to be fast
    return b"".join(
        (
            b"d8:completei%de10:downloadedi%de" % (counts.seeders, counts.completed),
            b"11:external ip%d:%s10:incompletei%de" % (len(address), address, counts.leechers),
            b"8:intervali%de12:min intervali%de" % (rules.interval, rules.min_interval),
            b"5:peers%d:%s" % (len(peers), peers),
            b"6:peers6%d:%se" % (len(peers6), peers6) if peers6 else b"e",
        )
    )


def scrape_answer(found: Mapping[bytes, Counts], rules: Rules) -> bytes:
    """How swarms are, by infohash (20 bytes)."""
    files: dict[bytes, Bencodable] = {
        infohash: {"complete": counts.seeders, "downloaded": counts.completed, "incomplete": counts.leechers}
        for infohash, counts in found.items()
    }
    return bencode({"files": files, "flags": {"min_request_interval": rules.min_interval}})


def failure(reason: str, *, retry_in: int | None = None) -> bytes:
    """Why there is no answer. `retry_in`: minutes (BEP 31).

    libtorrent knows nothing of `retry in`, and without `interval` rests for half an hour: it is told the same by that
    (and rests for five minutes at least).
    """
    told: dict[str, Bencodable] = {"failure reason": reason}
    if retry_in is not None:
        told |= {"interval": 60 * retry_in, "min interval": 60 * retry_in, "retry in": retry_in}
    return bencode(told)
