"""One zstd frame that a stranger made, unpacked within bounds (RFC 8878). Pure.

What a frame declares of its size is not believed: zstandard's own `max_output_size` is ignored where it declares one.
"""

from __future__ import annotations

from enum import Enum, auto

import zstandard

from samara.schemas.errors import MalformedError

MAX_WINDOW = 8 << 20  # bytes of memory that a frame may ask for
_FEED = 256  # compressed bytes taken at once: 3 of them may ask for a zstd block of 128 KiB, so these for 11 MB at most


class FrameFault(Enum):
    """What is wrong with a frame."""

    DAMAGED = auto()
    TOO_LARGE = auto()
    SHORT = auto()  # it ends early
    LONG = auto()  # something follows


class FrameError(MalformedError):
    """No whole frame of at most so many bytes. `fault`: why; callers say it in their own words."""

    def __init__(self, fault: FrameFault, what: str) -> None:
        super().__init__(what)
        self.fault = fault


def unpack_frame(data: bytes, limit: int) -> bytearray:
    """Exactly one zstd frame → its content, at most `limit` bytes. Raises FrameError.

    Needs no more memory than `limit` and some 20 MB, whatever comes.
    """
    frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    body = bytearray()
    at = 0
    try:
        while at < len(data) and not frame.eof:
            body += frame.decompress(data[at : at + _FEED])
            at += _FEED
            if len(body) > limit:
                raise FrameError(FrameFault.TOO_LARGE, f"unpacks to more than {limit} bytes")
    except zstandard.ZstdError as error:
        raise FrameError(FrameFault.DAMAGED, str(error)) from None
    if not frame.eof:
        raise FrameError(FrameFault.SHORT, "the frame ends early")
    if frame.unused_data or at < len(data):
        raise FrameError(FrameFault.LONG, "something follows the frame")
    return body
