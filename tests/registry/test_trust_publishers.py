"""Publishers: made, loaded, backed up, restored, never overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from trust_kit import NOW, QUICK, VECTOR, home_at, line_of, payload_of, quick_publisher

from samara.registry.durable import TEMPORARY_PREFIX
from samara.registry.home import Home
from samara.registry.trust.keys import is_sealed, new_key, save_key, seal_key
from samara.registry.trust.making import import_publisher, init_publisher
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import key_facts, list_publishers, load_publisher
from samara.registry.trust.recovery import MAX_RECOVERY_BYTES, Recovery, pack_recovery
from samara.registry.trust.signing import verify_envelope
from samara.schemas.errors import MalformedError, NotFoundError, StoreError, TrustError, UsageError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path / "home")


def never_asked(what: str) -> str:
    raise AssertionError(f"asked for the passphrase of {what}")


def recovered(home: Home, file: Path) -> None:
    init_publisher(home, "acme", passphrase="right", recovery=file, now=NOW, kdf_rounds=QUICK)


def test_a_new_publisher_signs_and_is_pinned(home: Home) -> None:
    publisher = quick_publisher(home)
    envelope = publisher.sign(payload_of(publisher.identity), publisher.online_keys(never_asked))
    assert verify_envelope(envelope, publisher.chain)
    trust = TrustFolder(home.trust)
    assert trust.resolve("acme").identity == publisher.identity
    assert trust.stored_chain(publisher.identity) == publisher.chain


def test_it_is_the_same_when_loaded(home: Home) -> None:
    made = quick_publisher(home)
    assert load_publisher(home, "acme") == made
    assert made.created == "2026-01-02T03:04:05Z"
    assert list_publishers(home) == ("acme",)
    assert sorted(p.relative_to(made.folder).as_posix() for p in made.folder.rglob("*") if p.is_file()) == [
        "beacon.key",
        "online.key",
        "publisher.json",
        "root.key",
        "roots/1.root.json",
    ]


def test_three_keys_have_their_roles(home: Home) -> None:
    facts = {fact.file: fact for fact in key_facts(quick_publisher(home))}
    assert {file: fact.roles for file, fact in facts.items()} == {
        "root.key": ("root",),
        "online.key": ("targets", "snapshot", "timestamp"),
        "beacon.key": ("beacon",),
    }
    assert all(fact.here and fact.encrypted is False for fact in facts.values())


def test_two_publishers_have_two_identities(home: Home) -> None:
    assert quick_publisher(home, "acme").identity != quick_publisher(home, "beta").identity
    assert list_publishers(home) == ("acme", "beta")


if os.name == "posix":  # modes mean nothing elsewhere

    def test_keys_are_for_their_owner_only(home: Home) -> None:
        publisher = quick_publisher(home)
        assert publisher.folder.stat().st_mode & 0o777 == 0o700
        assert home.keys.stat().st_mode & 0o777 == 0o700
        assert {key.stat().st_mode & 0o777 for key in publisher.folder.glob("*.key")} == {0o600}

    def test_a_signing_key_that_others_may_read_signs_nothing(home: Home) -> None:
        publisher = quick_publisher(home)
        (publisher.folder / "online.key").chmod(0o644)
        with pytest.raises(TrustError, match="chmod 600"):
            publisher.online_keys()


def test_with_a_passphrase_every_key_is_encrypted_and_it_is_asked_for(home: Home) -> None:
    publisher = quick_publisher(home, passphrase="right")
    assert all(fact.encrypted for fact in key_facts(publisher))
    asked: list[str] = []

    def answer(what: str) -> str:
        asked.append(what)
        return "right"

    assert publisher.sign(b"{}", publisher.online_keys(answer)).signatures
    assert asked == ["online.key of acme"]
    with pytest.raises(TrustError, match=r"wrong passphrase for online\.key of acme"):
        publisher.online_keys(lambda _: "wrong")
    with pytest.raises(TrustError, match="SAMARA_PASSPHRASE"):
        publisher.online_keys(None)


def test_a_publisher_is_never_overwritten(home: Home) -> None:
    first = quick_publisher(home)
    with pytest.raises(UsageError, match=f"already exists, with identity {first.identity}"):
        quick_publisher(home)
    assert load_publisher(home, "acme") == first


def test_the_name_of_a_trusted_publisher_is_not_taken(home: Home) -> None:
    other = line_of(1)
    TrustFolder(home.trust).add("acme", other.identity, now=NOW)
    with pytest.raises(UsageError, match=other.identity):
        quick_publisher(home)
    assert list_publishers(home) == ()


@pytest.mark.parametrize("name", ["", "Acme", "../acme", "a/b", "con", VECTOR])
def test_a_publisher_needs_a_plain_name(home: Home, name: str) -> None:
    with pytest.raises(UsageError):
        quick_publisher(home, name)


def test_an_unknown_publisher_is_not_found(home: Home) -> None:
    for name in ("acme", "../home"):
        with pytest.raises(NotFoundError, match="samara publisher init"):
            load_publisher(home, name)
    assert list_publishers(home) == ()


def test_leftovers_of_a_killed_run_are_swept(home: Home) -> None:
    half = home.keys / f"{TEMPORARY_PREFIX}0123"
    half.mkdir(parents=True)
    (half / "root.key").write_bytes(b"half a secret")
    assert list_publishers(home) == ()
    quick_publisher(home)
    assert not half.exists()


def test_a_pin_that_a_killed_run_did_not_write_is_written_by_the_next(home: Home) -> None:
    publisher = quick_publisher(home)
    TrustFolder(home.trust).remove("acme")
    with pytest.raises(UsageError, match="already exists"):
        quick_publisher(home)
    assert TrustFolder(home.trust).resolve("acme").identity == publisher.identity


@pytest.mark.parametrize("left", [b"", b"{}", b"[1]", b'{"format":"samara-publisher-9"}'])
def test_a_damaged_state_file_is_said_and_not_replaced(home: Home, left: bytes) -> None:
    publisher = quick_publisher(home)
    (publisher.folder / "publisher.json").write_bytes(left)
    for attempt in (load_publisher, quick_publisher):
        with pytest.raises(StoreError, match=r"publisher\.json"):
            attempt(home, "acme")


def test_a_state_file_of_a_newer_version_is_left_alone(home: Home) -> None:
    path = quick_publisher(home).folder / "publisher.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "format": "samara-publisher-2"}))
    with pytest.raises(StoreError, match="another version"):
        load_publisher(home, "acme")


def test_a_damaged_root_of_ones_own_is_noticed(home: Home) -> None:
    root = quick_publisher(home).folder / "roots" / "1.root.json"
    root.write_bytes(root.read_bytes().replace(b"2027", b"2099"))
    with pytest.raises(TrustError, match="another publisher"):
        load_publisher(home, "acme")


def test_the_root_key_may_be_taken_away(home: Home) -> None:
    publisher = quick_publisher(home)
    (publisher.folder / "root.key").unlink()
    again = load_publisher(home, "acme")
    assert again.sign(b"{}", again.online_keys()).signatures
    assert [fact.file for fact in key_facts(again) if not fact.here] == ["root.key"]


def test_without_its_online_key_a_publisher_signs_nothing(home: Home) -> None:
    publisher = quick_publisher(home)
    (publisher.folder / "online.key").unlink()
    with pytest.raises(TrustError, match="no key of acme that may sign manifests is here"):
        publisher.online_keys()


def test_a_key_file_with_another_key_in_it_signs_nothing(home: Home) -> None:
    publisher = quick_publisher(home)
    save_key(publisher.folder / "online.key", seal_key(new_key(), None))
    with pytest.raises(TrustError, match="holds another key"):
        publisher.online_keys()


def test_a_recovery_file_restores_a_publisher_elsewhere(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "acme.recovery"
    recovered(home, file)
    made, elsewhere = load_publisher(home, "acme"), home_at(tmp_path / "elsewhere")
    asked: list[str] = []

    def answer(what: str) -> str:
        asked.append(what)
        return "right"

    restored = import_publisher(elsewhere, file, answer, now=NOW)
    assert asked == ["recovery file acme.recovery"]
    assert (restored.identity, restored.chain, restored.keys) == (made.identity, made.chain, made.keys)
    assert all(fact.encrypted for fact in key_facts(restored))
    assert verify_envelope(restored.sign(b"{}", restored.online_keys(lambda _: "right")), made.chain)
    assert TrustFolder(elsewhere.trust).resolve("acme").identity == made.identity


def test_a_recovery_file_is_private_and_encrypted(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "acme.recovery"
    recovered(home, file)
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    assert all(is_sealed(key["sealed"].encode()) for key in json.loads(file.read_bytes())["keys"])


def test_a_recovery_file_needs_a_passphrase_and_a_new_name(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "acme.recovery"
    with pytest.raises(UsageError, match="needs a passphrase"):
        init_publisher(home, "acme", passphrase=None, recovery=file, now=NOW)
    file.write_text("precious")
    with pytest.raises(UsageError, match="nothing is overwritten"):
        recovered(home, file)
    with pytest.raises(UsageError, match="can't write to folder"):
        recovered(home, tmp_path / "absent" / "file")
    assert file.read_text() == "precious"
    assert list_publishers(home) == ()


def test_a_recovery_file_can_be_imported_under_another_name(home: Home, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "acme.recovery", home_at(tmp_path / "elsewhere")
    recovered(home, file)
    assert import_publisher(elsewhere, file, lambda _: "right", now=NOW, name="beta").name == "beta"
    assert TrustFolder(elsewhere.trust).resolve("beta").alias == "beta"


def test_importing_over_a_publisher_is_refused(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "acme.recovery"
    recovered(home, file)
    with pytest.raises(UsageError, match="already exists"):
        import_publisher(home, file, never_asked, now=NOW)


def test_a_wrong_passphrase_restores_nothing(home: Home, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "acme.recovery", home_at(tmp_path / "elsewhere")
    recovered(home, file)
    for ask in (lambda _: "wrong", lambda _: None):
        with pytest.raises(TrustError, match="passphrase"):
            import_publisher(elsewhere, file, ask, now=NOW)
    assert list_publishers(elsewhere) == ()
    assert TrustFolder(elsewhere.trust).list() == ()


def test_a_recovery_file_with_a_foreign_key_restores_nothing(home: Home, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "acme.recovery", home_at(tmp_path / "elsewhere")
    recovered(home, file)
    value, stranger = json.loads(file.read_bytes()), new_key()
    value["keys"][1].update(sealed=seal_key(stranger, "right", rounds=QUICK).decode())
    file.write_text(json.dumps(value))
    with pytest.raises(TrustError, match="is not a key of publisher"):
        import_publisher(elsewhere, file, lambda _: "right", now=NOW)
    value["keys"][1].update(public=stranger.public.hex())
    file.write_text(json.dumps(value))
    with pytest.raises(TrustError, match="is not a key of publisher"):
        import_publisher(elsewhere, file, lambda _: "right", now=NOW)


def test_a_recovery_file_with_two_keys_exchanged_restores_nothing(home: Home, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "acme.recovery", home_at(tmp_path / "elsewhere")
    recovered(home, file)
    value = json.loads(file.read_bytes())
    first, second = value["keys"][:2]
    first["sealed"], second["sealed"] = second["sealed"], first["sealed"]
    file.write_text(json.dumps(value))
    with pytest.raises(TrustError, match="is not a key of publisher"):
        import_publisher(elsewhere, file, lambda _: "right", now=NOW)


@pytest.mark.parametrize("name", ["../root.key", "/tmp/root.key", "publisher.json", "root.key\n", ".key", "ROOT.key"])
def test_a_recovery_file_writes_key_files_only_into_its_folder(home: Home, tmp_path: Path, name: str) -> None:
    file, elsewhere = tmp_path / "acme.recovery", home_at(tmp_path / "elsewhere")
    recovered(home, file)
    value = json.loads(file.read_bytes())
    value["keys"][0]["file"] = name
    file.write_text(json.dumps(value))
    with pytest.raises(MalformedError, match="not a recovery file"):
        import_publisher(elsewhere, file, lambda _: "right", now=NOW)


def test_a_key_in_the_clear_never_gets_into_a_recovery_file(home: Home) -> None:
    key, publisher = new_key(), quick_publisher(home)
    material = Recovery(
        name="acme",
        created=publisher.created,
        roots=publisher.chain.roots,
        keys=((publisher.keys[0], seal_key(key, None)),),
    )
    with pytest.raises(UsageError, match="needs a passphrase"):
        pack_recovery(material)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "samara-recovery-9"},
        {"name": "../../etc"},
        {"roots": []},
        {"roots": ["not base64!"]},
        {"roots": ["e30="]},
        {"keys": []},
        {"keys": [{"file": "root.key", "use": "root", "public": "00" * 32, "sealed": "x"}] * 2},
        {"keys": [{"file": "root.key", "use": "root", "public": "00" * 32, "sealed": "\u00e9"}]},
        {"keys": 7},
    ],
)
def test_a_malformed_recovery_file_restores_nothing(home: Home, tmp_path: Path, change: dict[str, object]) -> None:
    file, elsewhere = tmp_path / "acme.recovery", home_at(tmp_path / "elsewhere")
    recovered(home, file)
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **change}))
    with pytest.raises(MalformedError):
        import_publisher(elsewhere, file, lambda _: "right", now=NOW)
    assert list_publishers(elsewhere) == ()


def test_what_is_no_recovery_file_is_said(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no recovery file"):
        import_publisher(home, tmp_path / "absent", never_asked, now=NOW)
    with pytest.raises(UsageError, match="can't read"):
        import_publisher(home, tmp_path, never_asked, now=NOW)
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(MAX_RECOVERY_BYTES + 1)
    with pytest.raises(MalformedError, match="too large"):
        import_publisher(home, tmp_path / "huge", never_asked, now=NOW)
