"""A publisher's next root: keys added, removed, replaced, thresholds, a new year. What it is for a root to be right is
`roots`'s business; this module says what the next one shall be, gathers who must sign it, and makes it this machine's.

Order: new key files → publisher.json that names them → root N+1 → the catalog signed anew → own pin. A kill in between
leaves a publisher that works, with an unused key or a catalog that the next `refresh` signs anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from samara.registry.durable import write_durably
from samara.registry.home import Home
from samara.registry.trust.files import locked, sweep_leftovers
from samara.registry.trust.keys import AskPassphrase, SecretKey, is_sound, key_id, load_key, new_key, save_key, seal_key
from samara.registry.trust.own_catalog import nothing, own_bundle, update_catalog
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import ONLINE_ROLES, Publisher, load_publisher, save_key_records
from samara.registry.trust.recovery import KeyRecord
from samara.registry.trust.roots import (
    ROLES,
    ROOT_LIFETIME,
    RolePlan,
    RootPlan,
    RootView,
    check_plan,
    verify_root_chain,
    write_root,
)
from samara.schemas.errors import NotFoundError, TrustError, UsageError

ROLE_NAMES = (*ROLES, "online")
Plan = Callable[[RootView], RootPlan]


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """What came of a change: the publisher with its new root, and the key that was made, if one was."""

    publisher: Publisher
    made: KeyRecord | None


class _AskOnce:
    """Asks for a passphrase the first time, then remembers: all keys of a publisher usually share one."""

    def __init__(self, ask: AskPassphrase | None) -> None:
        self._ask = ask
        self.answer: str | None = None

    def __call__(self, what: str) -> str | None:
        if self.answer is None and self._ask is not None:
            self.answer = self._ask(what)
        return self.answer


def add_key(
    home: Home,
    publisher: Publisher,
    roles: Sequence[str],
    *,
    public: bytes | None = None,
    key_files: Sequence[Path] = (),
    ask: AskPassphrase | None,
    now: datetime,
) -> Changed:
    """Let one more key sign for `roles`: `public` (32 raw bytes, held by somebody else), or a new one made here."""
    wanted = _tuf_roles(roles)
    if public is not None and len(public) != 32:
        raise UsageError("not an Ed25519 public key", expected="64 hex digits", actual=f"{len(public)} bytes")
    if public is not None and not is_sound(public):
        raise UsageError(
            "nobody can have made this Ed25519 public key", actual=public.hex(), next_step="ask its owner for it again"
        )

    def plan(added: bytes) -> Plan:
        return lambda view: _edited(
            view, {role: (*_publics(view, role), added) for role in wanted}, now=now
        )  # fmt: skip

    label = "online" if set(wanted) == set(ONLINE_ROLES) else "-".join(wanted)
    return _change(
        home, publisher, plan, label=None if public else label, public=public, files=key_files, ask=ask, now=now
    )


def remove_key(
    home: Home,
    publisher: Publisher,
    key: str,
    *,
    roles: Sequence[str] = (),
    key_files: Sequence[Path] = (),
    ask: AskPassphrase | None,
    now: datetime,
) -> Changed:
    """Let a key (file name, its stem, or the beginning of its id) no longer sign for `roles`; for any when empty."""
    gone = _find(publisher, key)
    wanted = _tuf_roles(roles) or ROLES
    view = publisher.chain.newest
    if not any(gone in _publics(view, role) for role in wanted):
        raise UsageError(f"{key} signs for none of {', '.join(wanted)}", next_step="see: samara publisher show")

    def plan(_added: bytes) -> Plan:
        return lambda view: _edited(
            view, {role: tuple(p for p in _publics(view, role) if p != gone) for role in wanted}, now=now
        )

    return _change(home, publisher, plan, label=None, public=None, files=key_files, ask=ask, now=now)


def rotate_key(
    home: Home,
    publisher: Publisher,
    key: str,
    *,
    key_files: Sequence[Path] = (),
    ask: AskPassphrase | None,
    now: datetime,
) -> Changed:
    """Replace a key (file name, its stem, or the beginning of its id) by a new one, wherever it signs."""
    old = _find(publisher, key)
    view = publisher.chain.newest
    if old not in {*view.keys.values(), view.beacon}:
        raise UsageError(f"{key} is retired already", next_step=f"see: samara publisher show {publisher.name}")
    label = next((record.use for record in publisher.keys if record.public_bytes == old), "key")

    def plan(added: bytes) -> Plan:
        def edit(view: RootView) -> RootPlan:
            roles = {role: tuple(added if p == old else p for p in _publics(view, role)) for role in ROLES}
            return _edited(view, roles, now=now, beacon=added if view.beacon == old else None)

        return edit

    return _change(home, publisher, plan, label=label, public=None, files=key_files, ask=ask, now=now)


def set_threshold(
    home: Home,
    publisher: Publisher,
    role: str,
    threshold: int,
    *,
    key_files: Sequence[Path] = (),
    ask: AskPassphrase | None,
    now: datetime,
) -> Changed:
    """How many of a role's keys must sign from now on."""
    wanted = dict.fromkeys(_tuf_roles([role]), threshold)

    def plan(_added: bytes) -> Plan:
        return lambda view: _edited(view, {}, thresholds=wanted, now=now)

    return _change(home, publisher, plan, label=None, public=None, files=key_files, ask=ask, now=now)


