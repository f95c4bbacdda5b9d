"""Which addresses may be contacted: held against plain integers, and against what Python says of the same addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from samara.schemas.errors import UsageError
from samara.schemas.networks import NetworkPolicy, parse_networks

OPEN = NetworkPolicy()

fours = st.ip_addresses(v=4).map(IPv4Address)
sixes = st.ip_addresses(v=6).map(IPv6Address)
networks = st.one_of(
    st.builds(lambda at, size: ip_network((int(at) >> (32 - size) << (32 - size), size)), fours, st.integers(0, 32)),
    st.builds(
        lambda at, size: ip_network((IPv6Address(int(at) >> (128 - size) << (128 - size)), size)),
        sixes,
        st.integers(0, 128),
    ),
)

LOCAL = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0:127.0.0.1",
    "100::1",
    "64:ff9b:1::1",
    "2001:db8::1",
    "3fff::1",
    "2001:0:a00:1::1",
    "2001:0:101:101::f5ff:fffe",
    "5f00::1",
    "fc00::1",
    "fdff:ffff::1",
    "fe80::1",
    "fe80::1%lo",
    "febf::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.169.0.1", "223.255.255.255"]
PUBLIC_6 = [
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "2a00::1",
    "64:ff9b::1.1.1.1",
    "::ffff:1.1.1.1",
    "2002:101:101::1",
]


@pytest.mark.parametrize("address", LOCAL)
def test_a_strangers_mirror_may_not_be_at_a_local_address(address: str) -> None:
    why = OPEN.why_not(address, vouched=False)
    assert why is not None
    assert " address" in why
    assert OPEN.why_not(address, vouched=True) is None
    assert NetworkPolicy(private=True).why_not(address, vouched=False) is None


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_6])
def test_a_strangers_mirror_may_be_at_a_public_address(address: str) -> None:
    assert OPEN.why_not(address, vouched=False) is None


@pytest.mark.parametrize("address", ["64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "2002:a00:1::1", "2002:7f00:1::"])
def test_a_gateway_to_a_local_address_is_local_and_the_reason_says_so(address: str) -> None:
    why = OPEN.why_not(address, vouched=False)
    assert why is not None
    assert "leads to an IPv4 address" in why


@given(fours)
def test_an_address_and_its_forms_in_ipv6_are_judged_alike(address: IPv4Address) -> None:
    allowed = OPEN.why_not(str(address), vouched=False) is None
    value = int(address)
    for inner in (0xFFFF << 32 | value, 0x64FF9B << 96 | value, 0x2002 << 112 | value << 80 | 1):
        assert (OPEN.why_not(str(IPv6Address(inner)), vouched=False) is None) == allowed


@given(st.one_of(fours, sixes))
def test_what_python_says_is_not_public_is_refused(address: IPv4Address | IPv6Address) -> None:
    assume(int(address) >> 96 != 0x64FF9B)  # Python versions differ about NAT64
    if not address.is_global or address.is_multicast:
        assert OPEN.why_not(str(address), vouched=False) is not None


@given(st.one_of(fours, sixes), st.lists(networks, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_only_means_only_whoever_vouches(
    address: IPv4Address | IPv6Address, only: list[object], private: bool, vouched: bool
) -> None:
    assume(not (isinstance(address, IPv6Address) and address.ipv4_mapped))
    policy = NetworkPolicy(only=parse_networks(",".join(map(str, only))), private=private)
    inside = any(
        network.version == address.version
        and int(network.network_address) <= int(address) <= int(network.broadcast_address)
        for network in policy.only
    )
    assert (policy.why_not(str(address), vouched=vouched) is None) == inside


@given(st.one_of(fours, sixes), st.booleans())
def test_an_address_is_inside_the_network_of_itself(address: IPv4Address | IPv6Address, vouched: bool) -> None:
    policy = NetworkPolicy(only=parse_networks(str(address)))
    assert policy.why_not(str(address), vouched=vouched) is None


def test_a_mapped_address_belongs_to_the_ipv4_network() -> None:
    policy = NetworkPolicy(only=parse_networks("10.0.0.0/8"))
    assert policy.why_not("::ffff:10.0.0.1", vouched=True) is None
    assert policy.why_not("64:ff9b::10.0.0.1", vouched=True) is not None  # goes to an IPv6 gateway
    assert parse_networks("::ffff:10.0.0.0/104") == policy.only


@given(st.text())
def test_what_is_no_address_is_refused_whoever_vouches(text: str) -> None:
    assume(not text.isascii() or not any(mark in text for mark in ".:"))
    assert OPEN.why_not(text, vouched=True) is not None


@given(st.lists(networks, min_size=1, max_size=5))
def test_networks_are_read_as_they_are_written(some: list[object]) -> None:
    read = parse_networks(" , ".join(map(str, some)))
    assert len(read) == len(some)
    assert all(str(one) == str(other) or ":ffff:" in str(other) for one, other in zip(read, some, strict=True))


@pytest.mark.parametrize(
    "text", ["", ",", "10.0.0.0/8,", "10.0.0.1/8", "10.0.0.0/33", "example.org", "fd00::/129", "10"]
)
def test_what_is_no_network_is_a_usage_error_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/8,fd00::/8"):
        parse_networks(text)
