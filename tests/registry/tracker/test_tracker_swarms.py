"""The tracker's swarms: who is told of whom, who counts, who has to go. No network: values in, values out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from tracker_kit import endpoints, ip4, ip6, peer_id, told, torrent, tracker

from samara.registry.tracker import Counts, Rules, Tracker
from samara.registry.tracker.values import Announce, Answer, Event
from samara.schemas.errors import UsageError


def at(made: Tracker, address: bytes, announce: Announce, now: float = 0.0) -> Answer:
    answer = made.announce(announce, address, now)
    assert answer is not None
    return answer


def hosts(compact: bytes, width: int = 6) -> set[bytes]:
    return {host for host, _port in endpoints(compact, width)}


def test_two_peers_are_told_of_each_other() -> None:
    made = tracker()
    assert at(made, ip4(1), told(who=1)).peers == b""
    assert endpoints(at(made, ip4(2), told(who=2, port=7000)).peers) == [(ip4(1), 6881)]
    assert endpoints(at(made, ip4(1), told(who=1, event=None)).peers) == [(ip4(2), 7000)]


def test_what_is_not_published_has_no_swarm() -> None:
    made = tracker(torrent(1))
    assert made.announce(told(torrent(2)), ip4(1), 0.0) is None
    assert made.totals().peers == 0
    assert made.scrape([torrent(2).v1]) == {}


def test_who_is_whole_hears_of_those_who_are_not() -> None:
    made = tracker()
    at(made, ip4(1), told(who=1, whole=True))
    assert at(made, ip4(2), told(who=2, whole=True, event=Event.COMPLETED)).peers == b""
    assert at(made, ip4(2), told(who=2, whole=True, event=None)).peers == b""
    assert hosts(at(made, ip4(3), told(who=3)).peers) == {ip4(1), ip4(2)}
    assert hosts(at(made, ip4(1), told(who=1, whole=True, event=None)).peers) == {ip4(3)}


def test_who_starts_may_not_know_yet_how_much_is_left() -> None:
    """aria2 says 0 while it has nothing but a magnet link."""
    made = tracker()
    at(made, ip4(1), told(who=1, whole=True))
    assert hosts(at(made, ip4(2), told(who=2, whole=True)).peers) == {ip4(1)}
    assert made.counts(torrent().b3).seeders == 2
    at(made, ip4(2), told(who=2, event=None))
    assert made.counts(torrent().b3).seeders == 1


def test_both_address_families_are_told_to_both() -> None:
    made = tracker()
    at(made, ip4(1), told(who=1))
    answer = at(made, ip6(1), told(who=2))
    assert (hosts(answer.peers), hosts(answer.peers6, 18)) == ({ip4(1)}, set())
    answer = at(made, ip4(3), told(who=3))
    assert (hosts(answer.peers), hosts(answer.peers6, 18)) == ({ip4(1)}, {ip6(1)})


def test_one_client_with_both_families_and_both_infohashes_counts_once() -> None:
    made = tracker()
    for address in (ip4(1), ip6(1)):
        for v2 in (False, True):
            at(made, address, told(who=1, whole=True, v2=v2))
    counts = made.scrape([torrent().v1, torrent().v2[:20]])
    assert set(counts.values()) == {Counts(seeders=1, leechers=0, completed=0)}
    answer = at(made, ip4(2), told(who=2))
    assert (len(answer.peers), len(answer.peers6)) == (6, 18)


def test_who_knows_one_infohash_is_told_to_those_who_ask_by_it() -> None:
    """A v1 client can't answer a handshake with the other infohash (BEP 52)."""
    made = tracker()
    at(made, ip4(1), told(who=1))
    at(made, ip4(2), told(who=2, v2=True))
    at(made, ip4(3), told(who=3))
    at(made, ip4(3), told(who=3, v2=True))
    assert hosts(at(made, ip4(4), told(who=4)).peers) == {ip4(1), ip4(3)}
    assert hosts(at(made, ip4(5), told(who=5, v2=True)).peers) == {ip4(2), ip4(3)}
    at(made, ip4(3), told(who=3, v2=True, event=Event.STOPPED))  # who leaves a torrent leaves it altogether
    assert hosts(at(made, ip4(5), told(who=5, v2=True, event=None)).peers) == {ip4(2)}
    assert hosts(at(made, ip4(4), told(who=4, event=None)).peers) == {ip4(1)}
    assert made.counts(torrent().b3).leechers == 4
    at(made, ip4(3), told(who=3, event=Event.STOPPED))
    assert made.counts(torrent().b3).leechers == 4


