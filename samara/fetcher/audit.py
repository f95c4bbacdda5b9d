"""`audit`, first half: the rules. Facts in, findings out. Touches no disk, network or clock, and repairs nothing.

A fact is what was seen (`samara.fetcher.audit_facts` looks); a finding is what is wrong with it, with the rule that
says so and the command that helps. A thing that could not be looked at is its own kind of finding: an audit that could
not check is not a clean one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from samara.schemas.errors import ExitCode


class Level(StrEnum):
    """How bad a finding is. Notes don't fail an audit."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing wrong: `rule` is stable, `subject` is what it is about."""

    rule: str
    level: Level
    subject: str
    message: str
    next_step: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseFact:
    """One stored release. `problem`: why its signature or manifest doesn't hold. `withdrawn`: why its publisher took it
    back; `newer`: the version that its name means by now. Both as far as this machine knows.
    """

    name: str
    manifest: str
    problem: str | None
    is_trust_problem: bool = False
    withdrawn: str | None = None
    newer: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogFact:
    """What is known of one publisher. `evidence`: what proves that it signed two catalogs as one version. `is_trusted`:
    it is pinned here, rather than one that only publishes at this machine's registry.
    """

    alias: str
    problem: str | None = None
    expired: tuple[str, ...] = ()
    accepted_stale: int = 0
    evidence: tuple[str, ...] = ()
    is_trusted: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobFact:
    """One blob of a good release, as the index describes it."""

    b3: str
    name: str
    is_known: bool
    blocks_match: bool
    locations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LocationFact:
    """One recorded location. `bad_blocks`: descriptions; None when the bytes were not or could not be read."""

    b3: str
    path: str
    in_store: bool
    exists: bool
    stamp_matches: bool
    is_read_only: bool
    bad_blocks: tuple[str, ...] | None
    whole_matches: bool
    unreadable: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftoverFact:
    """A file in the store that nothing claims: `kind` is blob, partial, temporary or view."""

    kind: str
    path: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Everything an audit looked at. `lost_partials`: blobs whose transfer the index notes, without a folder;
    `unchecked`: (what could not be looked at, why).
    """

    index_damage: tuple[str, ...] = ()
    catalogs: tuple[CatalogFact, ...] = ()
    releases: tuple[ReleaseFact, ...] = ()
    blobs: tuple[BlobFact, ...] = ()
    locations: tuple[LocationFact, ...] = ()
    leftovers: tuple[LeftoverFact, ...] = ()
    lost_partials: tuple[str, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()


def findings(facts: Facts) -> tuple[Finding, ...]:
    """All findings, worst first, in a stable order."""
    found = [
        *_index(facts.index_damage),
        *_catalogs(facts.catalogs),
        *_releases(facts.releases),
        *_blobs(facts.blobs),
        *_locations(facts.locations),
        *_leftovers(facts.leftovers),
        *(
            Finding(
                rule="partial-gone",
                level=Level.NOTE,
                subject=b3,
                message="a transfer of it began and its folder is gone",
                next_step="pull its release again",
            )
            for b3 in facts.lost_partials
        ),
        *(
            Finding(rule="unchecked", level=Level.UNCHECKED, subject=subject, message=why)
            for subject, why in facts.unchecked
        ),
    ]
    order = list(Level)
    return tuple(sorted(found, key=lambda item: (order.index(item.level), item.rule, item.subject)))


def outcome(found: Iterable[Finding]) -> ExitCode:
    """Clean, findings, or could-not-check; findings win, because they are certain."""
    levels = {item.level for item in found}
    if levels & {Level.ERROR, Level.WARNING}:
        return ExitCode.FINDINGS
    return ExitCode.UNCHECKED if Level.UNCHECKED in levels else ExitCode.OK


def _index(damage: Iterable[str]) -> Iterator[Finding]:
    for text in damage:
        yield Finding(
            rule="index-damaged", level=Level.ERROR, subject="index", message=text,
            next_step="move the index away; pull or publish again finds the blobs that are here",
        )  # fmt: skip


def _catalogs(catalogs: Iterable[CatalogFact]) -> Iterator[Finding]:
    for catalog in catalogs:
        if catalog.problem is not None:
            yield Finding(
                rule="trust-damaged", level=Level.ERROR, subject=catalog.alias, message=catalog.problem,
                next_step=f"samara trust remove {catalog.alias}, then add it again with its identity",
            )  # fmt: skip
        if catalog.evidence:
            yield Finding(
                rule="equivocation", level=Level.ERROR if catalog.is_trusted else Level.NOTE, subject=catalog.alias,
                message=f"signed two catalogs as one version: {', '.join(catalog.evidence)}",
                next_step="ask the publisher whether its online key was stolen; trust it no longer until you know",
            )  # fmt: skip
        if catalog.expired:
            yield Finding(
                rule="catalog-expired", level=Level.NOTE, subject=catalog.alias,
                message=f"what is known of its catalog has expired ({', '.join(catalog.expired)})",
                next_step="pull something of it to ask for a newer one",
            )  # fmt: skip
        if catalog.accepted_stale:
            yield Finding(
                rule="stale-accepted", level=Level.NOTE, subject=catalog.alias,
                message=f"an expired catalog was accepted knowingly, {catalog.accepted_stale} time(s)",
                next_step=f"samara trust show {catalog.alias}",
            )  # fmt: skip


def _releases(releases: Iterable[ReleaseFact]) -> Iterator[Finding]:
    for release in releases:
        if release.problem is not None:
            rule = "signature-bad" if release.is_trust_problem else "manifest-bad"
            yield Finding(
                rule=rule, level=Level.ERROR, subject=release.name, message=release.problem,
                next_step="pull it again from its .samara file, or pin its publisher if you trust it",
            )  # fmt: skip
        if release.withdrawn is not None:
            yield Finding(
                rule="release-withdrawn", level=Level.WARNING, subject=release.name,
                message=f"its publisher has withdrawn it: {release.withdrawn}", next_step="pull another release",
            )  # fmt: skip
        elif release.newer is not None:
            yield Finding(
                rule="release-outdated", level=Level.NOTE, subject=release.name,
                message=f"its name means version {release.newer} by now", next_step=f"samara pull {release.name}",
            )  # fmt: skip


def _blobs(blobs: Iterable[BlobFact]) -> Iterator[Finding]:
    for blob in blobs:
        if not blob.is_known:
            yield Finding(
                rule="blob-unknown", level=Level.ERROR, subject=blob.name,
                message=f"the index lacks blob {blob.b3} of this release", next_step=f"samara pull {blob.name}",
            )  # fmt: skip
            continue
        if not blob.blocks_match:
            yield Finding(
                rule="index-blocks-differ", level=Level.ERROR, subject=blob.name,
                message=f"the index's blocks of {blob.b3} are not its signed manifest's",
                next_step="move the index away and pull or publish again",
            )  # fmt: skip
        if blob.locations == 0:
            yield Finding(
                rule="blob-not-here", level=Level.NOTE, subject=blob.name, message=f"blob {blob.b3} is not here",
                next_step=f"samara pull {blob.name}",
            )  # fmt: skip


def _locations(locations: Iterable[LocationFact]) -> Iterator[Finding]:
    for place in locations:
        if not place.exists:
            yield Finding(
                rule="file-gone", level=Level.ERROR if place.in_store else Level.WARNING, subject=place.path,
                message=f"held {place.b3} and is gone", next_step="pull its release again",
            )  # fmt: skip
        elif place.unreadable is not None:
            yield Finding(rule="unchecked", level=Level.UNCHECKED, subject=place.path, message=place.unreadable)
        elif place.bad_blocks:
            more = f" (and {len(place.bad_blocks) - 1} more)" if len(place.bad_blocks) > 1 else ""
            yield Finding(
                rule="block-bad", level=Level.ERROR, subject=place.path, message=f"{place.bad_blocks[0]}{more}",
                next_step="pull its release again: only what is wrong is fetched",
            )  # fmt: skip
        elif place.bad_blocks is not None and not place.whole_matches:
            yield Finding(
                rule="whole-bad", level=Level.ERROR, subject=place.path,
                message=f"is not {place.b3} although each block is right",
            )  # fmt: skip
        elif not place.stamp_matches:
            was_read = "" if place.bad_blocks is None else "; its bytes are right"
            yield Finding(
                rule="stamp-changed", level=Level.WARNING, subject=place.path,
                message=f"was touched since it was verified{was_read}",
                next_step=f"samara verify {place.path}",
            )  # fmt: skip
        elif place.in_store and not place.is_read_only:
            yield Finding(
                rule="blob-writable", level=Level.WARNING, subject=place.path, message="a blob should be read-only",
                next_step=f"chmod a-w {place.path}",
            )  # fmt: skip


def _leftovers(leftovers: Iterable[LeftoverFact]) -> Iterator[Finding]:
    explain = {
        "blob": ("a file among the blobs that the index doesn't know", "pull its release again, or delete it"),
        "partial": ("a transfer that was not finished", "pull its release again, or delete the folder"),
        "temporary": ("left by a process that was killed", "delete it"),
        "view": ("points at a blob that isn't here", "pull its release again, or delete it"),
    }
    for leftover in leftovers:
        message, next_step = explain[leftover.kind]
        level = Level.NOTE if leftover.kind == "partial" else Level.WARNING
        yield Finding(
            rule=f"leftover-{leftover.kind}", level=level, subject=leftover.path,
            message=f"{message} ({leftover.size:,} bytes)", next_step=next_step,
        )  # fmt: skip
