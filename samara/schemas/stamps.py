"""What tells that a file has not been touched since we read it. Pure; `of` takes a stat result, never a path."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """Size (bytes), modification time (ns) and inode of one file. Any difference means: unverified.

    The device's number is kept for people but not compared: a NAS, a network or USB disk may get another one at each
    mount, and nobody wants a whole collection read again after a reboot.
    """

    size: int
    mtime_ns: int
    inode: int
    device: int = field(compare=False)

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The stamp in an `os.stat_result`."""
        # SQL integers are signed 64 bit; some filesystems hand out inode numbers above that.
        return cls(
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            inode=stat.st_ino & (2**63 - 1),
            device=stat.st_dev & (2**63 - 1),
        )
