"""Whose is a name? Judges a claim against this registry's rules and what is taken already. Keeps nothing.

Open: the first who claims a free name with a statement that enough of its identity's targets keys signed, for this
registry's own origin and of these days, has it for good. Listed: the operator says which name belongs to whom; nobody
else publishes here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from samara.registry.lookalikes import is_encoded, skeleton
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.signing import verify_envelope, verify_listed_envelope
from samara.schemas.envelope import Envelope, canonical_json
from samara.schemas.errors import MalformedError, TrustError
from samara.schemas.namespace_claim import RESERVED, may_be_claimed, parse_claim

MAX_AGE = timedelta(hours=1)  # a statement is public once it was used: an old one must not take a name anew
MAX_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRules:
    """`origin`: this registry's own. `is_open`: whether free names may be claimed. `listed`: name → identity, by the
    operator. `at_most`: names that one publisher may have besides those that the operator lists for it.
    """

    origin: str
    is_open: bool = True
    listed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    at_most: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A name that an identity has from now on. `statement`: the claim as it came, None by the operator's word."""

    name: str
    statement: bytes | None


def may_publish(identity: str, rules: ClaimRules) -> bool:
    """Whether a publisher may keep anything here."""
    return rules.is_open or identity in rules.listed.values()


def claimed_name(claim: Envelope) -> str:
    """The name that a claim is for, whether it holds or not. Raises PublicationRefusedError."""
    try:
        return parse_claim(claim.payload).name
    except MalformedError as error:
        raise PublicationRefusedError(Reason.NAME_REFUSED, f"the claim of a name can't be read: {error.what}") from None


def claimed_by(claim: Envelope, roots: Sequence[bytes], identity: str, name: str, origin: str) -> bool:
    """Whether keys of `identity` claimed `name` at another registry, `origin`, whenever that was."""
    try:
        said = parse_claim(claim.payload)
        verify_listed_envelope(claim, verify_root_chain(identity, roots))
    except (TrustError, MalformedError):
        return False
    is_it = (said.identity, said.name, said.origin) == (identity, name, origin)
    return is_it and may_be_claimed(name) and not is_encoded(name)


def judge_claim(
    claim: Envelope | None,
    chain: RootChain,
    rules: ClaimRules,
    owners: Mapping[str, str],
    *,
    now: datetime,
    barred: Collection[str] = frozenset(),
) -> tuple[Grant, ...]:
    """The names that this publisher gains. `owners`: names that are taken → identity, as far as they matter here: those
    that the claimed one looks like too. `barred`: names that nobody gets.

    Raises PublicationRefusedError.
    """
    identity = chain.identity
    granted = [
        Grant(name=name, statement=None)
        for name, listed in rules.listed.items()
        if listed == identity and owners.get(name) is None and name not in barred
    ]
    if claim is not None:
        name = _proven_name(claim, chain, rules, now)
        holder = rules.listed.get(name) or owners.get(name)
        if holder is not None and holder != identity:
            raise PublicationRefusedError(
                Reason.NAME_TAKEN, f"the name {name} belongs to another publisher here", expected=holder[:8] + "…",
                actual=identity[:8] + "…", next_step="choose another name, or publish under your identity alone",
            )  # fmt: skip
        if holder is None:
            if not rules.is_open:
                raise PublicationRefusedError(
                    Reason.NAME_REFUSED, f"the name {name} can't be claimed: this registry's operator lists the names",
                    next_step="ask the operator",
                )  # fmt: skip
            _require_free(name, identity, {**owners, **rules.listed}, barred)
            granted.append(Grant(name=name, statement=canonical_json(claim.as_dict())))
    given = {name for name, listed in rules.listed.items() if listed == identity}
    have = {name for name, owner in owners.items() if owner == identity} | {grant.name for grant in granted}
    if granted and len(have) > rules.at_most + len(given & have):
        raise PublicationRefusedError(
            Reason.QUOTA, "too many names of one publisher", expected=f"at most {rules.at_most}",
            actual=len(have - given),
        )  # fmt: skip
    return tuple(granted)


def _require_free(name: str, identity: str, owners: Mapping[str, str], barred: Collection[str]) -> None:
    """That nobody may take a new name for one that is another's, or nobody's."""
    shape = skeleton(name)
    if any(skeleton(one) == shape for one in barred) or any(skeleton(one) == shape for one in RESERVED):
        raise PublicationRefusedError(
            Reason.NAME_REFUSED, f"the name {name} can be nobody's here", next_step="choose another"
        )
    alike = next((taken for taken, owner in owners.items() if owner != identity and skeleton(taken) == shape), None)
    if alike is not None:
        raise PublicationRefusedError(
            Reason.NAME_TAKEN, f"the name {name} looks like {alike}, which belongs to another publisher here",
            next_step="choose another name, or publish under your identity alone",
        )  # fmt: skip


def _proven_name(claim: Envelope, chain: RootChain, rules: ClaimRules, now: datetime) -> str:
    try:
        said = parse_claim(claim.payload)
        if said.identity == chain.identity:
            verify_envelope(claim, chain)
    except (TrustError, MalformedError) as error:
        raise PublicationRefusedError(
            Reason.NAME_REFUSED, f"the claim of a name doesn't hold: {error.what}", expected=error.expected,
            actual=error.actual,
        ) from None  # fmt: skip
    if said.identity != chain.identity:
        raise PublicationRefusedError(
            Reason.NAME_REFUSED, "the claim is another publisher's", expected=chain.identity, actual=said.identity
        )
    if said.origin != rules.origin:
        raise PublicationRefusedError(
            Reason.NAME_REFUSED, "the claim is for another registry", expected=rules.origin, actual=said.origin,
            next_step=f"push to {rules.origin}",
        )  # fmt: skip
    if not now - MAX_AGE <= said.issued <= now + MAX_AHEAD:
        raise PublicationRefusedError(
            Reason.NAME_REFUSED, "the claim is too old, or its publisher's clock is wrong",
            expected=f"issued within an hour of {now:%Y-%m-%dT%H:%M:%SZ}", actual=f"{said.issued:%Y-%m-%dT%H:%M:%SZ}",
        )  # fmt: skip
    if not may_be_claimed(said.name) or is_encoded(said.name):
        raise PublicationRefusedError(
            Reason.NAME_REFUSED, f"the name {said.name} can be nobody's here", next_step="choose another"
        )
    return said.name
