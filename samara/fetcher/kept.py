"""Which blobs are here because this registry fetched them by itself: the file SAMARA_HOME/kept.json.

    {"format": "samara-kept-1", "blobs": {"<b3 hex>": {"size": bytes, "since": seconds, "asked": seconds}, …}}

Written durably before the first byte of a blob comes, so that a process killed at any point never leaves one that
nobody answers for. What isn't in it is the operator's own, and never evicted. Times are UTC epoch seconds. One process
at a time may have it open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from samara.registry.durable import io_errors, write_durably
from samara.registry.home import Home
from samara.schemas.digests import b3_hex, b3_raw
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, SamaraError, StoreError

FORMAT = "samara-kept-1"
NAME = "kept.json"
DAMAGED = "kept.damaged.json"
LOCK = "kept.lock"
_MAX_BYTES = 64 << 20  # about half a million blobs


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One blob. `size`: its bytes; `since`: when its fetch was decided; `asked`: when somebody had it last, or 0."""

    size: int
    since: int
    asked: int = 0


class KeptFile:
    """Use as a context manager: its lock is held meanwhile. Raises StoreError if another process has it."""

    def __init__(self, home: Home) -> None:
        from filelock import FileLock

        self._path = home.root / NAME
        self._damaged = home.root / DAMAGED
        self._lock_path = home.root / LOCK
        self._lock = FileLock(self._lock_path, timeout=0, thread_local=False)
        self._home = home

    def __enter__(self) -> KeptFile:
        from filelock import Timeout

        self._home.prepare()
        with io_errors(self._lock_path):
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreError(
                    f"another process mirrors or pulls through into {self._home.root}",
                    next_step="stop it, or give this one a SAMARA_HOME of its own",
                ) from None
        return self

    def __exit__(self, *_exc: object) -> None:
        self._lock.release()

    def read(self) -> tuple[dict[str, Kept], str | None]:
        """(b3 text → what is kept, what is wrong with the file if anything is).

        A damaged file is put aside: then nothing that is here is known to be ours, and so nothing of it goes.
        """
        with io_errors(self._path):
            try:
                with self._path.open("rb") as file:
                    data = file.read(_MAX_BYTES + 1)
            except FileNotFoundError:
                return {}, None
        try:
            return _parse(data), None
        except (SamaraError, KeyError, TypeError, ValueError) as error:
            with contextlib.suppress(OSError):
                self._path.replace(self._damaged)
            return {}, (
                f"{self._path} is damaged ({error}) and was moved to {DAMAGED}: what was mirrored before is kept for"
                " good, doesn't count towards the quota and isn't given to others (but for --serve-all) — mend the"
                " file, or remove what is here with: samara rm"
            )

    def write(self, blobs: Mapping[str, Kept]) -> None:
        """Replace it durably. Raises DiskFullError, StoreError."""
        told = {
            b3_hex(b3): {"size": one.size, "since": one.since, "asked": one.asked} for b3, one in blobs.items()
        }  # fmt: skip
        write_durably(self._path, canonical_json({"format": FORMAT, "blobs": told}))

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path


def _parse(data: bytes) -> dict[str, Kept]:
    if len(data) > _MAX_BYTES:
        raise MalformedError("too large", expected=f"≤ {_MAX_BYTES} bytes")
    value = strict_json(data, NAME)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise MalformedError("another format", expected=FORMAT)
    found: dict[str, Kept] = {}
    for name, one in value["blobs"].items():
        numbers = [one["size"], one["since"], one["asked"]]
        if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
            raise MalformedError("not a number", actual=repr(one)[:80])
        b3_raw("b3:" + name)
        found["b3:" + name] = Kept(size=numbers[0], since=numbers[1], asked=numbers[2])
    return found
