"""Ed25519 key files: OpenSSH private key format, bcrypt_pbkdf when a passphrase is given, readable by the owner only.

Makes, seals, opens, saves and loads single keys. Doesn't know what a key is for, and never asks for a passphrase by
itself: an `AskPassphrase` is handed in.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from samara.registry.durable import io_errors, write_durably
from samara.schemas.errors import MalformedError, NotFoundError, TrustError

if TYPE_CHECKING:
    from samara.registry.trust.library import CryptoSigner, Ed25519PrivateKey, SSlibKey

KEY_FILE_MODE = 0o600
KDF_ROUNDS = 64  # of bcrypt_pbkdf: about 0.8 s to try one passphrase on a 2-core server; ssh-keygen takes 24
MAX_KEY_FILE_BYTES = 64 * 1024
_P = 2**255 - 19  # RFC 8032 §5.1
_D = -121665 * pow(121666, -1, _P) % _P

AskPassphrase = Callable[[str], str | None]
"""Given what is locked ("root.key of acme"), the passphrase; None when nobody can be asked."""


@dataclass(frozen=True)
class SecretKey:
    """A private key in memory. Its repr shows the public half only."""

    public: bytes
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    @cached_property
    def keyid(self) -> str:
        """The key id TUF and DSSE know it by."""
        return key_id(self.public)

    @property
    def seed(self) -> bytes:
        """The private half (32 bytes, RFC 8032), for a beacon: the DHT's library signs by itself."""
        return self._private.private_bytes_raw()

    def signer(self) -> CryptoSigner:
        """For this room's use only: the library's signer."""
        from samara.registry.trust.library import CryptoSigner

        return CryptoSigner(self._private, tuf_key(self.public))


def tuf_key(public: bytes, *, keyid: str | None = None) -> SSlibKey:
    """For this room's use only: the library's public key of 32 raw bytes, under its own id or a given one."""
    from samara.registry.trust.library import Ed25519PublicKey, SSlibKey

    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public), keyid=keyid)


def key_id(public: bytes) -> str:
    """32 raw public bytes → key id (64 hex digits): SHA-256 over the key's canonical JSON (TUF §4.2)."""
    return tuf_key(public).keyid


def is_sound(public: bytes) -> bool:
    """Whether 32 bytes are a public key that somebody can hold alone: a point of Ed25519 (RFC 8032 §5.1.3), in its one
    spelling, and none of the eight for which anybody can make signatures. All zeros are one of those.
    """
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if len(public) != 32 or not 1 < y < _P - 1:
        return False
    x2 = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    return pow(x2, (_P - 1) // 2, _P) == 1 and (x2 + y * y) % _P != 0


def new_key() -> SecretKey:
    """A fresh Ed25519 key from the system's randomness."""
    from samara.registry.trust.library import Ed25519PrivateKey

    return _secret(Ed25519PrivateKey.generate())


def seal_key(key: SecretKey, passphrase: str | None, *, rounds: int = KDF_ROUNDS) -> bytes:
    """The key as an OpenSSH private key file; encrypted if there is a passphrase."""
    from samara.registry.trust.library import Encoding, KeySerializationEncryption, NoEncryption, PrivateFormat

    lock: KeySerializationEncryption = NoEncryption()
    if passphrase:
        lock = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(rounds).build(passphrase.encode())
    return key._private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock)


def is_sealed(data: bytes, *, what: str = "key file") -> bool:
    """Whether a key file needs a passphrase. Raises MalformedError if it is no key file."""
    return _try_open(data, None, what) is None


def open_key(data: bytes, ask: AskPassphrase | None, *, what: str) -> SecretKey:
    """Key file bytes → key, asking for the passphrase only if there is one.

    Raises TrustError (wrong or missing passphrase) or MalformedError. `what` names the key in messages.
    """
    key = _try_open(data, None, what)
    if key is not None:
        return key
    passphrase = ask(what) if ask is not None else None
    if not passphrase:
        raise TrustError(
            f"{what} is encrypted and no passphrase was given",
            next_step="set SAMARA_PASSPHRASE, or run this on a terminal to be asked",
        )
    key = _try_open(data, passphrase, what)
    if key is None:  # pragma: no cover  (the library asks for a passphrase that it was given)
        raise MalformedError(f"{what} is damaged")
    return key


def save_key(path: Path, data: bytes) -> None:
    """Write a key file durably, readable by its owner only."""
    write_durably(path, data, mode=KEY_FILE_MODE)


def read_key_file(path: Path) -> bytes:
    """A key file's bytes. Raises TrustError if anyone but its owner may read it, NotFoundError if it isn't here."""
    with io_errors(path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise NotFoundError(
                f"key file {path} is not here", next_step="put it back, or run `samara publisher import RECOVERY-FILE`"
            ) from None
        with file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise TrustError(
                    f"key file {path} can be read by others", expected="mode 0600", actual=f"mode {mode:04o}",
                    next_step=f"run: chmod 600 {shlex.quote(str(path))}",
                )  # fmt: skip
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    if len(data) > MAX_KEY_FILE_BYTES:
        raise MalformedError(f"{path} is not a key file", expected=f"≤ {MAX_KEY_FILE_BYTES} bytes")
    return data


def load_key(path: Path, ask: AskPassphrase | None, *, what: str) -> SecretKey:
    """`read_key_file` and `open_key` in one."""
    return open_key(read_key_file(path), ask, what=what)


def _try_open(data: bytes, passphrase: str | None, what: str) -> SecretKey | None:
    """The key; None if it wants a passphrase and got none."""
    from samara.registry.trust.library import Ed25519PrivateKey, UnsupportedAlgorithm, load_ssh_private_key

    try:
        private = load_ssh_private_key(data, None if passphrase is None else passphrase.encode())
    except TypeError:  # how the library says "a passphrase is needed"
        return None
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise TrustError(f"wrong passphrase for {what} (or the file is damaged)", next_step="try again") from None
        raise MalformedError(f"{what} is not an OpenSSH private key ({error})") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise MalformedError(f"{what} is of a kind we don't use", expected="Ed25519", actual=type(private).__name__)
    return _secret(private)


def _secret(private: Ed25519PrivateKey) -> SecretKey:
    return SecretKey(private.public_key().public_bytes_raw(), private)
