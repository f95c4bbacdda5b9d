"""Publishers come to be on this machine: made anew, or restored from a recovery file; and that file is written.

A publisher becomes visible by one rename of a complete, fsynced folder, and is never overwritten. Order of `init`:
recovery file, folder, pin; a kill before the rename leaves nothing but leftovers that the next run sweeps, one after it
a whole publisher whose pin the next run adds.
"""

from __future__ import annotations

import os
import secrets
from datetime import datetime
from pathlib import Path

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
    is_sealed,
    new_key,
    open_key,
    read_key_file,
    save_key,
    seal_key,
)
from samara.registry.trust.pins import TrustFolder, check_alias
from samara.registry.trust.publishers import (
    CATALOG_FILE,
    FOLDER_MODE,
    Publisher,
    key_facts,
    load_publisher,
    write_state,
)
from samara.registry.trust.recovery import (
    MAX_RECOVERY_BYTES,
    KeyRecord,
    Recovery,
    pack_recovery,
    unpack_recovery,
)
from samara.registry.trust.roots import first_root_plan, verify_root_chain, write_root
from samara.schemas.errors import NotFoundError, TrustError, UsageError
from samara.schemas.metadata_bundle import MAX_BUNDLE_BYTES

MAX_ROOT_KEYS = 16  # root version 1 must fit 16 KiB


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
    with locked(home.keys, mode=FOLDER_MODE):
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
    with locked(home.keys, mode=FOLDER_MODE):
        sweep_leftovers(home.keys)
        _refuse_existing(home, name, now=now)
        _refuse_foreign_alias(home, name, own=identity_of(material.roots[0]))
        _check_material(material, ask, file)
        publisher = install_publisher(home, name, material)
    _pin(home, publisher, now=now)
    return publisher


def export_publisher(home: Home, publisher: Publisher, file: Path, ask: AskPassphrase | None) -> tuple[str, ...]:
    """Write the recovery file as things stand: roots, catalog, and every key that is here, under one passphrase.

    Returns the names of keys in force that are kept elsewhere and hence not in it. Raises UsageError if the file
    exists or there is no passphrase, TrustError if a key doesn't open.
    """
    path = publisher.folder / CATALOG_FILE
    with locked(home.keys, mode=FOLDER_MODE):
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
    make_folder(aside, mode=FOLDER_MODE)
    for record, data in material.keys:
        save_key(aside / record.file, data)
    make_folder(aside / "roots")
    for number, root in enumerate(material.roots, start=1):
        write_durably(aside / "roots" / f"{number}.root.json", root)
    if material.catalog is not None:
        write_durably(aside / CATALOG_FILE, material.catalog)
    write_state(aside, name, chain.identity, material.created, [record for record, _ in material.keys])
    with io_errors(aside):
        fsync_folder(aside)
    publish_name(aside, home.keys / name)
    return load_publisher(home, name)


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
