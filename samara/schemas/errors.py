"""The one error tree. Each class says whose fault it is and carries its exit code.

Pure: nothing here prints or exits. The command line maps `exit_code` to the process's status and prints the
message as one line; `--json` prints `as_dict()`. docs/exit-codes.md is the same table for people, and a test
holds the two equal.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Process exit statuses; stable, others script against them."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    NETWORK = 4
    INTEGRITY = 5
    TRUST = 6
    DISK_FULL = 7
    ENGINE = 8
    STORE = 9
    FINDINGS = 10
    UNCHECKED = 11
    INTERRUPTED = 130


class SamaraError(Exception):
    """Base of every error this project raises on purpose.

    One clear message: what is wrong, what was expected, what was found, and what to do next.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(
        self, what: str, *, expected: object = None, actual: object = None, next_step: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = None if expected is None else str(expected)
        self.actual = None if actual is None else str(actual)
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected is not None and self.actual is not None:
            parts.append(f": expected {self.expected}, got {self.actual}")
        elif self.expected is not None:
            parts.append(f": expected {self.expected}")
        elif self.actual is not None:
            parts.append(f": got {self.actual}")
        if self.next_step is not None:
            parts.append(f" — {self.next_step}")
        return "".join(parts)

    def as_dict(self) -> dict[str, object]:
        """The same for programs: {"error", "exit_code", "message", "expected", "actual", "next_step"}."""
        return {
            "error": type(self).__name__,
            "exit_code": int(self.exit_code),
            "message": self.what,
            "expected": self.expected,
            "actual": self.actual,
            "next_step": self.next_step,
        }


class UsageError(SamaraError):
    """The caller asked for something that can't be meant: a bad reference, a directory where a file belongs."""

    exit_code = ExitCode.USAGE


class NotFoundError(SamaraError):
    """What was named isn't known or isn't here."""

    exit_code = ExitCode.NOT_FOUND


class NetworkError(SamaraError):
    """Nobody could be reached, or nobody reachable had the bytes. Trying again later may help."""

    exit_code = ExitCode.NETWORK


class IntegrityError(SamaraError):
    """Bytes are not what a digest says, or a document is not what its format says."""

    exit_code = ExitCode.INTEGRITY


class MalformedError(IntegrityError):
    """A document (manifest, GGUF header, torrent, release file) breaks its own format."""


class TrustError(SamaraError):
    """A signature is missing, wrong, or by nobody we were told to trust."""

    exit_code = ExitCode.TRUST


class DiskFullError(SamaraError):
    """The disk has no room; progress is kept."""

    exit_code = ExitCode.DISK_FULL


class EngineError(SamaraError):
    """The inference engine is missing, refused the model, or died."""

    exit_code = ExitCode.ENGINE


class StoreError(SamaraError):
    """The machine's own state can't be used: not writable, locked for too long, or written by a newer version."""

    exit_code = ExitCode.STORE


class InterruptedByUser(SamaraError):  # noqa: N818  (an outcome, not a fault)
    """Ctrl-C or SIGTERM; everything proven so far is kept."""

    exit_code = ExitCode.INTERRUPTED


def cannot_read(name: object, error: OSError) -> SamaraError:
    """Why a file that somebody named can't be read, as the error to raise."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return NotFoundError(f"{name} doesn't exist", next_step="check the path")
    if error.errno == errno.EISDIR:
        return UsageError(f"{name} is a folder", next_step="name the files in it")
    if isinstance(error, PermissionError):
        return UsageError(f"{name} can't be read by this user", next_step="change its permissions or its owner")
    return UsageError(f"{name} can't be read ({error.strerror or error})", next_step="check the path")
