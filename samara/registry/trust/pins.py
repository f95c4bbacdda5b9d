"""The publishers this machine trusts: trust/<identity>/pin.json, and beside it roots/N.root.json, every root seen.

An identity is global, an alias is this machine's name for it (a petname); one belongs to exactly one of the other.
Writers hold trust/.lock; every file appears whole or not at all; readers need no lock. A folder without pin.json is
what a kill left behind and counts for nothing. Roots only ever grow: whoever has seen version N never accepts less.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from samara.registry.durable import TEMPORARY_PREFIX, io_errors, make_folder, publish_name, write_durably
from samara.registry.trust.files import locked, read_small, sweep_leftovers, time_text
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, NotFoundError, SamaraError, StoreError, TrustError, UsageError
from samara.schemas.references import check_identity, check_name, is_identity, is_name
from samara.schemas.release_file import MAX_ROOT_BYTES

PIN_FORMAT = "samara-pin-1"
_MAX_PIN_BYTES = 64 * 1024
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One trusted publisher. `added`: when, as text (`2026-01-31T12:00:00Z`). `sources`: where to ask for its catalog.

    `root`: (version, SHA-256 of the signed part as hex) of a newer root that trust was told to begin with; every chain
    must pass through it, so that whoever stole keys retired before it can't lead a newcomer astray.
    """

    alias: str
    identity: str
    added: str
    sources: tuple[str, ...] = ()
    root: tuple[int, str] | None = None

    @property
    def short(self) -> str:
        """The identity's first 8 digits: shown wherever the alias resolves."""
        return self.identity[:8]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """Roots on disk: the readable chain, and the highest version that was ever written."""

    chain: RootChain | None
    floor: int


