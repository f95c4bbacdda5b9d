"""`pull --explain`: whom a pull would contact, and why, said before it contacts anybody. Looks up no names either.

What a release's mirrors are is known only where its manifest is here already; else that is said.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from samara.fetcher.catalogs import DHT_SOURCE
from samara.fetcher.options import PullOptions
from samara.fetcher.plan import chosen
from samara.fetcher.resolve import is_magnet, is_release_file, resolve
from samara.registry.home import Home
from samara.registry.http import Proxies
from samara.registry.http.urls import parse_url
from samara.registry.registries import blob_mirror, metadata_source, tracker
from samara.registry.trust.pins import TrustFolder
from samara.registry.web import is_url
from samara.schemas.endpoints import format_endpoint
from samara.schemas.errors import SamaraError
from samara.schemas.references import parse_reference
from samara.seeder.swarm_options import LAN_GROUPS, PUBLIC_DHT

Kind = Literal["catalog", "release", "mirror", "peer", "dht", "lan", "router", "proxy", "peers", "tracker"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WouldContact:
    """Somebody whom a pull would contact: who, what for; `refused`: why not, if something forbids it."""

    kind: Kind
    who: str
    why: str
    refused: str | None = None


def explain(home: Home, sources: Sequence[str], options: PullOptions) -> tuple[WouldContact, ...]:
    """Everybody, each once. Raises UsageError for what is no reference, TrustError for an unknown publisher."""
    found = dict.fromkeys(_contacts(home, sources, options))
    return tuple(found)


def _contacts(home: Home, sources: Sequence[str], options: PullOptions) -> Iterator[WouldContact]:
    urls: list[tuple[Kind, str, str, bool]] = []
    unknown = False
    for source in sources:
        if is_url(source):
            urls.append(("release", source, "the .samara file that was asked for", True))
            unknown = True
            continue
        urls += _catalogs(home, source, options)
        try:
            resolved = resolve(home, source)
        except SamaraError:
            unknown = True
            continue
        for file in chosen(resolved.release.files, options.include, options.exclude):
            for url in file.mirrors if options.mirrors else ():
                urls.append(("mirror", url, f"{file.path}, named in the manifest of {resolved.reference}", False))
            for origin in options.registries if options.mirrors else ():
                urls.append(("mirror", blob_mirror(origin, file.b3_hex), f"{file.path}, from a registry", True))
    proxies = Proxies.from_environment(os.environ)
    for kind, url, why, vouched in urls:
        proxy = proxies.proxy_for(parse_url(url))
        if proxy is not None:
            refused = _refused_host(proxy.host, options, vouched=True)
            yield WouldContact(
                kind="proxy", who=str(proxy), why="the environment names it for web servers", refused=refused
            )
        yield WouldContact(kind=kind, who=url, why=why, refused=_refused(url, options, vouched=vouched))
    if unknown and options.mirrors:
        yield WouldContact(kind="mirror", who="(not known yet)", why="the mirrors in a manifest that isn't here yet")
    if options.peer_to_peer:
        yield from _peers(options)


def _catalogs(home: Home, source: str, options: PullOptions) -> Iterator[tuple[Kind, str, str, bool]]:
    if is_magnet(source) or is_release_file(source):
        return
    pin = TrustFolder(home.trust).resolve(parse_reference(source).publisher)
    registries = (metadata_source(origin, pin.identity) for origin in options.registries)
    for text in dict.fromkeys((*options.sources, *registries, *pin.sources)):
        if text != DHT_SOURCE and is_url(text):
            yield "catalog", text, f"the catalog of {pin.alias}: which release {source} is now", True


def _peers(options: PullOptions) -> Iterator[WouldContact]:
    within = options.session_options
    for peer in options.told_peers:
        refused = _refused_host(peer[0], options, vouched=True)
        yield WouldContact(kind="peer", who=format_endpoint(peer), why="named by --peer", refused=refused)
    for origin in options.registries:
        refused = _refused(origin, options, vouched=True)
        yield WouldContact(kind="tracker", who=tracker(origin), why="which peers have the blobs", refused=refused)
    outside = "its nodes may be anywhere, and --only-networks is given" if options.networks else None
    if options.swarm.dht:
        for node in options.swarm.dht_nodes or PUBLIC_DHT:
            yield WouldContact(kind="dht", who=node, why="the way into the BitTorrent DHT", refused=outside)
        yield WouldContact(
            kind="dht",
            who="nodes of the DHT",
            why="which peers have the blobs, and where catalogs are",
            refused=outside,
        )
    if options.swarm.lan:
        refused = None if within.lan else "multicast to the local network is outside --only-networks"
        yield WouldContact(
            kind="lan", who=f"{LAN_GROUPS[0]}:6771", why="asks who on the local network has the blobs", refused=refused
        )
    if options.swarm.port_mapping:
        refused = "routers are not asked under --only-networks" if options.networks else None
        yield WouldContact(kind="router", who="this network's router", why="to open a port for peers", refused=refused)
    if options.discovery or options.told_peers:
        where = f" in {', '.join(map(str, options.networks))}" if options.networks else ""
        yield WouldContact(kind="peers", who=f"peers{where}", why="whoever of these has the blobs, and whom those name")


def _refused(url: str, options: PullOptions, *, vouched: bool) -> str | None:
    return _refused_host(urlsplit(url).hostname or "", options, vouched=vouched)


def _refused_host(host: str, options: PullOptions, *, vouched: bool) -> str | None:
    """Of addresses; names are looked up, and judged, only when they are contacted."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return options.policy.why_not(host, vouched=vouched)
