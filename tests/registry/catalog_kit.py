"""Catalogs signed by hand with real keys, sources that lie about them, and a machine that judges. No test in here."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from trust_kit import NOW, Line, home_at, plan

from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogClient, CatalogState
from samara.registry.trust.catalogs import signed_digest
from samara.registry.trust.keys import SecretKey
from samara.registry.trust.library import JSONSerializer, Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.roots import EXTENSION, SPEC_VERSION, write_root
from samara.schemas.digests import b3
from samara.schemas.metadata_bundle import MetadataBundle

DAY = timedelta(days=1)
MONTH = 30 * DAY
ROLES = ("timestamp", "snapshot", "targets")
ALL_ROLES = ("root", *ROLES)

Content = bytes | Callable[[], Iterator[bytes]]


def raw_entry(payload: bytes, *, version: int = 1) -> dict[str, Any]:
    """A TUF target as catalogs have it, for a manifest of any bytes."""
    return {
        "length": len(payload),
        "hashes": {"sha256": hashlib.sha256(payload).hexdigest()},
        "custom": {"samara": {"manifest": b3(payload), "btmh": "0" * 64, "version": version}},
    }


@dataclass(frozen=True, kw_only=True)
class Edition:
    """One state of a publisher's repository. Make the next one, or a crooked one, with `replace`.

    `root`: its newest root version, whose online key signs. `signers`: other keys that sign a role; `expires`: when a
    role ends, else after a month (targets and root: a year).
    """

    line: Line
    root: int = 1
    timestamp: int = 1
    snapshot: int = 1
    targets: int = 1
    entries: Mapping[str, Any] = field(default_factory=lambda: {"tiny/q8_0": raw_entry(b"tiny 1")})
    signed: datetime = NOW
    expires: Mapping[str, datetime] = field(default_factory=dict)
    signers: Mapping[str, Sequence[SecretKey]] = field(default_factory=dict)

    def next(self, **changes: Any) -> Edition:
        """Every role's version one higher, and `changes`."""
        ahead = {role: getattr(self, role) + 1 for role in ROLES}
        return replace(self, **{**ahead, **changes})

    @property
    def bundle(self) -> MetadataBundle:
        """All of it."""
        targets = self._sign(
            "targets",
            Targets(
                version=self.targets,
                spec_version=SPEC_VERSION,
                expires=self._end("targets", 365 * DAY),
                # from_dict takes its argument apart
                targets={path: TargetFile.from_dict(dict(raw), path) for path, raw in self.entries.items()},
            ),
        )
        snapshot = self._sign(
            "snapshot",
            Snapshot(
                version=self.snapshot,
                spec_version=SPEC_VERSION,
                expires=self._end("snapshot", MONTH),
                meta={"targets.json": _meta(self.targets, targets)},
            ),
        )
        timestamp = self._sign(
            "timestamp",
            Timestamp(
                version=self.timestamp,
                spec_version=SPEC_VERSION,
                expires=self._end("timestamp", MONTH),
                snapshot_meta=_meta(self.snapshot, snapshot),
                unrecognized_fields={EXTENSION: {"v": 1, "signed": f"{self.signed:%Y-%m-%dT%H:%M:%SZ}"}},
            ),
        )
        return MetadataBundle(
            roots=self.line.roots[: self.root], timestamp=timestamp, snapshot=snapshot, targets=targets
        )

    def files(self) -> dict[str, Content]:
        """The same as files of a mirror."""
        return dict(self.bundle.files(snapshot_version=self.snapshot, targets_version=self.targets))

    def at(self, name: str = "a mirror") -> Lying:
        """Served whole and unchanged by a source of that name."""
        return Lying(self.files(), name)

    def _sign(self, role: str, part: Any) -> bytes:
        metadata = Metadata(part)
        for key in self.signers.get(role, [self.line.online_keys[self.root - 1]]):
            metadata.sign(key.signer(), append=True)
        return bytes(metadata.to_bytes(JSONSerializer(compact=True)))

    def _end(self, role: str, lifetime: timedelta) -> datetime:
        return self.expires.get(role, self.signed + lifetime).replace(microsecond=0)


class Lying:
    """A source (MetadataSource) that gives whatever it was told to. `asked`: the names that it was asked for."""

    def __init__(self, files: Mapping[str, Content], name: str = "a mirror") -> None:
        self.name = name
        self.files = dict(files)
        self.asked: list[str] = []
        self.given = 0

    def but(self, **changes: Content | None) -> Lying:
        """With other files; `timestamp_json`, `1_root_json`, …: dots are underscores. None: absent."""
        files: dict[str, Content] = dict(self.files)
        for key, content in changes.items():
            name = key.removeprefix("_").replace("_", ".")
            if content is None:
                files.pop(name, None)
            else:
                files[name] = content
        return Lying(files, self.name)

    def read(self, name: str) -> Iterator[bytes] | None:
        """As MetadataSource."""
        self.asked.append(name)
        content = self.files.get(name)
        if content is None:
            return None
        return self._counted(iter((content,)) if isinstance(content, bytes) else content())

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.given += len(piece)
            yield piece


def endless() -> Iterator[bytes]:
    """Never ends."""
    return itertools.repeat(b" " * 4096)


@dataclass(frozen=True)
class Machine:
    """Somebody's computer that has pinned the publisher of `line` as acme."""

    home: Home
    identity: str

    @property
    def trust(self) -> TrustFolder:
        return TrustFolder(self.home.trust)

    @property
    def client(self) -> CatalogClient:
        """A new one, as a new process has."""
        return CatalogClient(self.trust, self.identity)

    @property
    def folder(self) -> Path:
        """trust/<identity>."""
        return self.home.trust / self.identity

    @property
    def version(self) -> int:
        """The timestamp version known here; 0 before the first."""
        state = self.client.stored()
        return 0 if state is None else state.catalog.versions["timestamp"]

    def check(self, source: Any, *, now: datetime = NOW, allow_stale: bool = False) -> CatalogState:
        return self.client.check(source, now=now, allow_stale=allow_stale)

    def accept(self, source: Any, *, now: datetime = NOW, allow_stale: bool = False) -> CatalogState:
        """Check and commit, as a pull does."""
        state = self.check(source, now=now, allow_stale=allow_stale)
        self.client.commit(state, now=now, source=source.name)
        return state


def machine(folder: Path, line: Line) -> Machine:
    """A new one. All it knows is the identity."""
    home = home_at(folder)
    TrustFolder(home.trust).add("acme", line.identity, now=NOW)
    return Machine(home, line.identity)


def renewed(line: Line) -> Line:
    """The next root, with the same keys."""
    last = len(line.roots) - 1
    wanted = plan(
        root=line.root_keys[last:], online=line.online_keys[last:], version=last + 2
    )  # fmt: skip
    return Line(
        roots=(*line.roots, write_root(wanted, line.root_keys[last:])),
        root_keys=(*line.root_keys, line.root_keys[last]),
        online_keys=(*line.online_keys, line.online_keys[last]),
    )


def evidence(machine: Machine) -> set[tuple[int, str]]:
    """(version, digest of the signed part) of every timestamp that was kept as proof."""
    return {signed_digest(path.read_bytes()) for path in machine.client.evidence()}


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version=version, length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()})