def renew_root(
    home: Home, publisher: Publisher, *, key_files: Sequence[Path] = (), ask: AskPassphrase | None, now: datetime
) -> Changed:
    """The same root for another year."""
    return _change(
        home, publisher, lambda _added: lambda view: _edited(view, {}, now=now), label=None, public=None,
        files=key_files, ask=ask, now=now,
    )  # fmt: skip


def _change(
    home: Home,
    publisher: Publisher,
    plan: Callable[[bytes], Plan],
    *,
    label: str | None,
    public: bytes | None,
    files: Sequence[Path],
    ask: AskPassphrase | None,
    now: datetime,
) -> Changed:
    """Write the next root by `plan(added key)`, with a new key called `label` if there is to be one."""
    once = _AskOnce(ask)
    held = [*publisher.open_keys(("root",), once), *(load_key(file, once, what=str(file)) for file in files)]
    before = publisher.chain.newest
    fresh = new_key() if label is not None else None
    added = fresh.public if fresh is not None else public or b""
    wanted = plan(added)(before)
    check_plan(wanted)
    signers = _unique((*held, *((fresh,) if fresh is not None else ())))
    _require_signers(before, wanted, signers)
    root = write_root(wanted, [key for key in signers if key.public in _root_publics(before, wanted)])
    chain = verify_root_chain(publisher.identity, (*publisher.chain.roots, root))
    online = () if own_bundle(publisher) is None else _online_signers(publisher, wanted, fresh, once)
    made: KeyRecord | None = None
    with locked(home.keys, mode=0o700):
        current = load_publisher(home, publisher.name)
        if current.chain.roots != publisher.chain.roots:
            raise UsageError(f"the keys of {publisher.name} were changed at the same time", next_step="run it again")
        sweep_leftovers(current.folder)  # among them perhaps a key
        sweep_leftovers(current.folder / "roots")
        if fresh is not None and label is not None:
            name = _free_name(current, label)
            made = KeyRecord(file=name, use=label, public=fresh.public.hex())
            save_key(current.folder / name, seal_key(fresh, once.answer))
            save_key_records(current, (*current.keys, made))
        write_durably(current.folder / "roots" / f"{wanted.version}.root.json", root)
    after = load_publisher(home, publisher.name)
    if online:
        update_catalog(home, after, nothing, signers=online, now=now)
    trust = TrustFolder(home.trust)
    if trust.find(after.identity) is not None:
        trust.store_roots(after.identity, chain)
    return Changed(publisher=after, made=made)


def _edited(
    view: RootView,
    keys: Mapping[str, tuple[bytes, ...]],
    *,
    now: datetime,
    thresholds: Mapping[str, int] | None = None,
    beacon: bytes | None = None,
) -> RootPlan:
    """The next version of a root: as it is, but for what is given."""
    if view.beacon is None and beacon is None:
        raise TrustError("this root names no beacon", next_step="it wasn't made by samara")
    return RootPlan(
        version=view.version + 1,
        expires=(now + ROOT_LIFETIME).replace(microsecond=0),
        roles={
            role: RolePlan(
                keys=keys.get(role, _publics(view, role)),
                threshold=(thresholds or {}).get(role, view.roles[role].threshold),
            )
            for role in ROLES
        },
        beacon=beacon or view.beacon or b"",
    )


