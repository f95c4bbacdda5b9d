"""Whom a pull was in contact with, collected from what is heard: who is credited, what is counted, how it was found."""

from __future__ import annotations

import threading

from samara.fetcher.contacts import Contacts
from samara.registry.http import Contact
from samara.schemas.pull_record import EndpointRecord, Evidence, PullRecord
from samara.seeder.swarm_events import BlockReceived, PeerBanned, PeerLost, PeerMet, SourceBytes

TOLD, OTHER = "192.0.2.1:6901", "192.0.2.2:6902"
URL = "http://mirror.example/x"
T = "ab" * 32


def by_name(contacts: Contacts) -> dict[tuple[str, str, str], EndpointRecord]:
    found: dict[tuple[str, str, str], EndpointRecord] = {
        (one.kind, one.endpoint, one.name): one for one in contacts.endpoints()
    }
    assert len(found) == len(contacts.endpoints())
    # whatever was noted can be written
    record = PullRecord(
        started="2026-01-02T03:04:05Z", ended="2026-01-02T03:04:05Z", references=("acme/m:t",), outcome="done",
        endpoints=contacts.endpoints(),
    )  # fmt: skip
    assert {one.endpoint for one in PullRecord.from_json(record.as_json()).endpoints} == {key[1] for key in found}
    return found


def sample(source: str, down: int, up: int = 0, *found: str) -> SourceBytes:
    return SourceBytes(source=source, found=frozenset(found), downloaded=down, uploaded=up)  # type: ignore[arg-type]


def test_how_a_peer_was_found() -> None:
    contacts = Contacts(told=(("192.0.2.1", 6901),))
    contacts.heard(PeerMet(torrent=T, endpoint=TOLD))
    contacts.heard(PeerMet(torrent=T, endpoint=OTHER))
    contacts.sampled(T, [sample(TOLD, 0, 0, "exchange"), sample(OTHER, 0, 0, "incoming")])
    found = by_name(contacts)
    assert found["peer", TOLD, ""].found == ("exchange", "told")
    assert found["peer", OTHER, ""].found == ("incoming",)


def test_a_peer_that_never_answered_is_on_record_too() -> None:
    contacts = Contacts()
    contacts.heard(PeerLost(torrent=T, endpoint=TOLD, reason="timed out"))
    contacts.heard(PeerBanned(torrent=T, endpoint=OTHER))
    assert set(by_name(contacts)) == {("peer", TOLD, ""), ("peer", OTHER, "")}


def test_counters_of_a_connection_grow_and_those_of_the_next_one_begin_at_nothing() -> None:
    contacts = Contacts()
    for down, up in ((10, 1), (10, 1), (30, 5), (7, 0), (9, 2)):  # 30 and 5, then a new connection
        contacts.sampled(T, [sample(TOLD, down, up)])
    contacts.sampled("cd" * 32, [sample(TOLD, 100)])  # the same peer, of another file
    peer = by_name(contacts)["peer", TOLD, ""]
    assert (peer.bytes_in, peer.bytes_out) == (30 + 9 + 100, 5 + 2)


def test_a_block_is_credited_to_everybody_who_gave_a_piece_of_it() -> None:
    contacts = Contacts()
    contacts.mirror(URL, "192.0.2.9:80")
    contacts.heard(BlockReceived(torrent=T, endpoint=TOLD, piece=4))
    contacts.mirror_gave(T, 5, URL)
    contacts.mirror_gave(T, 6, URL)
    contacts.heard(BlockReceived(torrent=T, endpoint=OTHER, piece=9))
    contacts.block_verified(T, range(4, 6))
    contacts.block_verified(T, range(5, 7))
    found = by_name(contacts)
    assert found["peer", TOLD, ""].blocks_verified == 1
    assert found["mirror", "192.0.2.9:80", URL].blocks_verified == 2
    assert found["peer", OTHER, ""].blocks_verified == 0


def test_a_mirrors_bytes_are_noted_where_they_came_from() -> None:
    """Its name may lead elsewhere after a while: what was counted at the first address isn't counted again."""
    contacts = Contacts()
    contacts.mirror(URL, "192.0.2.9:80")
    contacts.mirror_bytes({URL: 100})
    contacts.mirror_bytes({URL: 150})
    contacts.mirror(URL, "192.0.2.10:80")
    contacts.mirror_bytes({URL: 180})
    contacts.mirror_bytes({URL: 180})
    found = by_name(contacts)
    assert found["mirror", "192.0.2.9:80", URL].bytes_in == 150
    assert found["mirror", "192.0.2.10:80", URL].bytes_in == 30


def contact(endpoint: str, host: str, *, proxied: bool = False) -> Contact:
    return Contact(host=host, endpoint=endpoint, proxied=proxied)


def test_what_is_contacted_for_a_mirror_is_a_mirror_whatever_host_it_leads_to() -> None:
    """Also one that never answers, and one that a redirect leads to; what others ask at that time is not."""
    contacts = Contacts()
    contacts.http(contact("192.0.2.5:443", "catalog.example"))
    with contacts.asking(URL):
        contacts.http(contact("192.0.2.9:80", "mirror.example"))
        contacts.http(contact("192.0.2.11:80", "elsewhere.example"))
        contacts.http(contact("192.0.2.12:3128", "mirror.example", proxied=True))
        other = threading.Thread(target=contacts.http, args=(contact("192.0.2.6:443", "catalog.example"),))
        other.start()
        other.join()
    contacts.http(contact("192.0.2.9:80", "mirror.example"))
    assert {key: one.found for key, one in by_name(contacts).items()} == {
        ("catalog", "192.0.2.5:443", "catalog.example"): ("told",),
        ("catalog", "192.0.2.6:443", "catalog.example"): ("told",),
        ("catalog", "192.0.2.9:80", "mirror.example"): ("told",),
        ("mirror", "192.0.2.9:80", URL): ("manifest",),
        ("mirror", "192.0.2.11:80", URL): ("manifest",),
        ("proxy", "192.0.2.12:3128", "mirror.example"): ("configured",),
    }


def test_wrong_bytes_are_evidence_against_whoever_sent_them() -> None:
    contacts = Contacts()
    contacts.mirror(URL, "192.0.2.9:80")
    wrong = Evidence(file="m.gguf", block=3, piece=7, expected="sha1:" + "0" * 40, actual="sha1:" + "1" * 40)
    contacts.rejected("mirror", URL, wrong)
    contacts.rejected("peer", OTHER, wrong)
    contacts.rejected("peer", OTHER, wrong)  # the same, told twice
    found = by_name(contacts)
    for key in (("mirror", "192.0.2.9:80", URL), ("peer", OTHER, "")):
        assert (found[key].blocks_rejected, found[key].evidence) == (1, (wrong,))


def test_who_was_refused_is_on_record_with_the_reason() -> None:
    contacts = Contacts(told=(("192.0.2.1", 6901),))
    contacts.refused("mirror", "http://10.0.0.7/x", "10.0.0.7 is a private address")
    contacts.refused("mirror", "http://[::1/x", "no URL")
    contacts.refused("peer", TOLD, "outside")
    found = by_name(contacts)
    assert found["mirror", "10.0.0.7:80", "http://10.0.0.7/x"].refused == "10.0.0.7 is a private address"
    assert found["mirror", "10.0.0.7:80", "http://10.0.0.7/x"].found == ("manifest",)
    assert found["peer", TOLD, ""].found == ("told",)
    assert any(one.name == "http://[::1/x" for one in found.values())
