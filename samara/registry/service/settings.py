"""What the operator of a registry decides. Frozen values; nothing is read from the environment here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from samara.schemas.networks import Network, NetworkPolicy


class Claims(StrEnum):
    """Who may have a namespace."""

    OPEN = "open"  # whoever claims it first, with a statement that enough of its targets keys signed
    LISTED = "listed"  # whom the operator lists


@dataclass(frozen=True, kw_only=True, slots=True)
class Quotas:
    """Bounds of what one publisher may keep here, and of one request. Sizes are bytes."""

    publish_bytes: int = 64 << 20  # of one publish, uncompressed
    releases: int = 10_000  # of one publisher
    names: int = 10_000  # in one publisher's catalog
    stored_bytes: int = 1 << 30  # manifests and torrents of one publisher
    namespaces: int = 4  # of one publisher
    publishers: int = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Requests that one IPv4 address or IPv6 /64 may make, per minute; bursts of as many. 0: no limit. `announces`:
    scrapes too.
    """

    reads: int = 1200
    publishes: int = 30
    announces: int = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """`origin`: how clients address this registry, e.g. https://models.example.org (no slash at the end): namespace
    claims are for it alone. `claims`, `namespaces`: who may have which name (name → identity). `policy`: where mirrors
    of manifests may lie. `proxies`: whose X-Forwarded-For is believed. `accel`: a location of a web server in front
    that sends files by itself (X-Accel-Redirect), e.g. /samara-files/; None: the service does. `title`: for people.
    `watchers`: who may read /metrics, beside this machine itself. `contact`: whom to write to, a web address, a mail
    address or any words; shown on every page. `serves_all`: strangers get every listed blob whose bytes are here,
    whatever they are here for (see `samara.registry.giving`).
    """

    origin: str
    title: str = "Samara registry"
    claims: Claims = Claims.OPEN
    namespaces: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    proxies: tuple[Network, ...] = ()
    watchers: tuple[Network, ...] = ()
    quotas: Quotas = field(default_factory=Quotas)
    rates: Rates = field(default_factory=Rates)
    accel: str | None = None
    accepts_publishes: bool = True
    contact: str | None = None
    serves_all: bool = False
