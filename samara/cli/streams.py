"""stdout and stderr that outlive their readers: once the other end of a pipe is closed, writing to it does nothing.

The work goes on and ends as it would have; only nobody reads of it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

# Windows says EINVAL where others say EPIPE
_GONE = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}


class PatientOutput(io.FileIO):
    """A descriptor to write to. `reader_is_gone`: nobody will read any more."""

    reader_is_gone = False

    def write(self, data: Any, /) -> int:
        """Write, or drop what nobody would read."""
        if not self.reader_is_gone:
            try:
                return super().write(data)
            except OSError as error:
                self.reader_is_gone = True  # also of what is still buffered when the process ends
                if error.errno not in _GONE:
                    raise
        return memoryview(data).nbytes


def outlive_readers() -> None:
    """Make sys.stdout and sys.stderr patient, where they may be pipes. For a process of our own, once."""
    sys.stdout = _patient(sys.stdout)
    sys.stderr = _patient(sys.stderr)


def reader_is_gone(stream: TextIO) -> bool:
    """Whether nobody reads `stream` any more."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return isinstance(raw, PatientOutput) and raw.reader_is_gone


def _patient(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        return stream
    stream.flush()
    raw = PatientOutput(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering
    )
