"""The time that something published bears: SOURCE_DATE_EPOCH (reproducible-builds.org) if it is set, else the clock."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime

from samara.schemas.errors import UsageError


def publishing_time(now: datetime | None) -> datetime:
    """`now` itself if it is given. Raises UsageError for a SOURCE_DATE_EPOCH that is no number of seconds."""
    if now is not None:
        return now.astimezone(UTC)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC)
    if epoch.isascii() and epoch.isdigit():
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(int(epoch), UTC)
    raise UsageError("SOURCE_DATE_EPOCH is not a number of seconds", expected="1970…9999", actual=repr(epoch[:40]))