class TrustFolder:
    """The pins and roots in one folder (`home.trust`). Cheap to make; touches the disk only when asked something."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self) -> tuple[Pin, ...]:
        """Every pin, by alias. Raises StoreError if one is damaged."""
        with io_errors(self.folder):
            names = sorted(e.name for e in self.folder.iterdir()) if self.folder.is_dir() else []
        pins = [pin for name in names if is_identity(name) and (pin := self._read(name)) is not None]
        return tuple(sorted(pins, key=lambda pin: pin.alias))

    def find(self, name: str) -> Pin | None:
        """The pin of an alias or identity; None if there is none."""
        if is_identity(name):
            return self._read(name)
        return next((pin for pin in self.list() if pin.alias == name), None)

    def resolve(self, name: str, *, claimed_name: str | None = None) -> Pin:
        """The pin of an alias or identity, or TrustError with the command that would pin it.

        `claimed_name`: what an unpinned identity calls itself; if that is somebody else's alias, the error says so.
        """
        pin = self.find(name)
        if pin is None:
            raise self._unpinned(name, claimed_name)
        return pin

    def add(
        self,
        alias: str,
        identity: str,
        *,
        now: datetime,
        sources: Sequence[str] = (),
        root: tuple[int, str] | None = None,
    ) -> Pin:
        """Pin `identity` as `alias`; the same pair again changes nothing. Raises TrustError if either is taken.

        `sources` and `root` as in Pin; for a pin that exists they are added to it.
        """
        check_alias(alias)
        check_identity(identity)
        with locked(self.folder):
            sweep_leftovers(self.folder)
            for pin in self._others(identity):
                if pin.alias == alias:
                    raise _alias_taken(pin, identity)
            mine = self._read_or_damaged(identity)
            if mine is not None:
                if mine.alias != alias:
                    raise _identity_taken(mine, alias)
                pin = replace(
                    mine, sources=tuple(dict.fromkeys((*mine.sources, *sources))), root=_later(mine.root, root)
                )
                if pin == mine:
                    return mine
            else:
                pin = Pin(alias=alias, identity=identity, added=time_text(now), sources=tuple(sources), root=root)
            make_folder(self.folder / identity)
            sweep_leftovers(self.folder / identity)
            write_durably(self._pin_file(identity), _pin_bytes(pin))
        return pin

    def set_sources(self, identity: str, sources: Sequence[str]) -> Pin:
        """Where a pinned publisher's catalog is asked for from now on. Raises TrustError if it isn't pinned."""
        with locked(self.folder):
            pin = replace(self.resolve(identity), sources=tuple(dict.fromkeys(sources)))
            write_durably(self._pin_file(identity), _pin_bytes(pin))
        return pin

    def remove(self, name: str) -> str:
        """Forget a publisher by alias or identity, with every root seen of it; the identity is returned.

        Raises NotFoundError if it isn't pinned. Works on a damaged pin, by identity.
        """
        with locked(self.folder):
            sweep_leftovers(self.folder)
            identity = name if is_identity(name) else self._identity_of_alias(name)
            if not (self.folder / identity).is_dir():
                raise NotFoundError(f"{name} is not pinned", next_step="see: samara trust list")
            grave = self.folder / (TEMPORARY_PREFIX + secrets.token_hex(8))
            publish_name(self.folder / identity, grave)
            shutil.rmtree(grave, ignore_errors=True)
        return identity

    def stored_chain(self, identity: str) -> RootChain | None:
        """The newest verified chain seen of `identity`; None if none was seen yet."""
        return self._stored(identity).chain

    def chain_for(self, identity: str, offered_roots: Sequence[bytes]) -> RootChain:
        """The longest verified chain among those stored and offered. Writes nothing.

        Raises TrustError if the offered roots don't verify, contradict the stored ones, or none reaches what was
        already seen.
        """
        stored = self._stored(identity)
        if not offered_roots and stored.chain is not None:
            longest = stored.chain
        else:
            longest = _longest(stored.chain, verify_root_chain(identity, offered_roots))
        self._require_told_root(identity, longest)
        if longest.version < stored.floor:
            raise TrustError(
                f"root version {stored.floor} of {identity} was seen before, but its file here is damaged",
                expected=f"roots up to version {stored.floor}", actual=f"up to version {longest.version}",
                next_step="get a newer .samara file of this publisher; it brings the missing roots",
            )  # fmt: skip
        return longest

    def store_roots(self, identity: str, chain: RootChain) -> None:
        """Remember a chain of a pinned publisher. Only ever extends what is stored; older chains change nothing.

        Raises TrustError if `identity` isn't pinned or the chain contradicts the stored one.
        """
        if chain.identity != identity:
            raise TrustError("roots of another publisher", expected=identity, actual=chain.identity)
        if self._stored(identity) == _Stored(chain=chain, floor=chain.version):
            return
        with locked(self.folder):
            self.resolve(identity)
            longest = self.chain_for(identity, chain.roots)
            make_folder(self._roots(identity))
            sweep_leftovers(self._roots(identity))
            for number, data in enumerate(longest.roots, start=1):
                path = self._roots(identity) / f"{number}.root.json"
                if not path.exists() or read_small(path, limit=MAX_ROOT_BYTES) != data:
                    write_durably(path, data)

    def _pin_file(self, identity: str) -> Path:
        return self.folder / identity / "pin.json"

    def _roots(self, identity: str) -> Path:
        return self.folder / identity / "roots"

    def _read(self, identity: str) -> Pin | None:
        """One pin; None if there is none. Raises StoreError if it is damaged: it may be anybody's alias."""
        path = self._pin_file(identity)
        try:
            data = read_small(path, limit=_MAX_PIN_BYTES)
        except StoreError:
            if path.exists():
                raise
            return None
        try:
            value = strict_json(data, "pin")
        except MalformedError:
            value = None
        alias, added = (value.get("alias"), value.get("added")) if isinstance(value, dict) else (None, None)
        if not isinstance(value, dict) or value.get("format") != PIN_FORMAT or value.get("identity") != identity:
            raise _damaged(path, identity)
        if not isinstance(alias, str) or not is_name(alias) or not isinstance(added, str):
            raise _damaged(path, identity)
        sources, root = value.get("sources", []), value.get("root")
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise _damaged(path, identity)
        return Pin(
            alias=alias, identity=identity, added=added, sources=tuple(sources), root=_root_of(root, path, identity)
        )

    def _read_or_damaged(self, identity: str) -> Pin | None:
        """Like `_read`, but a damaged pin counts as none: adding it again repairs it."""
        try:
            return self._read(identity)
        except StoreError:
            return None

    def _others(self, identity: str) -> tuple[Pin, ...]:
        names = sorted(entry.name for entry in self.folder.iterdir() if is_identity(entry.name))
        return tuple(pin for name in names if name != identity and (pin := self._read(name)) is not None)

    def _identity_of_alias(self, alias: str) -> str:
        pin = self.find(alias)
        if pin is None:
            raise NotFoundError(f"no publisher is pinned as {alias!r}", next_step="see: samara trust list")
        return pin.identity

    def _stored(self, identity: str) -> _Stored:
        """Read and verify stored roots. A damaged file ends the chain there; the floor still knows it existed."""
        folder = self._roots(identity)
        with io_errors(folder):
            names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        numbers = {int(match[1]) for name in names if (match := _ROOT_FILE.match(name))}
        roots: list[bytes] = []
        while len(roots) + 1 in numbers:
            roots.append(read_small(folder / f"{len(roots) + 1}.root.json", limit=MAX_ROOT_BYTES))
        return _Stored(chain=_longest_valid_prefix(identity, roots), floor=max(numbers, default=0))

    def _require_told_root(self, identity: str, chain: RootChain) -> None:
        """Raises TrustError for a chain beside the root that trust was told to begin with."""
        pin = self._read(identity)  # a damaged one raises: never as if nothing had been told
        if pin is None or pin.root is None:
            return
        version, digest = pin.root
        if chain.version < version:
            raise TrustError(
                f"these roots of {pin.alias} end before the one you told samara to begin with",
                expected=f"version {version} at least", actual=chain.version,
                next_step="get them from another source, or a newer .samara file",
            )  # fmt: skip
        found = chain.views[version - 1].signed_sha256.hex()
        if found != digest:
            raise TrustError(
                f"root version {version} of {pin.alias} is not the one you told samara to begin with",
                expected=f"sha256:{digest}", actual=f"sha256:{found}",
                next_step="don't use this source: somebody may have stolen keys that were retired since",
            )  # fmt: skip

    def _unpinned(self, name: str, claimed_name: str | None) -> TrustError:
        if not is_identity(name):
            return TrustError(
                f"no publisher is pinned as {name!r}",
                next_step=f"if you have its identity from someone you trust: samara trust add {shlex.quote(name)}"
                " --identity KEY",
            )
        claimed = claimed_name or "NAME"
        namesake = self.find(claimed) if claimed_name else None
        if namesake is not None:
            return TrustError(
                f"ANOTHER PUBLISHER CALLS ITSELF {claimed}: this is not the {claimed} you trust",
                expected=namesake.identity, actual=name,
                next_step="if you know this one too, pin it under another name: samara trust add OTHER-NAME"
                f" --identity {name}",
            )  # fmt: skip
        return TrustError(
            f"publisher {claimed_name or ''} {name} is not trusted on this machine".replace("  ", " "),
            next_step="compare that identity with one you had from the publisher itself, then: samara trust add"
            f" {claimed} --identity {name}",
        )


