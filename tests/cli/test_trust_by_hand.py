"""What strangers, careless publishers and attackers typed at the commands of names and trust, and what came of it."""

from __future__ import annotations

import pytest
from cli_kit import Samara, make_samara

from samara.registry.trust.keys import is_sound, new_key
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.publishers import load_publisher
from samara.schemas.catalog import parse_entry
from samara.schemas.errors import ExitCode

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
