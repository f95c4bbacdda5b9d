"""A publisher of this machine: keys/<name>/ with its key files, roots/N.root.json and publisher.json.

Loads them and opens keys to sign with. How such a folder comes to be is `making`, how its keys change `key_changes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samara.registry.durable import (
    io_errors,
    write_durably,
)
from samara.registry.home import Home
from samara.registry.trust.files import read_small
from samara.registry.trust.keys import (
    AskPassphrase,
    SecretKey,
    is_sealed,
    key_id,
    load_key,
)
from samara.registry.trust.recovery import (
    KeyRecord,
)
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.signing import sign_payload
from samara.schemas.envelope import Envelope, canonical_json, strict_json
from samara.schemas.errors import MalformedError, NotFoundError, StoreError, TrustError
from samara.schemas.references import Identity, is_name
from samara.schemas.release_file import MAX_ROOT_BYTES

PUBLISHER_FORMAT = "samara-publisher-1"
_STATE_FILE = "publisher.json"
CATALOG_FILE = "catalog"
FOLDER_MODE = 0o700
ONLINE_ROLES = ("targets", "snapshot", "timestamp")


class _State(BaseModel):
    """publisher.json."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)

    format: str
    name: str
    identity: Identity
    created: str
    keys: list[KeyRecord] = Field(max_length=64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Publisher:
    """A publisher this machine can sign for. `keys` are those held here, some perhaps taken offline since."""

    name: str
    identity: str
    created: str
    folder: Path
    chain: RootChain
    keys: tuple[KeyRecord, ...]

    def key_path(self, record: KeyRecord) -> Path:
        """Where a key's file lies, or lay."""
        return self.folder / record.file

    def open_keys(self, roles: Iterable[str], ask: AskPassphrase | None = None) -> tuple[SecretKey, ...]:
        """Every key that is here of these TUF roles, or "beacon"; `ask` is called only for encrypted ones.

        Empty if none is here. Raises TrustError for a passphrase that is wrong or missing.
        """
        root = self.chain.newest
        allowed: set[bytes | None] = set()
        for role in roles:
            allowed |= {root.beacon} if role == "beacon" else set(root.keys_of(role).values())
        return tuple(
            self.open_key(record, ask)
            for record in self.keys
            if record.public_bytes in allowed and self.key_path(record).exists()
        )

    def open_key(self, record: KeyRecord, ask: AskPassphrase | None) -> SecretKey:
        """One key of this publisher. Raises TrustError or NotFoundError."""
        what = f"{record.file} of {self.name}"
        key = load_key(self.key_path(record), ask, what=what)
        if key.public != record.public_bytes:
            raise TrustError(f"{what} holds another key", expected=record.public, actual=key.public.hex())
        return key

    def online_keys(self, ask: AskPassphrase | None = None) -> tuple[SecretKey, ...]:
        """The keys that sign manifests and the catalog. Raises TrustError if too few for a manifest are here."""
        keys = self.open_keys(ONLINE_ROLES, ask)
        have = len({key.public for key in keys} & set(self.chain.targets_keys.values()))
        if have < self.chain.targets_threshold:
            raise TrustError(
                f"{'no key' if not have else 'too few keys'} of {self.name} that may sign manifests"
                f" {'is' if not have else 'are'} here",
                expected=f"{self.chain.targets_threshold} key file(s) in {self.folder}", actual=have,
                next_step="put the online key back, or run `samara publisher import RECOVERY-FILE`",
            )  # fmt: skip
        return keys

    def sign(self, payload: bytes, keys: Sequence[SecretKey]) -> Envelope:
        """Payload → envelope, signed by every targets key among `keys`."""
        allowed = set(self.chain.targets_keys.values())
        return sign_payload(payload, [key for key in keys if key.public in allowed])


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyFacts:
    """One key of a publisher, for showing. `file`: its name if this machine ever held it; `here`: still does.

    `roles`: TUF roles in the newest root, or "beacon"; empty for a retired key. `encrypted` is None unless `here`.
    """

    keyid: str
    public: str
    roles: tuple[str, ...]
    file: str | None
    here: bool
    encrypted: bool | None


def key_facts(publisher: Publisher) -> tuple[KeyFacts, ...]:
    """Every key held here, then those of the newest root that others hold. Opens none."""
    root = publisher.chain.newest
    keyids = {public: keyid for keyid, public in root.keys.items()}
    files = {record.public_bytes: record.file for record in publisher.keys}
    beacons = [root.beacon] if root.beacon else []
    return tuple(_facts_of(publisher, p, keyids, files) for p in dict.fromkeys([*files, *keyids, *beacons]))


def _facts_of(publisher: Publisher, public: bytes, keyids: Mapping[bytes, str], files: Mapping[bytes, str]) -> KeyFacts:
    root = publisher.chain.newest
    keyid = keyids.get(public) or key_id(public)
    roles = [role for role, who in root.roles.items() if keyid in who.keyids]
    path = publisher.folder / files[public] if public in files else None
    here = path is not None and path.exists()
    encrypted = None
    if path is not None and here:
        with io_errors(path):
            encrypted = is_sealed(path.read_bytes(), what=f"key file {path}")
    return KeyFacts(
        keyid=keyid,
        public=public.hex(),
        roles=(*roles, "beacon") if public == root.beacon else tuple(roles),
        file=files.get(public),
        here=here,
        encrypted=encrypted,
    )


def load_publisher(home: Home, name: str) -> Publisher:
    """The publisher `name` of this machine. Opens no key. Raises NotFoundError, StoreError or TrustError."""
    folder = home.keys / name
    if not is_name(name) or not folder.is_dir() or not any(folder.iterdir()):
        raise NotFoundError(f"no publisher {name!r} on this machine", next_step=f"run: samara publisher init {name}")
    state = _read_state(folder / _STATE_FILE)
    roots: list[bytes] = []
    while (path := folder / "roots" / f"{len(roots) + 1}.root.json").exists():
        roots.append(read_small(path, limit=MAX_ROOT_BYTES))
    return Publisher(
        name=name,
        identity=state.identity,
        created=state.created,
        folder=folder,
        chain=verify_root_chain(state.identity, roots),
        keys=tuple(state.keys),
    )


def list_publishers(home: Home) -> tuple[str, ...]:
    """Names of the publishers of this machine."""
    with io_errors(home.keys):
        entries = sorted(home.keys.iterdir()) if home.keys.is_dir() else []
        return tuple(e.name for e in entries if is_name(e.name) and (e / _STATE_FILE).is_file())


def find_publisher(home: Home, identity: str) -> Publisher | None:
    """The publisher of this machine that has an identity, under whatever name; None if none has."""
    for name in list_publishers(home):
        try:
            found = _read_state(home.keys / name / _STATE_FILE).identity
        except StoreError:  # whose that is can't be told; it must not stand in the way of the others
            continue
        if found == identity:
            return load_publisher(home, name)
    return None


def save_key_records(publisher: Publisher, keys: Sequence[KeyRecord]) -> None:
    """Make these the keys that this machine has held. Only under the lock of `home.keys`."""
    write_state(publisher.folder, publisher.name, publisher.identity, publisher.created, keys)


def write_state(folder: Path, name: str, identity: str, created: str, keys: Sequence[KeyRecord]) -> None:
    """Write publisher.json, durably."""
    state = _State(format=PUBLISHER_FORMAT, name=name, identity=identity, created=created, keys=list(keys))
    write_durably(folder / _STATE_FILE, canonical_json(state.model_dump()) + b"\n")


def _read_state(path: Path) -> _State:
    data = read_small(path, limit=1024 * 1024)
    try:
        state = _State.model_validate(strict_json(data, "publisher.json"))
    except (MalformedError, ValidationError):
        raise StoreError(
            f"{path} is damaged", next_step="restore the publisher from its recovery file under another name"
        ) from None
    if state.format != PUBLISHER_FORMAT:
        raise StoreError(
            f"{path} was written by another version of samara", expected=PUBLISHER_FORMAT, actual=state.format[:40]
        )
    return state