def test_a_download_that_was_completed_counts_once() -> None:
    made = tracker()
    at(made, ip4(1), told(who=1))
    for v2 in (False, True, False):
        at(made, ip4(1), told(who=1, whole=True, event=Event.COMPLETED, v2=v2))
    assert made.counts(torrent().b3) == Counts(seeders=1, leechers=0, completed=1)
    at(made, ip4(1), told(who=1, whole=True, event=Event.STOPPED))
    assert made.counts(torrent().b3) == Counts(seeders=0, leechers=0, completed=1)


def test_stopped_without_started_changes_nothing() -> None:
    made = tracker()
    at(made, ip4(1), told(who=1))
    answer = at(made, ip4(2), told(who=2, event=Event.STOPPED))
    assert (answer.peers, answer.peers6) == (b"", b"")
    at(made, ip4(2), told(who=1, event=Event.STOPPED, key=b"guessed"))  # somebody else with its peer id
    assert made.counts(torrent().b3).leechers == 1


def test_who_has_no_key_is_known_by_its_address() -> None:
    made = tracker()
    at(made, ip4(1), told(who=1, key=b""))
    at(made, ip4(2), told(who=1, key=b"", event=Event.STOPPED))
    assert made.counts(torrent().b3).leechers == 1
    at(made, ip4(1), told(who=1, key=b"", event=Event.STOPPED))
    assert made.counts(torrent().b3).leechers == 0


def test_who_moves_is_at_its_new_address_alone() -> None:
    made = tracker()
    for number in range(1, 50):
        at(made, ip4(number), told(who=1, port=7000 + number))
    assert endpoints(at(made, ip4(99), told(who=2)).peers) == [(ip4(49), 7049)]
    assert made.totals().peers == 2


def test_an_endpoint_belongs_to_the_last_who_announced_it() -> None:
    made = tracker()
    for who in range(1, 50):
        at(made, ip4(1), told(who=who))
    assert made.totals().peers == 1
    assert endpoints(at(made, ip4(2), told(who=99)).peers) == [(ip4(1), 6881)]


def test_one_address_fills_no_swarm_and_its_oldest_peers_go_first() -> None:
    made = tracker(rules=Rules(per_address=8, most=1000))
    at(made, ip4(1), told(who=1))
    for who in range(1000, 3000):
        at(made, ip4(2), told(who=who, port=who), now=who)
    answer = at(made, ip4(3), told(who=2, wanted=1000))
    assert sorted(endpoints(answer.peers)) == [(ip4(1), 6881)] + [(ip4(2), port) for port in range(2992, 3000)]


def test_a_host_with_a_network_and_a_site_with_many_fill_no_swarm() -> None:
    made = tracker(rules=Rules(per_net64=4, per_net48=12, most=1000))
    for who in range(500):
        at(made, ip6(1, 0, who), told(who=who))
    assert made.totals().peers == 4
    for who in range(1000, 2000):
        at(made, ip6(1, who, 1), told(who=who))
    assert made.totals().peers == 12
    at(made, ip6(2), told(who=3000))
    assert made.totals().peers == 13


def test_a_peer_that_lost_one_family_to_a_crowd_keeps_the_other() -> None:
    made = tracker(rules=Rules(per_address=4))
    at(made, ip4(1), told(who=1))
    at(made, ip6(1), told(who=1, event=None), now=1)
    for who in range(2000, 2010):
        at(made, ip4(1), told(who=who, port=who), now=who)
    answer = at(made, ip6(2), told(who=2))
    assert hosts(answer.peers6, 18) == {ip6(1)}
    assert len(endpoints(answer.peers)) == 4


