"""The publisher side: keys/<name>/ with its key files, roots/N.root.json and publisher.json.

A publisher becomes visible by one rename of a complete, fsynced folder, and is never overwritten. Order of `init`:
recovery file, folder, pin; a kill before the rename leaves nothing but leftovers that the next run sweeps, one after it
a whole publisher whose pin the next run adds.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samara.registry.durable import (
    TEMPORARY_PREFIX,
    fsync_folder,
    io_errors,
    make_folder,
    publish_name,
    write_durably,
)
from samara.registry.home import Home
from samara.registry.trust.files import locked, read_small, sweep_leftovers, time_text
from samara.registry.trust.identity import identity_of
from samara.registry.trust.keys import (
    KDF_ROUNDS,
    AskPassphrase,
    SecretKey,
    is_sealed,
    key_id,
    load_key,
    new_key,
    open_key,
    read_key_file,
    save_key,
    seal_key,
)
from samara.registry.trust.pins import TrustFolder, check_alias
from samara.registry.trust.recovery import (
    MAX_RECOVERY_BYTES,
    KeyRecord,
    Recovery,
    pack_recovery,
    unpack_recovery,
)
from samara.registry.trust.roots import RootChain, first_root_plan, verify_root_chain, write_root
from samara.registry.trust.signing import sign_payload
from samara.schemas.envelope import Envelope, canonical_json, strict_json
from samara.schemas.errors import MalformedError, NotFoundError, StoreError, TrustError, UsageError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES
from samara.schemas.references import Identity, is_name
from samara.schemas.release_file import MAX_ROOT_BYTES

PUBLISHER_FORMAT = "samara-publisher-1"
_STATE_FILE = "publisher.json"
CATALOG_FILE = "catalog"
_FOLDER_MODE = 0o700
MAX_ROOT_KEYS = 16  # root version 1 must fit 16 KiB
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


def init_publisher(
    home: Home,
    name: str,
    *,
    passphrase: str | None,
    recovery: Path | None,
    now: datetime,
    kdf_rounds: int = KDF_ROUNDS,
    root_keys: int = 1,
    root_threshold: int = 1,
    separate_targets: bool = False,
) -> Publisher:
    """Make root, online and beacon keys and root version 1, and pin the result here.

    `passphrase` encrypts them all; `recovery` (a new file) needs one. The strong form: several root keys of which
    `root_threshold` must sign, to be kept in different places, and a key of its own for the catalog. Raises UsageError
    if the publisher or the recovery file already exists.
    """
    check_alias(name)
    if not 1 <= root_threshold <= root_keys <= MAX_ROOT_KEYS:
        raise UsageError(
            "impossible root keys", expected=f"1 ≤ threshold ≤ keys ≤ {MAX_ROOT_KEYS}",
            actual=f"{root_threshold} of {root_keys}",
        )  # fmt: skip
    if recovery is not None and not passphrase:
        raise UsageError("a recovery file needs a passphrase", next_step="set SAMARA_PASSPHRASE or type one when asked")
    with locked(home.keys, mode=_FOLDER_MODE):
        sweep_leftovers(home.keys)
        _refuse_existing(home, name, now=now)
        _refuse_foreign_alias(home, name)
        roots = {f"root-{number}" if number > 1 else "root": new_key() for number in range(1, root_keys + 1)}
        others = {use: new_key() for use in ("online", "beacon", *(("targets",) if separate_targets else ()))}
        made = {**roots, **others}
        plan = first_root_plan(
            root=made["root"].public,
            more_roots=[key.public for name, key in roots.items() if name != "root"],
            root_threshold=root_threshold,
            online=made["online"].public,
            targets=made["targets"].public if separate_targets else None,
            beacon=made["beacon"].public,
            now=now,
        )
        root = write_root(plan, list(roots.values()))
        material = Recovery(
            name=name,
            created=time_text(now),
            roots=(root,),
            keys=tuple(
                (
                    KeyRecord(file=f"{stem}.key", use="root" if stem in roots else stem, public=key.public.hex()),
                    seal_key(key, passphrase, rounds=kdf_rounds),
                )
                for stem, key in made.items()
            ),
        )
        if recovery is not None:
            _write_recovery(recovery, material)
        publisher = install_publisher(home, name, material)
    _pin(home, publisher, now=now)
    return publisher


def import_publisher(
    home: Home, file: Path, ask: AskPassphrase | None, *, now: datetime, name: str | None = None
) -> Publisher:
    """Restore a publisher from its recovery file, under its own name or another, and pin it here.

    Keys stay encrypted with the recovery file's passphrase, which is asked for once. Raises TrustError for a wrong
    one, MalformedError for a damaged file, UsageError if the publisher already exists.
    """
    material = unpack_recovery(_read_recovery(file))
    name = check_alias(name or material.name)
    with locked(home.keys, mode=_FOLDER_MODE):
        sweep_leftovers(home.keys)
        _refuse_existing(home, name, now=now)
        _refuse_foreign_alias(home, name, own=identity_of(material.roots[0]))
        _check_material(material, ask, file)
        publisher = install_publisher(home, name, material)
    _pin(home, publisher, now=now)
    return publisher


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
    _write_state(publisher.folder, publisher.name, publisher.identity, publisher.created, keys)


def export_publisher(home: Home, publisher: Publisher, file: Path, ask: AskPassphrase | None) -> tuple[str, ...]:
    """Write the recovery file as things stand: roots, catalog, and every key that is here, under one passphrase.

    Returns the names of keys in force that are kept elsewhere and hence not in it. Raises UsageError if the file
    exists or there is no passphrase, TrustError if a key doesn't open.
    """
    path = publisher.folder / CATALOG_FILE
    with locked(home.keys, mode=_FOLDER_MODE):
        publisher = load_publisher(home, publisher.name)
        here = [record for record in publisher.keys if publisher.key_path(record).exists()]
        catalog = read_small(path, limit=MAX_BUNDLE_BYTES) if path.exists() else None
        files = {record: read_key_file(publisher.key_path(record)) for record in here}
    passphrase = ask(f"the keys of {publisher.name}") if ask is not None else None
    if not passphrase:
        raise UsageError("a recovery file needs a passphrase", next_step="set SAMARA_PASSPHRASE or type one when asked")
    keys = []
    for record, data in files.items():
        opened = open_key(data, lambda _what: passphrase, what=f"{record.file} of {publisher.name}")
        keys.append((record, data if is_sealed(data) else seal_key(opened, passphrase)))
    _write_recovery(
        file,
        Recovery(
            name=publisher.name,
            created=publisher.created,
            roots=publisher.chain.roots,
            keys=tuple(keys),
            catalog=catalog,
        ),
    )
    return tuple(fact.keyid for fact in key_facts(publisher) if fact.roles and not fact.here)


def install_publisher(home: Home, name: str, material: Recovery) -> Publisher:
    """Build the folder aside, fsync everything in it, rename it to its name. What is in `material` is believed."""
    chain = verify_root_chain(identity_of(material.roots[0]), material.roots)
    aside = home.keys / (TEMPORARY_PREFIX + secrets.token_hex(8))
    make_folder(aside, mode=_FOLDER_MODE)
    for record, data in material.keys:
        save_key(aside / record.file, data)
    make_folder(aside / "roots")
    for number, root in enumerate(material.roots, start=1):
        write_durably(aside / "roots" / f"{number}.root.json", root)
    if material.catalog is not None:
        write_durably(aside / CATALOG_FILE, material.catalog)
    _write_state(aside, name, chain.identity, material.created, [record for record, _ in material.keys])
    with io_errors(aside):
        fsync_folder(aside)
    publish_name(aside, home.keys / name)
    return load_publisher(home, name)


def _write_state(folder: Path, name: str, identity: str, created: str, keys: Sequence[KeyRecord]) -> None:
    state = _State(format=PUBLISHER_FORMAT, name=name, identity=identity, created=created, keys=list(keys))
    write_durably(folder / _STATE_FILE, canonical_json(state.model_dump()) + b"\n")


def _pin(home: Home, publisher: Publisher, *, now: datetime) -> None:
    trust = TrustFolder(home.trust)
    if trust.find(publisher.identity) is None:
        trust.add(publisher.name, publisher.identity, now=now)
    trust.store_roots(publisher.identity, publisher.chain)


def _refuse_existing(home: Home, name: str, *, now: datetime) -> None:
    folder = home.keys / name
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    publisher = load_publisher(home, name)
    pin = TrustFolder(home.trust).find(name)
    if pin is None or pin.identity == publisher.identity:
        _pin(home, publisher, now=now)  # an earlier run may have been killed after the rename: finish what it began
    raise UsageError(
        f"publisher {name} already exists, with identity {publisher.identity}; it is never overwritten",
        next_step=f"use it (samara publisher show {name}) or choose another name",
    )


def _refuse_foreign_alias(home: Home, name: str, *, own: str | None = None) -> None:
    pin = TrustFolder(home.trust).find(name)
    if pin is not None and pin.identity != own:
        raise UsageError(
            f"{name} is the name of a publisher you trust, {pin.identity}",
            next_step=f"choose another name, or first run: samara trust remove {name}",
        )


def _check_material(material: Recovery, ask: AskPassphrase | None, file: Path) -> None:
    """Every key opens with one passphrase, is the key it claims to be, and belongs to the chain of roots."""
    chain = verify_root_chain(identity_of(material.roots[0]), material.roots)
    known = {public for view in chain.views for public in (*view.keys.values(), view.beacon)}
    answers: dict[str, str | None] = {}

    def ask_once(_what: str) -> str | None:
        if "" not in answers:
            answers[""] = ask(f"recovery file {file.name}") if ask is not None else None
        return answers[""]

    for record, data in material.keys:
        key = open_key(data, ask_once, what=f"{record.file} in {file.name}")
        if key.public != record.public_bytes or key.public not in known:
            raise TrustError(f"{record.file} in {file.name} is not a key of publisher {chain.identity}")


def _read_recovery(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_RECOVERY_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no recovery file {file}", next_step="check the path") from None
    except OSError as error:
        raise UsageError(f"can't read {file} ({error.strerror})", next_step="name a readable recovery file") from None


def _write_recovery(path: Path, material: Recovery) -> None:
    """A new file, 0600. Raises UsageError for one that exists or a folder that doesn't."""
    if path.exists():
        raise UsageError(
            f"{path} already exists; nothing is overwritten",
            next_step=f"name a new file, or restore from this one: samara publisher import {path}",
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"can't write to folder {path.parent}", next_step="name a file in a folder you can write to")
    write_durably(path, pack_recovery(material), mode=0o600)


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
