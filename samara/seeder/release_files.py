"""Which files a release has, by what name each, and what each is for. Reads names and folders, no file's bytes.

collect([Path("tiny.gguf"), Path("whisper/")])   a file by its name, a folder's files by their paths in it
role_of("adapter_model.safetensors")             what a file is for
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samara.schemas.errors import UsageError, cannot_read
from samara.schemas.events import Note, OnEvent, Warned, ignore
from samara.schemas.file_sets import require_complete
from samara.schemas.manifest import MAX_FILES, Role, check_path
from samara.schemas.release_file import SUFFIX

_TOKENIZER_NAMES = ("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "spiece", "sentencepiece")
_LICENCE_NAMES = ("licen", "copying", "notice")
_WEIGHTS_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".gguf")
_CONFIG_ENDINGS = (".json", ".jinja", ".yaml", ".yml", ".toml")
# what the header of a GGUF calls itself (general.type; ggml's docs/gguf.md)
_ROLES_BY_KIND = {
    "model": Role.WEIGHTS,
    "adapter": Role.ADAPTER,
    "mmproj": Role.PROJECTOR,
    "imatrix": Role.OTHER,
    "dataset": Role.OTHER,
}
_NAMED = 8  # files that a message names
_PROJECTOR_ARCHITECTURE = "clip"  # whatever their type says: older ones say "model", or "clip-vision"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file to publish: where it lies, and its path inside the release."""

    source: Path
    path: str


def collect(named: Sequence[Path], *, on_event: OnEvent = ignore) -> tuple[SourceFile, ...]:
    """The files of a release, from what somebody named: files, and folders with all that is in them.

    What is hidden in a folder (`.git`, `.cache`) stays out, and so do release files and, with a warning, empty files.
    Links to files are followed, links to folders are refused. Raises UsageError for a name that can't travel, for two
    files with one name, for an incomplete set and for more files than a release may have; NotFoundError for what isn't
    there.
    """
    found: list[SourceFile] = []
    for path in named:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            _checked(path.name)  # a name that can't travel is the first thing to say
            raise cannot_read(path, error) from None
        found += _in_folder(path, on_event) if is_folder else [SourceFile(source=path, path=_checked(path.name))]
        if len(found) > MAX_FILES:
            break
    if not 1 <= len(found) <= MAX_FILES:
        raise UsageError(
            "publish at least one file" if not found else "too many files for one release",
            expected=f"1…{MAX_FILES}", actual=f"{len(found)} or more" if found else 0,
        )  # fmt: skip
    _require_different(found)
    require_complete(one.path for one in found)
    return tuple(found)


def role_of(path: str, *, kind: str | None = None, architecture: str | None = None) -> Role:
    """What a file is for. `kind`, `architecture`: of a GGUF, what its header says; that counts for more than a name."""
    if architecture == _PROJECTOR_ARCHITECTURE:
        return Role.PROJECTOR
    if kind in _ROLES_BY_KIND:
        return _ROLES_BY_KIND[kind]
    name = path.rpartition("/")[2].lower()
    if architecture is not None or name.endswith(_WEIGHTS_ENDINGS):
        if "mmproj" in name:
            return Role.PROJECTOR
        return Role.ADAPTER if "lora" in name or "adapter" in name else Role.WEIGHTS
    if name.startswith(_TOKENIZER_NAMES):
        return Role.TOKENIZER
    if name.startswith(_LICENCE_NAMES):
        return Role.LICENCE
    return Role.CONFIG if name.endswith(_CONFIG_ENDINGS) else Role.OTHER


def _in_folder(folder: Path, on_event: OnEvent) -> list[SourceFile]:
    found, left_out = [], []
    for source, is_hidden in _walk(folder):
        inner = source.relative_to(folder).as_posix()
        if is_hidden or inner.endswith(SUFFIX):
            left_out.append(inner)
        elif source.is_file() and source.stat().st_size == 0:
            on_event(Warned(message=f"{inner} is empty and stays out of the release"))
        else:
            found.append(SourceFile(source=source, path=_checked(inner)))
    if not found:
        raise UsageError(f"{folder} is a folder without files to publish", next_step="name files, or another folder")
    if left_out:
        names = ", ".join(sorted(left_out)[:_NAMED]) + (", …" if len(left_out) > _NAMED else "")
        on_event(Note(message=f"not part of the release: {names}"))
    return sorted(found, key=lambda one: one.path)


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """(path, whether it is hidden) of every file below `folder`, and of every hidden folder. At most a few too many."""
    count = 0

    def failed(error: OSError) -> None:
        raise cannot_read(error.filename, error) from None

    for place, folders, files in os.walk(folder, onerror=failed):
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            yield Path(place, name), True
        for name in folders:
            if Path(place, name).is_symlink():
                raise UsageError(
                    f"{Path(place, name)} is a link to a folder", next_step="name the folder itself, or remove the link"
                )
        folders.sort()
        for name in files:
            is_hidden = name.startswith(".")
            yield Path(place, name), is_hidden
            count += not is_hidden
        if count > MAX_FILES:
            return


def _checked(path: str) -> str:
    try:
        os.fsencode(path).decode("utf-8")
        return check_path(path)
    except (ValueError, UnicodeError) as error:
        raise UsageError(f"can't publish a file named {path!r}: {error}", next_step="rename it") from None


def _require_different(files: Sequence[SourceFile]) -> None:
    seen: set[str] = set()
    for one in files:
        folded = one.path.casefold()
        if folded in seen:
            raise UsageError(
                f"two files are named {one.path}", next_step="rename one: names in a release differ by more than case"
            )
        seen.add(folded)
