"""Which addresses may be contacted. Pure: judges addresses that somebody else resolved, opens nothing.

Two rules meet here. The user may name the only networks that exist for him (`--only-networks`). And a mirror's URL
from a publisher's manifest must not make this machine knock at its own doors or its neighbours' (SSRF), unless the
user allows it. The networks are those of IANA's special-purpose registries (RFC 6890), written out rather than asked
of `ipaddress`, whose answers differ between Python versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from samara.schemas.errors import UsageError

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address

# The first that matches names an address. What matches none is public.
_KINDS_4 = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an unspecified"),  # Linux connects 0.0.0.0 to itself
        ("10.0.0.0/8", "a private"),
        ("100.64.0.0/10", "a carrier's private"),  # RFC 6598
        ("127.0.0.0/8", "a loopback"),
        ("169.254.0.0/16", "a link-local"),  # here clouds give out credentials
        ("172.16.0.0/12", "a private"),
        ("192.0.0.0/24", "a reserved"),
        ("192.0.2.0/24", "a reserved"),
        ("192.88.99.0/24", "a reserved"),
        ("192.168.0.0/16", "a private"),
        ("198.18.0.0/15", "a reserved"),
        ("198.51.100.0/24", "a reserved"),
        ("203.0.113.0/24", "a reserved"),
        ("224.0.0.0/4", "a multicast"),
        ("240.0.0.0/4", "a reserved"),
    )
)
_KINDS_6 = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "an unspecified"),
        ("::1/128", "a loopback"),
        ("fe80::/10", "a link-local"),
        ("fec0::/10", "a private"),
        ("fc00::/7", "a private"),
        ("64:ff9b:1::/48", "a private"),  # RFC 8215: NAT64 of this site alone
        ("ff00::/8", "a multicast"),
        ("2001::/23", "a reserved"),  # protocols' own, Teredo (RFC 4380) with whatever IPv4 address it hides among them
        ("2001:db8::/32", "a reserved"),
        ("3fff::/20", "a reserved"),
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")  # the one part of IPv6 that is given out for the public internet
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how a network without IPv4 reaches it


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkPolicy:
    """`only`: no address outside these networks; empty: no such rule. `private`: local addresses are like others."""

    only: tuple[Network, ...] = ()
    private: bool = False

    def why_not(self, address: str, *, vouched: bool) -> str | None:
        """Why `address` (an IP address, as text) must not be contacted, or None.

        `vouched`: the user himself named the host it belongs to. Otherwise somebody else did, and only public addresses
        will do, unless `private`, or unless `only` lists the network.
        """
        try:
            parsed = _unmapped(ip_address(address))
        except ValueError:
            return f"{address[:80]!r} is not an address"
        if self.only:
            return (
                None if any(parsed in network for network in self.only) else f"{parsed} is outside the networks allowed"
            )
        if vouched or self.private:
            return None
        return _special(parsed)


def parse_networks(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8,fd00::/8` → those networks; a bare address is a network of one. Raises UsageError."""
    return tuple(_parse_network(part.strip()) for part in text.split(","))


def _parse_network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise UsageError(
            "not a network",
            expected="networks such as 10.0.0.0/8,fd00::/8",
            actual=f"{text[:80]!r} ({str(error)[:120]})",
        ) from None
    mapped = network.version == 6 and network.network_address.ipv4_mapped
    return IPv4Network((int(mapped), network.prefixlen - 96)) if mapped else network


def _unmapped(address: _Address) -> _Address:
    """::ffff:10.0.0.1 is 10.0.0.1 to the kernel, so it is here. A scope (fe80::1%eth0) only says which card."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _special(address: _Address) -> str | None:
    if isinstance(address, IPv4Address):
        kind = next((kind for network, kind in _KINDS_4 if address in network), None)
        return f"{address} is {kind} address" if kind else None
    for inner in _embedded(address):
        why = _special(inner)
        if why is not None:
            return f"{address} leads to an IPv4 address: {why}"
    kind = next((kind for network, kind in _KINDS_6 if address in network), None)
    if kind is None and address not in _GLOBAL_6 and address not in _NAT64:
        kind = "a reserved"
    return f"{address} is {kind} address" if kind else None


def _embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses to which a gateway would carry what is sent to this IPv6 address."""
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return () if address.sixtofour is None else (address.sixtofour,)