def test_of_a_full_swarm_the_oldest_goes() -> None:
    made = tracker(rules=Rules(swarm_peers=100, most=1000))
    for who in range(150):
        at(made, ip4(who), told(who=who), now=who)
    at(made, ip4(50), told(who=50, event=None), now=150)  # announced again, so it isn't the oldest any more
    at(made, ip4(1000), told(who=1000), now=151)
    assert hosts(at(made, ip4(1000), told(who=1000, wanted=1000)).peers) == {ip4(50), *map(ip4, range(52, 150))}


def test_of_too_many_in_all_the_oldest_go_wherever_they_are() -> None:
    torrents = [torrent(number) for number in range(20)]
    made = tracker(*torrents, rules=Rules(peers=640))
    for who in range(2000):
        at(made, ip4(who), told(torrents[who % 20], who=who), now=who)
    assert 640 - 640 // 64 <= made.totals().peers <= 640
    sizes = [made.counts(one.b3).leechers for one in torrents]
    assert sum(sizes) == made.totals().peers
    assert max(sizes) - min(sizes) <= 1


def test_silence_for_two_intervals_is_the_end() -> None:
    made = tracker(rules=Rules(interval=100, min_interval=50))
    at(made, ip4(1), told(who=1), now=1000)
    at(made, ip4(2), told(who=2), now=1150)
    assert not made.expire(1200)
    assert made.totals().peers == 2
    assert not made.expire(1201)
    assert made.totals().peers == 1
    assert endpoints(at(made, ip4(3), told(who=3), now=1201).peers) == [(ip4(2), 6881)]


def test_expiring_takes_as_much_at_once_as_it_may() -> None:
    made = tracker(rules=Rules(interval=100, min_interval=50))
    for who in range(25):
        at(made, ip4(who), told(who=who))
    assert made.expire(500, at_most=10)
    assert made.totals().peers == 15
    assert made.expire(500, at_most=10)
    assert not made.expire(500, at_most=10)
    assert made.totals() == replace(made.totals(), peers=0, swarms=0)


def test_a_clock_that_goes_back_neither_throws_peers_out_nor_keeps_them() -> None:
    made = tracker(rules=Rules(interval=100, min_interval=50))
    at(made, ip4(1), told(who=1), now=1_000_000)
    at(made, ip4(2), told(who=2), now=10)  # set back by ten days
    assert not made.expire(20)
    assert made.totals().peers == 2
    made.expire(311)
    assert made.totals().peers == 0


def test_what_is_withdrawn_loses_its_swarm_and_the_rest_stays() -> None:
    made = tracker(torrent(1), torrent(2))
    at(made, ip4(1), told(torrent(1), who=1))
    at(made, ip4(1), told(torrent(2), who=1))
    made.publish([torrent(2), torrent(3)])
    assert made.announce(told(torrent(1), who=1), ip4(1), 0.0) is None
    assert made.totals().peers == 1
    assert made.counts(torrent(2).b3).leechers == 1
    assert made.totals().published == 2


def test_one_blob_with_two_torrents_is_two_swarms_and_one_count() -> None:
    one, other = torrent(1), replace(torrent(2), b3=torrent(1).b3)
    made = tracker(one, other)
    at(made, ip4(1), told(one, who=1))
    assert at(made, ip4(2), told(other, who=2, whole=True)).peers == b""
    assert made.counts(one.b3) == Counts(seeders=1, leechers=1, completed=0)
    assert made.busiest(5) == ((one.b3, Counts(seeders=1, leechers=1, completed=0)),)


def test_no_more_are_given_than_were_wanted_or_are_allowed() -> None:
    made = tracker(rules=Rules(wanted=10, most=20))
    for who in range(100):
        at(made, ip4(who), told(who=who, whole=who % 2 == 0))
        at(made, ip6(who), told(who=1000 + who, whole=who % 3 == 0))
    for wanted, given in ((None, 10), (0, 0), (7, 7), (20, 20), (10_000, 20)):
        answer = at(made, ip4(5000), told(who=5000, wanted=wanted))
        assert len(set(endpoints(answer.peers))) == given
        assert len(set(endpoints(answer.peers6, 18))) == given