def _online_signers(
    publisher: Publisher, wanted: RootPlan, fresh: SecretKey | None, ask: AskPassphrase
) -> tuple[SecretKey, ...]:
    """Who signs the catalog anew under the next root; opened before anything is written.

    Raises TrustError where too few keys for the new roles are here: the catalog would be stranded.
    """
    allowed = {public for role in ONLINE_ROLES for public in wanted.roles[role].keys}
    here = [r for r in publisher.keys if r.public_bytes in allowed and publisher.key_path(r).exists()]
    keys = _unique((*(publisher.open_key(record, ask) for record in here), *((fresh,) if fresh else ())))
    for role in ONLINE_ROLES:
        have = {key.public for key in keys} & set(wanted.roles[role].keys)
        unchanged = set(wanted.roles[role].keys) == set(_publics(publisher.chain.newest, role))
        if len(have) < wanted.roles[role].threshold and not (role == "targets" and unchanged):
            raise TrustError(
                f"the catalog could not be signed for {role} after this",
                expected=f"{wanted.roles[role].threshold} of its keys here", actual=len(have),
                next_step="put the missing key files back first",
            )  # fmt: skip
    return keys


def _require_signers(before: RootView, wanted: RootPlan, signers: Sequence[SecretKey]) -> None:
    """Raises TrustError where the root keys at hand don't reach both thresholds (TUF §5.3.4)."""
    have = {key.public for key in signers}
    for what, keys, threshold in (
        (f"version {before.version}", set(_publics(before, "root")), before.roles["root"].threshold),
        (f"version {wanted.version}", set(wanted.roles["root"].keys), wanted.roles["root"].threshold),
    ):
        if len(have & keys) < threshold:
            raise TrustError(
                f"too few root keys to sign this change, by root {what}", expected=threshold, actual=len(have & keys),
                next_step="give the others with --key FILE, from wherever they are kept",
            )  # fmt: skip


def _root_publics(before: RootView, wanted: RootPlan) -> set[bytes]:
    return {*_publics(before, "root"), *wanted.roles["root"].keys}


def _publics(view: RootView, role: str) -> tuple[bytes, ...]:
    return tuple(view.keys_of(role).values())


def _unique(keys: Iterable[SecretKey]) -> tuple[SecretKey, ...]:
    return tuple({key.public: key for key in keys}.values())


def _tuf_roles(names: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        if name not in ROLE_NAMES:
            hint = "there is one beacon: replace it with `samara publisher rotate`" if name == "beacon" else None
            raise UsageError("not a role", expected=", ".join(ROLE_NAMES), actual=name, next_step=hint)
        found += ONLINE_ROLES if name == "online" else (name,)
    return tuple(dict.fromkeys(found))


def _find(publisher: Publisher, key: str) -> bytes:
    """A key's public bytes, by file name, stem, or the beginning of its id. Raises NotFoundError or UsageError.

    Where several files had a stem (`online.key`, `online-2.key`), it means the one in force.
    """
    view = publisher.chain.newest
    in_force = {*view.keys.values(), *([view.beacon] if view.beacon else [])}
    by_name = [r.public_bytes for r in publisher.keys if key in {r.file, r.file.removesuffix(".key")}]
    by_use = [r.public_bytes for r in publisher.keys if r.use == key and r.public_bytes in in_force]
    by_id = [public for public in sorted(in_force) if len(key) >= 6 and key_id(public).startswith(key)]
    for found in (by_use, by_name, by_id):
        if len(set(found)) == 1:
            return found[0]
        if found:
            raise UsageError(f"{key} may be several keys of {publisher.name}", next_step="give the beginning of its id")
    raise NotFoundError(
        f"{publisher.name} has no key {key}", next_step=f"see: samara publisher show {publisher.name}"
    )  # fmt: skip


def _free_name(publisher: Publisher, label: str) -> str:
    taken = {record.file for record in publisher.keys}
    number = 1
    while (name := f"{label}-{number}.key" if number > 1 else f"{label}.key") in taken:
        number += 1
    return name
