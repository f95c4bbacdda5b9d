"""What strangers, careless publishers and attackers typed at the commands of names and trust, and what came of it."""

from __future__ import annotations

import pytest
from cli_kit import Samara, make_samara

from samara.registry.index import Index
from samara.registry.trust.keys import is_sound, new_key
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.publishers import load_publisher
from samara.schemas.catalog import parse_entry
from samara.schemas.errors import ExitCode
from samara.seeder.announcements import Announcements

samara = pytest.fixture(make_samara)

DIGEST = "ab" * 32
DRIVES_A_TERMINAL = "bad\x1b[2J\x1b]0;title\x07 \u202e\nsamara: all is well\r"
ORDER_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"


@pytest.fixture
def identity(samara: Samara) -> str:
    """acme with one release, tiny:v1."""
    made = samara.publisher()
    (samara.folder / "tiny.txt").write_text("tiny")
    samara("publish", "tiny.txt", "--as", "acme/tiny:v1")
    return made


@pytest.mark.parametrize(
    "reason", [DRIVES_A_TERMINAL, "not of one encoding \udcff", "two\nlines"], ids=["escapes", "bytes", "lines"]
)
def test_a_reason_is_one_line_of_text(samara: Samara, identity: str, reason: str) -> None:
    done = samara("retract", "acme/tiny:v1", "--reason", reason, code=ExitCode.USAGE)
    assert "one line of printable text" in done.err
    state = own_catalog(load_publisher(samara.home, "acme"))
    assert state is not None
    assert state.catalog.entries["tiny/v1"].retracted is None


def test_a_hostile_publishers_reason_drives_no_terminal_and_forges_no_line() -> None:
    custom = {"samara": {"manifest": f"b3:{DIGEST}", "btmh": DIGEST, "version": 1, "retracted": DRIVES_A_TERMINAL}}
    entry = parse_entry("tiny/v1", length=1, hashes={"sha256": DIGEST}, custom=custom)
    assert entry.retracted is not None
    assert entry.retracted.isprintable()
    assert entry.retracted.startswith("bad")


@pytest.mark.parametrize("public", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ff" * 32, ORDER_8])
def test_a_public_key_with_which_anybody_could_sign_is_refused(samara: Samara, identity: str, public: str) -> None:
    done = samara("publisher", "add-key", "acme", "--role", "root", "--public", public, code=ExitCode.USAGE)
    assert "nobody can have made" in done.err
    assert load_publisher(samara.home, "acme").chain.version == 1


def test_every_key_that_is_made_is_sound() -> None:
    assert all(is_sound(new_key().public) for _ in range(20))


@pytest.mark.parametrize("command", ["publisher show acme", "publisher show acme --json"])
def test_a_damaged_key_file_is_named(samara: Samara, identity: str, command: str) -> None:
    file = samara.home.keys / "acme" / "online.key"
    file.write_bytes(b"")
    done = samara(*command.split(), code=ExitCode.INTEGRITY)
    assert str(file) in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("seed", "--dht-node", "127.0.0.1:0"),
        ("pull", "acme/tiny:v1", "--dht-node", "127.0.0.1:0"),
        ("pull", "acme/tiny:v1", "--peer", "127.0.0.1:0"),
    ],
)
def test_nobody_can_be_at_port_0(samara: Samara, identity: str, arguments: tuple[str, ...]) -> None:
    assert "port 0" in samara(*arguments, code=ExitCode.USAGE).err


def test_a_seeder_asks_for_a_passphrase_when_it_starts_and_never_again(samara: Samara) -> None:
    samara.setenv(SAMARA_PASSPHRASE="geheim")
    samara.publisher()
    (samara.folder / "tiny.txt").write_text("tiny")
    samara("publish", "tiny.txt", "--as", "acme/tiny:v1")
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "geheim"

    with Index.open(samara.home) as index:
        announcements = Announcements(samara.home, index, ask=ask, on_event=lambda _: None)
        (_, first), *_ = announcements().pointers
        samara("publisher", "rotate", "acme", "beacon")
        pointers = announcements().pointers
    assert len(asked) == 1
    assert len({seed for seed, _ in pointers}) == 2, "the old beacon and the new"
    assert all(pointer.timestamp_version > first.timestamp_version for _, pointer in pointers)


def test_a_publisher_that_came_while_nobody_was_there_is_not_asked_for(samara: Samara) -> None:
    asked: list[str] = []
    said: list[str] = []
    with Index.open(samara.home) as index:
        announcements = Announcements(
            samara.home, index, ask=lambda what: asked.append(what), on_event=lambda event: said.append(str(event))
        )
        announcements()
        samara.setenv(SAMARA_PASSPHRASE="geheim")
        samara.publisher()
        (samara.folder / "tiny.txt").write_text("tiny")
        samara("publish", "tiny.txt", "--as", "acme/tiny:v1")
        assert announcements().pointers == ()
        told = Announcements(samara.home, index, ask=None, ask_later=lambda _: "geheim", on_event=lambda _: None)
        told()
        samara("publisher", "rotate", "acme", "beacon")
        assert len(told().pointers) == 2
    assert asked == []
    assert any("can't be found by its name alone" in line for line in said)


@pytest.mark.parametrize("command", ["pull acme/tiny:v1", "publish tiny.txt --as acme/tiny:v2", "publisher sync acme"])
@pytest.mark.parametrize("source", ["ftp://example.org/acme", "file:///tmp", "dht:somebody"])
def test_a_word_that_is_no_source_is_a_usage_error(samara: Samara, identity: str, command: str, source: str) -> None:
    done = samara(*command.split(), "--from", source, code=ExitCode.USAGE)
    assert "not a source of catalogs" in done.err
