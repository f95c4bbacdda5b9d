"""What changed from one root of a publisher to the next, in words. Pure; `trust.roots` has proven the chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from samara.registry.trust.roots import ROLES, RootView

_WORDS = {
    "root": "root (names all other keys)",
    "targets": "targets (signs releases and the catalog)",
    "snapshot": "snapshot",
    "timestamp": "timestamp",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleLine:
    """Who may sign for a role: how many of which keys (the first 16 hex digits of their ids)."""

    role: str
    threshold: int
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RootLine:
    """One root: until when it holds, who may sign what, and what is otherwise than in the one before."""

    version: int
    expires: datetime
    roles: tuple[RoleLine, ...]
    changes: tuple[str, ...]


def key_history(views: Sequence[RootView]) -> tuple[RootLine, ...]:
    """The roots of a chain (version 1 first), the newest first."""
    lines = [
        RootLine(
            version=view.version,
            expires=view.expires,
            roles=tuple(_role(view, role) for role in ROLES),
            changes=tuple(_changes(before, view)),
        )
        for before, view in zip((None, *views), views, strict=False)
    ]
    return tuple(reversed(lines))


def _role(view: RootView, role: str) -> RoleLine:
    found = view.roles[role]
    return RoleLine(
        role=_WORDS[role], threshold=found.threshold, keys=tuple(keyid[:16] for keyid in sorted(found.keyids))
    )


def _changes(before: RootView | None, view: RootView) -> Iterator[str]:
    if before is None:
        yield "The first root: the publisher's identity is made of its bytes."
        return
    same = True
    for change in _role_changes(before, view):
        same = False
        yield change
    if before.beacon != view.beacon:
        same = False
        yield "The beacon key, which signs where the newest catalog is to be found, was replaced."
    if same:
        yield "The same keys, renewed for a longer time."


def _role_changes(before: RootView, view: RootView) -> Iterator[str]:
    told: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for role in ROLES:
        old, new = frozenset(before.roles[role].keyids), frozenset(view.roles[role].keyids)
        if old != new:
            told.setdefault((old - new, new - old), []).append(role)
    for (gone, come), roles in told.items():  # one key often signs for several roles
        whose = f"{', '.join(roles)}:"
        if gone and come:
            yield f"{whose} {_keys(gone)} replaced by {_keys(come)}."
        elif come:
            yield f"{whose} {_keys(come)} added."
        else:
            yield f"{whose} {_keys(gone)} removed."
    for role in ROLES:
        was, now = before.roles[role].threshold, view.roles[role].threshold
        if was != now:
            yield f"{role}: {now} of its keys must sign instead of {was}."


def _keys(ids: frozenset[str]) -> str:
    return ", ".join(keyid[:16] for keyid in sorted(ids))
