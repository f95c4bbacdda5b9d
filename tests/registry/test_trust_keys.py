"""Key files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from trust_kit import QUICK

from samara.registry.trust.keys import is_sealed, key_id, load_key, new_key, open_key, save_key, seal_key
from samara.schemas.errors import MalformedError, NotFoundError, TrustError


def never_asked(what: str) -> str:
    raise AssertionError(f"asked for the passphrase of {what}")


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    key = new_key()
    save_key(tmp_path / "a.key", seal_key(key, None))
    again = load_key(tmp_path / "a.key", never_asked, what="a.key")
    assert again == key
    assert again.keyid == key.keyid == key_id(key.public)


def test_with_a_passphrase_the_file_holds_no_secret_in_the_clear() -> None:
    key = new_key()
    plain, sealed = seal_key(key, None), seal_key(key, "open sesame", rounds=QUICK)
    assert (is_sealed(plain), is_sealed(sealed)) == (False, True)
    assert key._private.private_bytes_raw() in _body(plain)
    assert key._private.private_bytes_raw() not in _body(sealed)
    assert open_key(sealed, lambda _: "open sesame", what="k") == key


def test_more_rounds_are_written_into_the_file() -> None:
    key = new_key()
    assert b"bcrypt" in _body(seal_key(key, "x", rounds=QUICK))
    assert (7).to_bytes(4, "big") in _body(seal_key(key, "x", rounds=7))


@pytest.mark.parametrize(("answer", "message"), [("wrong", "wrong passphrase"), (None, "encrypted"), ("", "encrypted")])
def test_a_wrong_or_missing_passphrase_is_refused(answer: str | None, message: str) -> None:
    sealed = seal_key(new_key(), "right", rounds=QUICK)
    with pytest.raises(TrustError, match=message):
        open_key(sealed, lambda _: answer, what="root.key of acme")


def test_without_anyone_to_ask_the_message_says_where_a_passphrase_comes_from() -> None:
    with pytest.raises(TrustError, match="SAMARA_PASSPHRASE"):
        open_key(seal_key(new_key(), "right", rounds=QUICK), None, what="root.key of acme")


@pytest.mark.parametrize("data", [b"", b"hello", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", b"\xff" * 100])
def test_what_is_no_key_file_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        open_key(data, None, what="a.key")


def test_a_truncated_key_file_is_malformed() -> None:
    whole = seal_key(new_key(), None)
    for end in range(0, len(whole) - 40, 7):
        with pytest.raises(MalformedError):
            open_key(whole[:end], None, what="a.key")


def test_keys_of_another_kind_are_refused() -> None:
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with pytest.raises(MalformedError, match="Ed25519"):
        open_key(other, None, what="a.key")


def test_a_missing_key_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"online\.key"):
        load_key(tmp_path / "online.key", None, what="online.key")


def test_a_file_of_any_size_is_no_key_file(tmp_path: Path) -> None:
    save_key(tmp_path / "a.key", b"x" * 100_000)
    with pytest.raises(MalformedError, match="not a key file"):
        load_key(tmp_path / "a.key", None, what="a.key")


def test_the_repr_tells_no_secret() -> None:
    key = new_key()
    assert key._private.private_bytes_raw().hex() not in repr(key)
    assert "_private" not in repr(key)


if os.name == "posix":  # modes mean nothing elsewhere

    def test_key_files_are_for_their_owner_only(tmp_path: Path) -> None:
        save_key(tmp_path / "a.key", seal_key(new_key(), None))
        assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
    def test_a_key_file_open_to_others_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
        path = tmp_path / "my key.key"
        save_key(path, seal_key(new_key(), None))
        path.chmod(mode)
        with pytest.raises(TrustError) as caught:
            load_key(path, None, what="my key.key")
        assert caught.value.next_step == f"run: chmod 600 '{path}'"
        path.chmod(0o600)
        load_key(path, None, what="my key.key")


def _body(pem: bytes) -> bytes:
    import base64

    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))
