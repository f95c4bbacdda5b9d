"""Kills itself at every step of an action that writes, and looks at what each kill left behind. Run by test_trust_kill.

    python trust_kill_driver.py FOLDER

Steps and kills are kill_steps'. Prints `action steps` lines.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kill_steps import kill_everywhere
from trust_kit import NOW, line_of, quick_publisher

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import list_publishers, load_publisher
from samara.schemas.errors import NotFoundError, UsageError

LINE = line_of(3)


def _nothing(home: Home) -> None:
    pass


def _init(home: Home) -> None:
    quick_publisher(home)


def _check_init(home: Home, finished: bool) -> None:
    """All of a publisher or none of it; a rerun ends with exactly one, pinned, and no leftovers."""
    if list_publishers(home):
        before = load_publisher(home, "acme")
        assert before.sign(b"{}", before.online_keys()).signatures
        try:
            quick_publisher(home)
        except UsageError as error:
            assert before.identity in str(error)
        else:
            raise AssertionError("a publisher was overwritten")
        assert load_publisher(home, "acme").identity == before.identity
    else:
        assert not finished
        try:
            load_publisher(home, "acme")
        except NotFoundError:
            quick_publisher(home)
    publisher = load_publisher(home, "acme")
    trust = TrustFolder(home.trust)
    assert [(pin.alias, pin.identity) for pin in trust.list()] == [("acme", publisher.identity)]
    assert trust.stored_chain(publisher.identity) == publisher.chain
    assert not list(home.keys.rglob(f"{TEMPORARY_PREFIX}*"))


def _pin(home: Home) -> None:
    trust = TrustFolder(home.trust)
    trust.add("acme", LINE.identity, now=NOW)
    trust.store_roots(LINE.identity, LINE.chain())


def _check_pin(home: Home, finished: bool) -> None:
    """Pinned or not, never in between; roots a valid beginning of the chain; a rerun completes both."""
    trust = TrustFolder(home.trust)
    pins = trust.list()
    stored = trust.stored_chain(LINE.identity)
    assert [pin.identity for pin in pins] in ([], [LINE.identity])
    assert stored is None or stored == LINE.chain(stored.version)
    assert not finished or (pins and stored == LINE.chain())
    _pin(home)
    assert trust.stored_chain(LINE.identity) == LINE.chain()
    assert not list(home.trust.rglob(f"{TEMPORARY_PREFIX}*"))


def _remove(home: Home) -> None:
    TrustFolder(home.trust).remove("acme")


def _check_remove(home: Home, finished: bool) -> None:
    """Whole or gone."""
    trust = TrustFolder(home.trust)
    if trust.list():
        assert not finished
        assert trust.stored_chain(LINE.identity) == LINE.chain()
    else:
        assert trust.stored_chain(LINE.identity) is None
    _pin(home)
    assert trust.resolve("acme").identity == LINE.identity


ACTIONS = {
    "init": (_nothing, _init, _check_init),
    "pin": (_nothing, _pin, _check_pin),
    "remove": (_pin, _remove, _check_remove),
}

if __name__ == "__main__":
    kill_everywhere(ACTIONS, Path(sys.argv[1]))
