"""`samara trust add` in all its forms, and what an attacker would make of each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Samara, make_samara

from samara.cli.common import screen
from samara.registry.home import Home
from samara.registry.trust.catalogs import write_catalog
from samara.registry.trust.identity import grouped
from samara.registry.trust.keys import SecretKey, load_key, new_key
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import load_publisher
from samara.registry.trust.roots import ROLES, RolePlan, RootPlan, verify_root_chain, write_root
from samara.schemas.errors import ExitCode

samara = pytest.fixture(make_samara)


@pytest.fixture
def identity(samara: Samara) -> str:
    """acme, on another machine, with one release; its metadata in site/."""
    samara.use("acme-house")
    made = samara.publisher()
    (samara.folder / "tiny.txt").write_text("tiny one")
    samara("publish", "tiny.txt", "--as", "acme/tiny:v1")
    samara("publisher", "metadata", "acme", "site")
    samara.use("home")
    return made


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server of that folder on loopback; its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join(30)


def pins(samara: Samara) -> list[Any]:
    found: list[Any] = samara.json("trust", "list")["pins"]
    return found


def rotated(samara: Samara, *keys: str) -> Path:
    """acme rotates these keys; its newest root."""
    samara.use("acme-house")
    for key in keys:
        samara("publisher", "rotate", "acme", key)
    publisher = load_publisher(samara.home, "acme")
    samara("publisher", "metadata", "acme", "site")
    samara.use("home")
    return publisher.folder / "roots" / f"{publisher.chain.version}.root.json"


# -- by identity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "--identity", "uri", "release uri", "upper case", "QR", "grouped", "dashes"])
def test_every_form_of_an_identity_is_read(samara: Samara, identity: str, form: str) -> None:
    text = {
        "uri": f"samara:{identity}",
        "release uri": f"samara:{identity}/tiny:v1",
        "upper case": identity.upper(),
        "QR": f"SAMARA:{identity.upper()}",
        "grouped": grouped(identity),
        "dashes": grouped(identity).replace(" ", "-"),
    }.get(form, identity)
    given = ("--identity", text) if form == "--identity" else (text,)
    assert samara.json("trust", "add", "acme", *given, "--yes")["identity"] == identity
    assert [pin["identity"] for pin in pins(samara)] == [identity]
    samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p")


@pytest.mark.parametrize(
    "text", ["", "acme", "samara:", "samara:acme/tiny", "https://example.org/", "a" * 51, "A" * 53]
)
def test_what_is_no_identity_pins_nobody(samara: Samara, text: str) -> None:
    samara("trust", "add", "acme", text, "--yes", code=ExitCode.USAGE)
    assert pins(samara) == []


def test_one_letter_wrong_is_another_publisher(samara: Samara, identity: str) -> None:
    wrong = identity.replace(identity[3], "a" if identity[3] != "a" else "b", 1)
    samara("trust", "add", "acme", wrong, "--from", "site", "--yes", code=ExitCode.TRUST)
    assert pins(samara) == []


def test_two_that_differ_pin_nobody(samara: Samara, identity: str) -> None:
    other = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
    samara("trust", "add", "acme", identity, "--identity", other, "--yes", code=ExitCode.USAGE)
    assert pins(samara) == []


def test_two_publishers_may_not_have_one_alias(samara: Samara, identity: str) -> None:
    other = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"
    samara("trust", "add", "acme", other, "--yes")
    refused = samara("trust", "add", "acme", identity, "--yes", code=ExitCode.TRUST)
    assert other in refused.err
    assert identity in refused.err
    assert "another name" in refused.err
    samara("trust", "add", "acme2", identity, "--yes")
    samara("pull", "acme2/tiny:v1", "--from", "site", "--no-p2p")
    samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p", code=ExitCode.TRUST)


def test_nobody_is_named(samara: Samara) -> None:
    samara("trust", "add", "acme", "--yes", code=ExitCode.USAGE)
    assert pins(samara) == []


# -- asked -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_shown_the_identity_and_asked(
    samara: Samara, identity: str, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    asked: list[str] = []

    def confirm(text: str, **_options: object) -> bool:
        asked.append(text)
        return answer

    monkeypatch.setattr(type(screen), "can_ask", lambda _screen: True)
    monkeypatch.setattr("click.confirm", confirm)
    done = samara("trust", "add", "acme", "--from", "site", code=ExitCode.OK if answer else ExitCode.USAGE)
    assert grouped(identity) in done.err
    assert len(asked) == 1
    assert bool(TrustFolder(samara.home.trust).list()) == answer


# -- from a source -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["folder", "http"])
def test_a_source_alone_can_be_anybodys(samara: Samara, identity: str, how: str) -> None:
    with served(samara.folder / "site") as url:
        source = url if how == "http" else "site"
        for options in ((), ("--yes",)):
            refused = samara("trust", "add", "acme", "--from", source, *options, code=ExitCode.USAGE)
            assert "--identity" in refused.err
            assert pins(samara) == []
        added = samara.json("trust", "add", "acme", "--from", source, "--identity", identity, "--yes")
        assert (added["identity"], len(added["sources"])) == (identity, 1)
        samara("pull", "acme/tiny:v1", "--no-p2p")


@pytest.mark.parametrize("how", ["folder", "http"])
def test_a_source_of_somebody_else_is_refused(samara: Samara, identity: str, how: str) -> None:
    samara.use("mallory-house")
    samara.publisher("acme")
    samara("publish", "tiny.txt", "--as", "acme/tiny:v1", "-o", "trojan.samara")
    samara("publisher", "metadata", "acme", "mallory")
    samara.use("home")
    with served(samara.folder / "mallory") as url:
        source = url if how == "http" else "mallory"
        refused = samara("trust", "add", "acme", identity, "--from", source, "--yes", code=ExitCode.TRUST)
    assert "another publisher" in refused.err
    assert pins(samara) == []


def test_a_source_that_isnt_there(samara: Samara, identity: str) -> None:
    samara("trust", "add", "acme", identity, "--from", "nowhere", "--yes", code=ExitCode.NETWORK)
    (samara.folder / "empty").mkdir()
    samara("trust", "add", "acme", identity, "--from", "empty", "--yes", code=ExitCode.NOT_FOUND)
    with served(samara.folder / "empty") as url:
        samara("trust", "add", "acme", identity, "--from", url, "--yes", code=ExitCode.NOT_FOUND)
    samara("trust", "add", "acme", identity, "--from", "ftp://example.org/", "--yes", code=ExitCode.USAGE)
    assert pins(samara) == []


def test_a_source_with_a_damaged_root_pins_nobody(samara: Samara, identity: str) -> None:
    rotated(samara, "online")
    root = samara.folder / "site" / "2.root.json"
    for junk in (b"", b"{}", root.read_bytes()[:-7], b" " * 300_000):
        root.write_bytes(junk)
        with pytest.raises(AssertionError):
            samara("trust", "add", "acme", identity, "--from", "site", "--yes")
        assert pins(samara) == []


# -- from a root file --------------------------------------------------------------------------------------------------


def test_the_first_root_says_whose_it_is(samara: Samara, identity: str) -> None:
    added = samara.json("trust", "add", "acme", "--root", "site/1.root.json", "--yes")
    assert (added["identity"], added["root"]) == (identity, None)
    again = samara.json("trust", "add", "acme", "--root", "site/1.root.json", "--identity", identity, "--yes")
    assert not again["new"]


def test_the_first_root_of_somebody_else_is_refused(samara: Samara, identity: str) -> None:
    samara.use("mallory-house")
    samara.publisher("mallory")
    theirs = load_publisher(samara.home, "mallory").folder / "roots" / "1.root.json"
    samara.use("home")
    samara("trust", "add", "acme", identity, "--root", str(theirs), "--yes", code=ExitCode.TRUST)
    assert pins(samara) == []


def test_a_later_root_needs_the_identity_beside_it(samara: Samara, identity: str) -> None:
    """Anybody can append it to roots of his own: by itself it names nobody."""
    newest = rotated(samara, "root")
    for options in ((), ("--from", "site")):
        refused = samara("trust", "add", "acme", "--root", str(newest), *options, "--yes", code=ExitCode.USAGE)
        assert "--identity" in refused.err
    assert pins(samara) == []
    added = samara.json("trust", "add", "acme", identity, "--root", str(newest), "--yes")
    assert added["root"]["version"] == 2
    samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p")


def takeover(samara: Samara, stolen: SecretKey, versions: int) -> Path:
    """What a thief of acme's first root key would publish: `versions` roots of his own after the first, and a catalog
    that they vouch for. Without more than the identity, nobody could tell it from the truth.
    """
    acme = load_publisher(Home(samara.folder / "acme-house"), "acme")
    thief = new_key()
    roots = [acme.chain.roots[0]]
    for number in range(2, 2 + versions):
        roles = dict.fromkeys(ROLES, RolePlan(keys=(thief.public,)))
        plan = RootPlan(version=number, expires=acme.chain.expires, roles=roles, beacon=thief.public)
        roots.append(write_root(plan, [stolen, thief] if number == 2 else [thief]))
    state = own_catalog(acme)
    assert state is not None
    chain = verify_root_chain(acme.identity, roots)
    bundle = write_catalog(chain, dict(state.catalog.entries), None, signers=[thief], now=datetime.now(UTC))
    folder = samara.folder / f"mallory-{versions}"
    shutil.copytree(samara.folder / "site" / "releases", folder / "releases")
    for name, data in bundle.files(snapshot_version=1, targets_version=1):
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("versions", [1, 2, 3])
def test_a_stolen_retired_root_key_leads_no_newcomer_astray(samara: Samara, identity: str, versions: int) -> None:
    """The true root 3 came from a friend: every chain of roots has to pass through it."""
    acme = load_publisher(Home(samara.folder / "acme-house"), "acme")
    stolen = load_key(acme.folder / "root.key", None, what="root.key")
    newest = rotated(samara, "root", "online")
    mallory = str(takeover(samara, stolen, versions))
    samara("trust", "add", "acme", identity, "--yes")
    samara("pull", "acme/tiny:v1", "--from", mallory, "--no-p2p")  # whoever was told nothing else is fooled
    samara.use("another-home")
    told = ("trust", "add", "acme", identity, "--root", str(newest), "--yes")
    samara(*told, "--from", mallory, code=ExitCode.TRUST)
    assert pins(samara) == []
    samara(*told)
    refused = samara("pull", "acme/tiny:v1", "--from", mallory, "--no-p2p", code=ExitCode.TRUST)
    assert "you told samara to begin with" in refused.err
    samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p")


def test_two_roots_of_one_version_cannot_both_be_told(samara: Samara, identity: str) -> None:
    samara.use("acme-house")
    acme = load_publisher(samara.home, "acme")
    stolen = load_key(acme.folder / "root.key", None, what="root.key")
    newest = rotated(samara, "root")
    samara("trust", "add", "acme", identity, "--root", str(newest), "--yes")
    before = pins(samara)
    for _ in range(8):  # whichever digest is the larger one
        thief = new_key()
        mine = RolePlan(keys=(thief.public,))
        roles = dict.fromkeys(ROLES, mine)
        plan = RootPlan(version=2, expires=acme.chain.expires, roles=roles, beacon=thief.public)
        (samara.folder / "forged.json").write_bytes(write_root(plan, [stolen, thief]))
        samara("trust", "add", "acme", identity, "--root", "forged.json", "--yes", code=ExitCode.TRUST)
    assert pins(samara) == before


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"\x00" * 300_000, b'{"signed":{"version":1},"signatures":[]}'],
    ids=["empty", "{}", "large", "shell"],
)
def test_a_file_that_is_no_root(samara: Samara, identity: str, data: bytes) -> None:
    (samara.folder / "root.json").write_bytes(data)
    samara("trust", "add", "acme", identity, "--root", "root.json", "--yes", code=ExitCode.INTEGRITY)
    samara("trust", "add", "acme", identity, "--root", "nowhere.json", "--yes", code=ExitCode.NOT_FOUND)
    assert pins(samara) == []


# -- what is wherever an alias resolves --------------------------------------------------------------------------------


def test_an_unpinned_publisher_is_refused_with_the_command_to_type(samara: Samara, identity: str) -> None:
    by_name = samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p", code=ExitCode.TRUST)
    assert "samara trust add acme --identity KEY" in by_name.err
    by_file = samara("pull", "tiny-v1.samara", "--no-p2p", code=ExitCode.TRUST)
    command = f"samara trust add acme --identity {identity}"
    assert command in by_file.err
    samara(*command.removeprefix("samara ").split(), "--yes")
    pulled = samara("pull", "tiny-v1.samara", "--no-p2p")
    assert identity[:8] in pulled.err
    assert "freshness not checked" in pulled.err
    current = samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p")
    assert identity[:8] in current.err
