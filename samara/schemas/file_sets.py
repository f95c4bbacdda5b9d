"""Models in several files: `model-00001-of-00003.gguf`, numbered as llama.cpp and transformers do. Pure.

Names alone decide; nobody looks into the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from samara.schemas.errors import UsageError

_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.[a-z0-9]+)", re.IGNORECASE)
_NAMED = 8  # missing parts that a message names


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSet:
    """The files of one split model. `count`: how many their names say there are; `missing`: the paths of the others."""

    present: tuple[str, ...]
    count: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """What is missing, for people."""
        names = ", ".join(self.missing[:_NAMED]) + (", …" if len(self.missing) > _NAMED else "")
        return f"{names} of a set of {self.count:,} files"


def file_sets(paths: Iterable[str]) -> tuple[FileSet, ...]:
    """Every set that one of `paths` says it belongs to, in the order of its first file.

    A number that its own set can't have, as 00000 or 00004 of 00003, is taken for a name like any other.
    """
    parts: dict[tuple[str, str, str], dict[int, str]] = {}
    for path in paths:
        match = _PART.fullmatch(path)
        if match is None:
            continue
        stem, number, count, ending = match.groups()
        if 1 <= int(number) <= int(count):
            parts.setdefault((stem, count, ending), {})[int(number)] = path
    return tuple(
        FileSet(
            present=tuple(found[number] for number in sorted(found)),
            count=int(count),
            missing=tuple(
                f"{stem}-{number:05}-of-{count}{ending}" for number in range(1, int(count) + 1) if number not in found
            ),
        )
        for (stem, count, ending), found in parts.items()
    )


def incomplete_sets(paths: Iterable[str]) -> tuple[FileSet, ...]:
    """Those of which files are missing."""
    return tuple(one for one in file_sets(paths) if one.missing)


def require_complete(paths: Iterable[str]) -> None:
    """Raise UsageError if a set lacks a file: no engine loads a part of a model."""
    for one in incomplete_sets(paths):
        raise UsageError(
            f"missing: {one}", next_step="name every file of the set, or the folder they lie in"
        )  # fmt: skip