def test_everybody_is_drawn_as_often_as_anybody_else() -> None:
    made = tracker(rules=Rules(wanted=20))
    for who in range(200):
        at(made, ip4(who), told(who=who, whole=who % 5 == 0))
    drawn: Counter[bytes] = Counter()
    for _ in range(3000):
        drawn.update(hosts(at(made, ip4(7), told(who=7, event=None)).peers))
    assert ip4(7) not in drawn
    assert len(drawn) == 199
    expected = 3000 * 20 / 199
    assert all(0.6 * expected < count < 1.5 * expected for count in drawn.values()), drawn.most_common()


def test_peers_on_loopback_are_told_to_loopback_alone() -> None:
    made = tracker()
    local = bytes([127, 0, 0, 1])
    at(made, local, told(who=1))
    at(made, ip4(2), told(who=2))
    assert hosts(at(made, ip4(3), told(who=3)).peers) == {ip4(2)}
    assert hosts(at(made, local, told(who=4, port=7000)).peers) == {local, ip4(2), ip4(3)}


def test_pools_stay_right_whatever_happens(dice: Random) -> None:
    """Every kind of change, thousands of times: who is told of is who is there."""
    made = tracker(rules=Rules(most=5000, per_address=6, per_net64=6, per_net48=40, swarm_peers=60))
    for now in range(20_000):
        who = dice.randrange(80)
        address = ip4(dice.randrange(20)) if dice.random() < 0.5 else ip6(dice.randrange(3), dice.randrange(9))
        event = dice.choice([None, Event.STARTED, Event.STOPPED, Event.COMPLETED])
        announce = told(
            who=who, port=7000 + dice.randrange(9), whole=dice.random() < 0.4 or event is Event.COMPLETED,
            event=event, v2=dice.random() < 0.5,
        )  # fmt: skip
        at(made, address, announce, now=now)
        if now % 500 == 0:
            counts = made.counts(torrent().b3)
            assert counts.peers == made.totals().peers <= 60
            seen: set[tuple[bytes, int]] = set()
            for v2 in (False, True):
                answer = at(made, ip4(999), told(who=999, v2=v2, wanted=5000), now=now)
                four, six = endpoints(answer.peers), endpoints(answer.peers6, 18)
                assert len(set(four)) == len(four)
                assert len(set(six)) == len(six)
                seen |= set(four) | set(six)
                assert max(Counter(host for host, _ in four).values(), default=0) <= 6
            at(made, ip4(999), told(who=999, event=Event.STOPPED), now=now)
            at(made, ip4(999), told(who=999, event=Event.STOPPED, v2=True), now=now)
            assert counts.peers - 1 <= len(seen) <= 2 * counts.peers  # who asks may have taken the place of one
    made.publish([])
    assert made.totals().peers == 0


def test_rules_that_bound_nothing_are_refused() -> None:
    for bad in ({"interval": 10}, {"min_interval": 5}, {"min_interval": 3000}, {"peers": 0}, {"wanted": 300}):
        with pytest.raises(UsageError):
            Rules(**bad)


def test_peer_ids_have_twenty_bytes() -> None:
    assert len(peer_id(10**11)) == 20


def test_the_registry_itself_can_ask_for_peers() -> None:
    """For what it fetches: whoever is there, wherever, by whichever infohash."""
    made = tracker()
    at(made, bytes([127, 0, 0, 1]), told(who=1))
    at(made, ip6(1), told(who=2, whole=True, v2=True))
    name = torrent().v2.hex()
    assert set(made.peers(name)) == {("127.0.0.1", 6881), ("2a00:0:1::1", 6881)}
    assert made.counts_of(name) == made.counts(torrent().b3) == Counts(seeders=1, leechers=1, completed=0)
    assert made.peers("00" * 32) == ()
    assert made.counts_of("00" * 32).peers == 0


def test_who_came_together_is_not_told_together() -> None:
    """A draw is a stretch of a pool: in the order of arrival it would give everybody the same neighbours."""
    made = tracker(rules=Rules(wanted=20))
    for who in range(1000):
        at(made, ip4(who), told(who=who))
    drawn = sorted(int.from_bytes(host, "big") for host in hosts(at(made, ip4(5000), told(who=5000)).peers))
    assert drawn[-1] - drawn[0] > 300
