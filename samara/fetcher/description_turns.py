"""Of several publishers that describe one blob, whose word is tried first. Pure.

What is known to be right leaves out all else; what is known to be wrong is out. Then come those who haven't been caught
lying about any blob, what has failed least, each publisher's first before anybody's second, and who came first: so a
stranger with a thousand releases has one turn before the next publisher's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A listed manifest that has the blob. `v2`: infohash of the torrent by which it says that the blob travels, hence
    of its very bytes; None for bytes that travel in the manifest and are proven by it.
    """

    identity: str
    manifest: str
    v2: str | None


def turns(
    claims: Sequence[Claim],
    *,
    true: str | None,
    false: Collection[str | None],
    failures: Mapping[str, int],
    lies: Mapping[str, int],
) -> tuple[Claim, ...]:
    """The claims (those who came first first) in the order in which to try them.

    `true`: the v2 infohash of the right bytes, if known; `false`: manifests and v2 infohashes that are wrong;
    `failures`: by manifest, `lies`: by identity, both 0 where absent.
    """
    good = [
        claim
        for claim in claims
        if claim.manifest not in false
        and (claim.v2 is None or claim.v2 not in false)
        and (true is None or claim.v2 in {None, true})
    ]
    seen: Counter[str] = Counter()
    ranked = []
    for number, claim in enumerate(good):
        rank = (lies.get(claim.identity, 0), failures.get(claim.manifest, 0), seen[claim.identity], number)
        ranked.append((rank, claim))
        seen[claim.identity] += 1
    return tuple(claim for _, claim in sorted(ranked, key=lambda one: one[0]))
