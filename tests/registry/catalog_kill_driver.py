"""Kills itself at every step of what writes catalogs, and looks at what each kill left. Run by test_catalog_kill.

    python catalog_kill_driver.py FOLDER

Steps and kills are kill_steps'. Prints `action steps` lines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from catalog_kit import DAY, MONTH, Edition, Machine, evidence, machine, raw_entry
from kill_steps import Action, kill_everywhere
from trust_kit import NOW, home_at, line_of, quick_publisher

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogState, EquivocationError
from samara.registry.trust.key_changes import rotate_key
from samara.registry.trust.own_catalog import (
    adopt_catalog,
    listing,
    nothing,
    own_bundle,
    own_catalog,
    retraction,
    update_catalog,
)
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import ONLINE_ROLES, Publisher, load_publisher
from samara.registry.trust.sources import BundleSource
from samara.registry.trust.updater import RolledBackError
from samara.schemas.catalog import parse_entry
from samara.schemas.errors import TrustError, UsageError

LINE = line_of(2)
THIRD = Edition(line=LINE, timestamp=3, snapshot=3, targets=3)
FOURTH = THIRD.next(root=2, signed=NOW + DAY, entries={"tiny/q8_0": raw_entry(b"tiny 4", version=4)})
OLD = replace(THIRD, timestamp=2, snapshot=2, targets=2)
TWIN = replace(THIRD, entries={"tiny/q8_0": raw_entry(b"a trojan")})
LATE = NOW + MONTH + DAY


def main() -> None:
    kill_everywhere(
        {name: (prepare, act, _and_tidy(check)) for name, (prepare, act, check) in ACTIONS.items()}, Path(sys.argv[1])
    )


def _and_tidy(check: Callable[[Home, bool], None]) -> Callable[[Home, bool], None]:
    def both(home: Home, finished: bool) -> None:
        check(home, finished)
        left = [path for path in home.root.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file()]
        assert not left, f"what a kill left is still there after another run: {left}"

    return both


# -- who reads ---------------------------------------------------------------------------------------------------------


def _pinned(home: Home) -> None:
    machine(home.root, LINE)


def _acme(home: Home) -> Machine:
    return Machine(home, LINE.identity)


def _knows_third(home: Home) -> None:
    _pinned(home)
    _acme(home).accept(THIRD.at())


def _accept_third(home: Home) -> None:
    _acme(home).accept(THIRD.at())


def _check_third(home: Home, finished: bool) -> None:
    assert _acme(home).version in ((3,) if finished else (0, 3))
    _accept_third(home)
    _whole(home, 3)
    _refuses_older(home)


def _accept_fourth(home: Home) -> None:
    _acme(home).accept(FOURTH.at(), now=NOW + DAY)


def _check_fourth(home: Home, finished: bool) -> None:
    """The third or the fourth, never below; with root 2 known or not; a rerun completes it."""
    assert _acme(home).version in ((4,) if finished else (3, 4))
    _refuses_older(home)
    _accept_fourth(home)
    _whole(home, 4)
    _refuses_older(home)


def _accept_stale(home: Home) -> None:
    _acme(home).accept(THIRD.next().at(), now=LATE, allow_stale=True)


def _check_stale(home: Home, finished: bool) -> None:
    assert _acme(home).version in ((4,) if finished else (3, 4))
    assert not finished or _acme(home).client.seen().accepted
    _refuses_older(home)
    _accept_stale(home)
    _whole(home, 4)
    assert _acme(home).client.seen().accepted


def _equivocate(home: Home) -> None:
    try:
        _acme(home).accept(TWIN.at())
    except EquivocationError:
        return
    raise AssertionError("nobody noticed")


def _check_equivocation(home: Home, finished: bool) -> None:
    _equivocate(home)
    assert len(evidence(_acme(home))) == 2
    _whole(home, 3)
    known = _acme(home).client.stored()
    assert known is not None
    assert known.bundle == THIRD.bundle
    for path in (_acme(home).folder / "equivocation").iterdir():
        if path.name.startswith(TEMPORARY_PREFIX):
            path.unlink()  # evidence is never swept


def _refuses_older(home: Home) -> None:
    if _acme(home).version == 0:
        return
    try:
        _acme(home).accept(OLD.at())
    except TrustError:
        return
    raise AssertionError("an older catalog got through")


def _whole(home: Home, version: int) -> None:
    acme = _acme(home)
    assert acme.version == version
    assert acme.client.damage() is None
    assert acme.client.seen().versions["timestamp"] == version


# -- who writes --------------------------------------------------------------------------------------------------------


def _published(home: Home) -> None:
    quick_publisher(home)
    _list(home, b"tiny 1", 1)


def _publisher(home: Home) -> Publisher:
    return load_publisher(home, "acme")


def _list(home: Home, payload: bytes, version: int) -> CatalogState:
    raw = raw_entry(payload, version=version)
    entry = parse_entry("tiny/q8_0", length=raw["length"], hashes=raw["hashes"], custom=raw["custom"])
    publisher = _publisher(home)
    return update_catalog(home, publisher, listing(entry), signers=publisher.open_keys(ONLINE_ROLES), now=NOW)


def _list_second(home: Home) -> None:
    _list(home, b"tiny 2", 2)


def _check_listed(home: Home, finished: bool) -> None:
    """The old catalog or the new one."""
    state = own_catalog(_publisher(home))
    assert state is not None
    assert state.catalog.entries["tiny/q8_0"].version in ((2,) if finished else (1, 2))
    _list_second(home)
    _others_follow(home)


def _retract(home: Home) -> None:
    publisher = _publisher(home)
    change = retraction("tiny", "q8_0", "broken")
    update_catalog(home, publisher, change, signers=publisher.open_keys(ONLINE_ROLES), now=NOW)


def _check_retracted(home: Home, finished: bool) -> None:
    state = own_catalog(_publisher(home))
    assert state is not None
    assert state.catalog.entries["tiny/q8_0"].retracted == "broken" or not finished
    _retract(home)
    _others_follow(home)


def _rotate(key: str) -> Callable[[Home], None]:
    def act(home: Home) -> None:
        rotate_key(home, _publisher(home), key, ask=None, now=NOW)

    return act


def _check_rotated(home: Home, finished: bool) -> None:
    """The publisher works, under the old root or the new one; whoever knew its catalog follows."""
    publisher = _publisher(home)
    assert publisher.chain.version in ((2,) if finished else (1, 2))
    assert publisher.sign(b"{}", publisher.online_keys()).signatures
    assert own_catalog(publisher) is not None
    update_catalog(home, publisher, nothing, signers=publisher.open_keys(ONLINE_ROLES), now=NOW)
    _others_follow(home)
    rotate_key(home, _publisher(home), "root", ask=None, now=NOW)
    _others_follow(home)


def _elsewhere(home: Home) -> None:
    """The same publisher on two machines; the other one, below `home`, has rotated a key and published since."""
    import shutil

    _published(home)
    other = Home(home.root / "other")
    shutil.copytree(home.keys, other.keys)
    shutil.copytree(home.trust, other.trust)
    rotate_key(other, load_publisher(other, "acme"), "beacon", ask=None, now=NOW)
    _list(other, b"tiny 2", 2)


def _adopt(home: Home) -> None:
    theirs = own_bundle(load_publisher(Home(home.root / "other"), "acme"))
    assert theirs is not None
    publisher = _publisher(home)
    client = Machine(home, publisher.identity)
    state = client.check(BundleSource(theirs, "the CI"))
    try:
        adopt_catalog(home, publisher, state)
    except UsageError as error:
        assert "newer already" in str(error)


def _check_adopted(home: Home, finished: bool) -> None:
    state = own_catalog(_publisher(home))
    assert state is not None
    assert state.catalog.entries["tiny/q8_0"].version in ((2,) if finished else (1, 2))
    _adopt(home)
    _list(home, b"tiny 3", 3)
    _others_follow(home)


def _others_follow(home: Home) -> None:
    """Somebody who knows this publisher since its first catalog takes the one it has now."""
    publisher = _publisher(home)
    bundle = own_bundle(publisher)
    assert bundle is not None
    reader = Machine(home_at(home.root / "reader"), publisher.identity)
    if reader.trust.find("acme") is None:
        reader.trust.add("acme", publisher.identity, now=NOW)
    try:
        reader.accept(BundleSource(bundle, "acme itself"))
    except RolledBackError as error:
        raise AssertionError("a publisher went backwards") from error
    assert TrustFolder(home.trust).find("acme") is not None


ACTIONS: dict[str, Action] = {
    "first": (_pinned, _accept_third, _check_third),
    "next": (_knows_third, _accept_fourth, _check_fourth),
    "stale": (_knows_third, _accept_stale, _check_stale),
    "equivocation": (_knows_third, _equivocate, _check_equivocation),
    "list": (_published, _list_second, _check_listed),
    "retract": (_published, _retract, _check_retracted),
    "rotate-online": (_published, _rotate("online"), _check_rotated),
    "rotate-root": (_published, _rotate("root"), _check_rotated),
    "sync": (_elsewhere, _adopt, _check_adopted),
}

if __name__ == "__main__":
    main()
