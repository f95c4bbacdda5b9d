"""A publisher's keys over the years: added, removed, rotated, stolen, kept on sticks, lost and restored."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Samara, make_samara

from samara.registry.trust.catalog_client import CatalogClient
from samara.registry.trust.keys import new_key, save_key, seal_key
from samara.registry.trust.own_catalog import own_bundle, own_catalog
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import load_publisher
from samara.schemas.errors import ExitCode
from samara.schemas.metadata_bundle import pack_metadata, unpack_metadata

samara = pytest.fixture(make_samara)

ONLINE = {"targets", "snapshot", "timestamp"}


@pytest.fixture
def identity(samara: Samara) -> str:
    """acme with one release."""
    made = samara.publisher()
    publish(samara, "tiny one", "v1")
    return made


def publish(samara: Samara, text: str, tag: str, *, code: ExitCode = ExitCode.OK) -> None:
    (samara.folder / f"{tag}.txt").write_text(text)
    samara("publish", f"{tag}.txt", "--as", f"acme/tiny:{tag}", code=code)


def keys_of(samara: Samara) -> dict[str, dict[str, Any]]:
    """File name → what `publisher show` says of it, of keys in force."""
    facts = samara.json("publisher", "show", "acme")
    return {key["file"]: key for key in facts["keys"] if key["roles"]}


def follows(samara: Samara, identity: str, *, reader: str = "reader") -> dict[str, Any]:
    """Somebody who trusts acme since the first time this was called pulls acme/tiny:v1 as it is published now."""
    here = samara.home.root
    samara("publisher", "metadata", "acme", str(samara.folder / "site"))
    samara.use(reader)
    if not TrustFolder(samara.home.trust).list():
        samara("trust", "add", "acme", identity, "--yes")
    samara("pull", "acme/tiny:v1", "--from", "site", "--no-p2p")
    facts: dict[str, Any] = samara.json("trust", "show", "acme")["catalog"]
    samara.setenv(SAMARA_HOME=str(here))
    return facts


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_rotated_online_key_is_followed_and_the_old_one_is_worth_nothing(samara: Samara, identity: str) -> None:
    before = follows(samara, identity)
    old = {name: (samara.home.keys / "acme" / name).read_bytes() for name in ("online.key", "catalog")}
    done = samara.json("publisher", "rotate", "acme", "online")
    assert done["identity"] == identity
    assert Path(done["made"]).name == "online-2.key"
    assert set(keys_of(samara)["online-2.key"]["roles"]) == ONLINE
    assert "online.key" not in keys_of(samara)
    after = follows(samara, identity)
    assert after["versions"]["root"] == 2
    assert after["versions"]["timestamp"] > before["versions"]["timestamp"]

    thief = samara.folder / "thief"  # has the old key and all that was public then
    shutil.copytree(samara.home.keys / "acme", thief / "keys" / "acme")
    shutil.copytree(samara.home.trust, thief / "trust")
    for name, data in old.items():
        (thief / "keys" / "acme" / name).write_bytes(data)
    (thief / "keys" / "acme" / "roots" / "2.root.json").unlink()
    shutil.rmtree(thief / "trust" / identity / "roots")
    samara.use("thief")
    for tag in "abcdefghi":
        samara("tag", "acme/tiny:v1", tag)
    samara("publisher", "metadata", "acme", "stolen")
    samara.use("reader")
    samara("pull", "acme/tiny:v1", "--from", "stolen", "--no-p2p", code=ExitCode.TRUST)
    samara.use("home")


def test_every_key_can_be_rotated_in_turn(samara: Samara, identity: str) -> None:
    for number, key in enumerate(("root", "online", "beacon", "root", "online"), start=2):
        done = samara.json("publisher", "rotate", "acme", key)
        assert (done["root_version"], done["identity"]) == (number, identity)
        assert follows(samara, identity)["versions"]["root"] == number
    publish(samara, "tiny two", "v2")
    follows(samara, identity)


def test_a_targets_key_of_its_own_and_then_without_the_online_one(samara: Samara, identity: str) -> None:
    made = Path(samara.json("publisher", "add-key", "acme", "--role", "targets")["made"])
    assert set(keys_of(samara)) == {"root.key", "online.key", "beacon.key", "targets.key"}
    assert keys_of(samara)["targets.key"]["roles"] == ["targets"]
    samara("publisher", "remove-key", "acme", "online", "--role", "targets")
    assert set(keys_of(samara)["online.key"]["roles"]) == {"snapshot", "timestamp"}
    follows(samara, identity)
    stick = samara.folder / "stick.key"
    made.rename(stick)
    samara("publisher", "refresh", "acme")  # its signature holds; only the others are renewed
    follows(samara, identity)
    publish(samara, "tiny two", "v2", code=ExitCode.TRUST)
    stick.rename(made)
    publish(samara, "tiny two", "v2")
    assert follows(samara, identity)["versions"]["targets"] >= 2


def test_a_threshold_of_two_targets_keys(samara: Samara, identity: str) -> None:
    made = Path(samara.json("publisher", "add-key", "acme", "--role", "targets")["made"])
    done = samara.json("publisher", "set-threshold", "acme", "targets", "2")
    assert done["thresholds"]["targets"] == 2
    publish(samara, "tiny two", "v2")
    follows(samara, identity)
    made.rename(samara.folder / "stick.key")
    publish(samara, "tiny three", "v3", code=ExitCode.TRUST)
    samara("publisher", "set-threshold", "acme", "targets", "3", code=ExitCode.USAGE)


def test_two_of_three_root_keys_of_which_two_are_on_sticks(samara: Samara) -> None:
    samara("publisher", "init", "acme", "--kdf-rounds", "1", "--root-keys", "3", "--root-threshold", "2")
    identity = load_publisher(samara.home, "acme").identity
    publish(samara, "tiny one", "v1")
    follows(samara, identity)
    folder = samara.home.keys / "acme"
    sticks = []
    for name in ("root-2.key", "root-3.key"):
        (folder / name).rename(samara.folder / name)
        sticks.append(str(samara.folder / name))
    refused = samara("publisher", "rotate", "acme", "online", code=ExitCode.TRUST)
    assert "--key FILE" in refused.err
    assert load_publisher(samara.home, "acme").chain.version == 1
    twice = ("--key", str(folder / "root.key"), "--key", str(folder / "root.key"))
    samara("publisher", "rotate", "acme", "online", *twice, code=ExitCode.TRUST)
    stranger = samara.folder / "stranger.key"
    save_key(stranger, seal_key(new_key(), None))
    samara("publisher", "rotate", "acme", "online", "--key", str(stranger), code=ExitCode.TRUST)

    done = samara.json("publisher", "rotate", "acme", "online", "--key", sticks[0])
    assert done["root_version"] == 2
    assert follows(samara, identity)["versions"]["root"] == 2
    (folder / "root.key").rename(samara.folder / "root.key")
    samara("publisher", "refresh", "acme", "--renew-root", "--key", sticks[0], "--key", sticks[1])
    assert follows(samara, identity)["versions"]["root"] == 3
    done = samara.json("publisher", "rotate", "acme", "root.key", "--key", sticks[0], "--key", sticks[1])
    assert done["thresholds"]["root"] == 2
    assert follows(samara, identity)["versions"]["root"] == 4


def test_somebody_elses_public_key_signs_with_ours(samara: Samara, identity: str) -> None:
    samara("publisher", "add-key", "acme", "--role", "root", "--public", new_key().public.hex())
    samara("publisher", "set-threshold", "acme", "root", "2", code=ExitCode.TRUST)  # theirs isn't here to sign
    assert load_publisher(samara.home, "acme").chain.version == 2
    for junk in ("", "xyz", "ab" * 31, "ab" * 33):
        samara("publisher", "add-key", "acme", "--role", "root", "--public", junk, code=ExitCode.USAGE)
    ours = keys_of(samara)["root.key"]["public"]
    samara("publisher", "add-key", "acme", "--role", "root", "--public", ours, code=ExitCode.USAGE)
    assert load_publisher(samara.home, "acme").chain.version == 2


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("remove-key", "acme", "root"), ExitCode.USAGE),
        (("remove-key", "acme", "online"), ExitCode.USAGE),
        (("remove-key", "acme", "beacon"), ExitCode.USAGE),
        (("remove-key", "acme", "nobody"), ExitCode.NOT_FOUND),
        (("remove-key", "acme", "online", "--role", "root"), ExitCode.USAGE),
        (("rotate", "acme", "nobody"), ExitCode.NOT_FOUND),
        (("rotate", "other", "online"), ExitCode.NOT_FOUND),
        (("add-key", "acme", "--role", "beacon"), ExitCode.USAGE),
        (("add-key", "acme", "--role", "mirrors"), ExitCode.USAGE),
        (("set-threshold", "acme", "root", "2"), ExitCode.USAGE),
        (("set-threshold", "acme", "beacon", "1"), ExitCode.USAGE),
    ],
)
def test_a_change_that_would_strand_the_publisher_changes_nothing(
    samara: Samara, identity: str, command: tuple[str, ...], code: ExitCode
) -> None:
    before = content(samara.home.keys)
    samara("publisher", *command, code=code)
    assert content(samara.home.keys) == before


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"
    }


# -- key files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_signs_nothing(samara: Samara, identity: str, mode: int) -> None:
    folder = samara.home.keys / "acme"
    for name, command in (
        ("online.key", ("publisher", "refresh", "acme")),
        ("root.key", ("publisher", "rotate", "acme", "online")),
    ):
        (folder / name).chmod(mode)
        refused = samara(*command, code=ExitCode.TRUST)
        assert "can be read by others" in refused.err
        assert f"chmod 600 {folder / name}" in refused.err
        (folder / name).chmod(0o600)
    stick = samara.folder / "stick.key"
    shutil.copy(folder / "root.key", stick)
    (folder / "root.key").unlink()
    stick.chmod(mode)
    samara("publisher", "rotate", "acme", "online", "--key", str(stick), code=ExitCode.TRUST)
    stick.chmod(0o600)
    samara("publisher", "rotate", "acme", "online", "--key", str(stick))


def test_every_key_ever_made_is_the_owners_alone(samara: Samara, identity: str) -> None:
    samara("publisher", "rotate", "acme", "online")
    samara("publisher", "add-key", "acme", "--role", "root")
    files = list((samara.home.keys / "acme").glob("*.key"))
    assert len(files) == 5
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_wrong_passphrase_signs_nothing(samara: Samara) -> None:
    samara.setenv(SAMARA_PASSPHRASE="right")
    samara.publisher()
    publish(samara, "tiny one", "v1")
    before = content(samara.home.keys)
    samara.setenv(SAMARA_PASSPHRASE="wrong")
    for command in (
        ("publisher", "refresh", "acme"),
        ("publisher", "rotate", "acme", "online"),
        ("retract", "acme/tiny:v1", "--reason", "x"),
        ("tag", "acme/tiny:v1", "stable"),
        ("publisher", "export", "acme", "acme.recovery"),
    ):
        assert "wrong passphrase" in samara(*command, code=ExitCode.TRUST).err
    samara.setenv(SAMARA_PASSPHRASE="")
    assert "SAMARA_PASSPHRASE" in samara("publisher", "refresh", "acme", code=ExitCode.TRUST).err
    assert content(samara.home.keys) == before
    assert not (samara.folder / "acme.recovery").exists()
    samara.setenv(SAMARA_PASSPHRASE="right")
    samara("publisher", "rotate", "acme", "online")
    assert all(key["encrypted"] for key in keys_of(samara).values()), "a new key is locked like the others"


# -- recovery ----------------------------------------------------------------------------------------------------------


def exported(samara: Samara) -> Path:
    samara.setenv(SAMARA_PASSPHRASE="right")
    file = samara.folder / "acme.recovery"
    samara("publisher", "export", "acme", str(file))
    return file


def test_a_restored_publisher_goes_on_from_its_versions(samara: Samara, identity: str) -> None:
    """Or everybody who saw the newer ones would take it for a rollback."""
    samara("publisher", "rotate", "acme", "online")
    for _ in range(3):
        samara("publisher", "refresh", "acme")
    version = follows(samara, identity)["versions"]["timestamp"]
    exported(samara)
    samara.use("new-house")
    restored = samara.json("publisher", "import", "acme.recovery")
    assert (restored["identity"], restored["root_version"]) == (identity, 2)
    assert restored["catalog"]["timestamp_version"] == version
    samara("publisher", "refresh", "acme")
    shutil.rmtree(samara.folder / "site")
    samara("publisher", "metadata", "acme", "site")
    samara.use("reader")
    samara("trust", "sources", "acme", "--add", "site")
    samara("pull", f"acme/tiny@{manifest(samara)}", "--no-p2p")
    assert samara.json("trust", "show", "acme")["catalog"]["versions"]["timestamp"] >= version


def manifest(samara: Samara) -> str:
    (release,) = samara.json("trust", "show", "acme")["catalog"]["releases"]
    found: str = release["manifest"]
    return found


@pytest.mark.long
def test_from_an_old_recovery_file_sync_comes_first(samara: Samara, identity: str) -> None:
    exported(samara)
    samara("publisher", "rotate", "acme", "online")
    publish(samara, "tiny two", "v2")
    samara("publisher", "metadata", "acme", "site")
    samara.use("new-house")
    samara("publisher", "import", "acme.recovery")
    samara("trust", "sources", "acme", "--add", "site")
    publish(samara, "tiny three", "v3", code=ExitCode.TRUST)
    samara("publisher", "sync", "acme")
    assert load_publisher(samara.home, "acme").chain.version == 2
    publish(samara, "tiny three", "v3", code=ExitCode.TRUST)  # the online key was rotated since: it isn't in that file
    samara("publisher", "rotate", "acme", "online", code=ExitCode.USAGE)
    current = load_publisher(samara.home, "acme").chain.newest.roles["timestamp"].keyids[0]
    samara("publisher", "rotate", "acme", current[:12])
    publish(samara, "tiny three", "v3")
    assert set(state_names(samara)) == {"tiny/v1", "tiny/v2", "tiny/v3"}


def state_names(samara: Samara) -> list[str]:
    state = own_catalog(load_publisher(samara.home, "acme"))
    assert state is not None
    return list(state.catalog.entries)


def test_a_recovery_file_with_a_key_in_the_clear_is_refused(samara: Samara, identity: str) -> None:
    file = exported(samara)
    value = json.loads(file.read_bytes())
    clear = (samara.home.keys / "acme" / "online.key").read_text()
    for key in value["keys"]:
        if key["file"] == "online.key":
            key["sealed"] = clear
    file.write_text(json.dumps(value))
    samara.use("new-house")
    refused = samara("publisher", "import", "acme.recovery", code=ExitCode.INTEGRITY)
    assert "anybody can read" in refused.err
    assert not (samara.home.keys / "acme").exists()


@pytest.mark.parametrize("what", ["version", "entries", "mixed"])
@pytest.mark.long
def test_a_recovery_file_whose_catalog_was_changed_signs_nothing(samara: Samara, identity: str, what: str) -> None:
    """Whoever finds it can't open its keys. He mustn't get our own key to sign what he wrote into it either."""
    first = own_bundle(load_publisher(samara.home, "acme"))
    samara("publisher", "refresh", "acme")
    publish(samara, "tiny two", "v2")
    file = exported(samara)
    value = json.loads(file.read_bytes())
    bundle = unpack_metadata(base64.b64decode(value["catalog"]))
    assert first is not None
    changed = {
        "version": replace(bundle, timestamp=bundle.timestamp.replace(b'"version":3', b'"version":9')),
        "entries": replace(bundle, targets=bundle.targets.replace(b'"length":', b'"length":1')),
        "mixed": replace(bundle, targets=first.targets),
    }[what]
    assert changed != bundle
    value["catalog"] = base64.b64encode(pack_metadata(changed)).decode()
    file.write_text(json.dumps(value))
    samara.use("new-house")
    said = samara("publisher", "import", "acme.recovery", code=ExitCode.TRUST)
    before = content(samara.home.keys)
    for refused in (said, samara("publisher", "refresh", "acme", code=ExitCode.TRUST)):
        assert "samara publisher sync acme" in refused.err
    assert content(samara.home.keys) == before
    (samara.home.keys / "acme" / "catalog").unlink()  # as it says; the keys are good
    samara("publisher", "refresh", "acme")


def test_what_a_reader_knows_is_never_lowered_by_all_this(samara: Samara, identity: str) -> None:
    versions: list[tuple[int, int]] = []
    for command in (
        ("publisher", "refresh", "acme"),
        ("publisher", "rotate", "acme", "online"),
        ("publisher", "add-key", "acme", "--role", "online"),
        ("tag", "acme/tiny:v1", "stable"),
        ("publisher", "remove-key", "acme", "online-2"),
        ("retract", "acme/tiny:stable", "--reason", "why not"),
        ("publisher", "refresh", "acme", "--renew-root"),
    ):
        samara(*command)
        publish(samara, f"tiny {len(versions)}", "v1")
        found = follows(samara, identity)["versions"]
        versions.append((found["root"], found["timestamp"]))
    assert versions == sorted(set(versions))
    samara.use("reader")
    trust = TrustFolder(samara.home.trust)
    assert CatalogClient(trust, identity).evidence() == ()
