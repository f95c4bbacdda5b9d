"""Which mirror it was, from addresses."""

from __future__ import annotations

from samara.seeder.mirrors import Endpoint, MirrorBook

ONE, TWO = "http://one.example/m.bin", "https://two.example:8443/m.bin"
HOSTS = {"one.example": ["192.0.2.1"], "two.example": ["192.0.2.2", "2001:db8::2"]}
AT_ONE: Endpoint = ("192.0.2.1", 80)


def book() -> MirrorBook:
    def resolve(host: str, port: int) -> list[Endpoint]:
        return [(address, port) for address in HOSTS.get(host, [])]

    made = MirrorBook(resolve)
    made.add("t", [ONE, TWO])
    return made


def test_a_banned_address_is_the_mirror_there() -> None:
    assert book().banned("t", AT_ONE) == ONE
    assert book().banned("t", ("2001:db8::2", 8443)) == TWO


def test_a_peer_is_no_mirror() -> None:
    known = book()
    assert known.banned("t", ("192.0.2.1", 6881)) is None
    assert known.banned("t", ("192.0.2.9", 80)) is None
    assert known.banned("other", AT_ONE) is None
    assert not known.is_liar("t", ("192.0.2.9", 80))


def test_only_a_banned_mirror_is_a_liar() -> None:
    known = book()
    assert known.at("t", AT_ONE) == ONE
    assert not known.is_liar("t", AT_ONE)
    known.banned("t", AT_ONE)
    assert known.is_liar("t", AT_ONE)


def test_a_disconnect_explains_the_failure_before_it() -> None:
    known = book()
    known.failed("t", TWO)
    assert known.lost("t", AT_ONE) is None, "another mirror's"
    assert known.unexplained() == [("t", TWO)]
    assert known.lost("t", ("192.0.2.2", 8443)) == TWO
    assert known.unexplained() == []
    assert known.lost("t", ("192.0.2.2", 8443)) is None


def test_a_failure_that_nothing_explains_is_told_once() -> None:
    known = book()
    known.failed("t", ONE)
    known.forget_unexplained("t", ONE)
    assert known.unexplained() == []


def test_a_mirror_of_a_torrent_nobody_told_of() -> None:
    known = book()
    known.failed("late", ONE)
    assert known.unexplained() == [("late", ONE)]
    assert known.lost("late", AT_ONE) == ONE