def check_alias(alias: str) -> str:
    """`alias` itself, or UsageError: it must be a name, and not look like an identity."""
    check_name(alias, "publisher")
    if is_identity(alias):
        raise UsageError("an identity can't be the alias of another one", actual=alias, next_step="choose a short name")
    return alias


def _longest(stored: RootChain | None, offered: RootChain) -> RootChain:
    """The longer of two chains that agree as far as both go. Raises TrustError if they don't."""
    if stored is None:
        return offered
    for mine, theirs in zip(stored.views, offered.views, strict=False):
        if mine.signed_sha256 != theirs.signed_sha256:
            raise TrustError(
                f"two different roots claim to be version {mine.version} of {stored.identity}",
                expected=f"sha256:{mine.signed_sha256.hex()} as stored", actual=f"sha256:{theirs.signed_sha256.hex()}",
                next_step="the publisher's root keys may be stolen: ask the publisher before trusting either",
            )  # fmt: skip
    if offered.version <= stored.version:
        return stored
    # keep the stored bytes where both agree: signatures may differ, and what is on disk needs no rewriting
    roots = (*stored.roots, *offered.roots[stored.version :])
    return RootChain(identity=stored.identity, roots=roots, views=offered.views)


def _longest_valid_prefix(identity: str, roots: Sequence[bytes]) -> RootChain | None:
    for end in range(len(roots), 0, -1):
        try:
            return verify_root_chain(identity, roots[:end])
        except SamaraError:
            continue
    return None


def _pin_bytes(pin: Pin) -> bytes:
    value: dict[str, object] = {
        "format": PIN_FORMAT,
        "alias": pin.alias,
        "identity": pin.identity,
        "added": pin.added,
        "sources": list(pin.sources),
    }
    if pin.root is not None:
        value["root"] = {"version": pin.root[0], "sha256": pin.root[1]}
    return canonical_json(value) + b"\n"


def _root_of(value: object, path: Path, identity: str) -> tuple[int, str] | None:
    if value is None:
        return None
    version, digest = (value.get("version"), value.get("sha256")) if isinstance(value, dict) else (None, None)
    if not isinstance(version, int) or version < 1 or not isinstance(digest, str):
        raise _damaged(path, identity)  # never as if there were none: it restricts whom we trust
    return version, digest


def _later(mine: tuple[int, str] | None, told: tuple[int, str] | None) -> tuple[int, str] | None:
    if mine is None or told is None:
        return told or mine
    if mine[0] == told[0] and mine != told:
        raise TrustError(
            f"another root version {told[0]} was given before: one of the two is not the publisher's",
            expected=f"sha256:{mine[1]}", actual=f"sha256:{told[1]}",
            next_step="ask the publisher which is right; to begin anew: samara trust remove",
        )  # fmt: skip
    return max(mine, told)


def _damaged(path: Path, identity: str) -> StoreError:
    return StoreError(
        f"pin file {path} is damaged",
        next_step=f"run: samara trust remove {identity} — then add it again with its identity",
    )


def _alias_taken(pin: Pin, identity: str) -> TrustError:
    return TrustError(
        f"the name {pin.alias!r} already belongs to another publisher here", expected=pin.identity, actual=identity,
        next_step=f"pin the new one under another name, or first run: samara trust remove {pin.alias}",
    )  # fmt: skip


def _identity_taken(pin: Pin, alias: str) -> TrustError:
    return TrustError(
        f"this identity is already pinned as {pin.alias!r}", expected=pin.alias, actual=alias,
        next_step=f"use that name, or first run: samara trust remove {pin.alias}",
    )  # fmt: skip
