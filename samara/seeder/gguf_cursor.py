"""Steps forward through a GGUF header of unknown honesty: the primitive reads, and the checks every one of them needs.

Knows how the format encodes numbers, texts and strings, not what they mean; `gguf_facts` does. Holds one small window
of the file in memory. The window is read, not mapped: a mapped file that somebody truncates meanwhile kills the process
with SIGBUS. Everything wrong is MalformedError; OSError passes through.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import BinaryIO, Final

from samara.schemas.errors import MalformedError
from samara.schemas.gguf_constants import SCALAR_BYTES, SIGNED, UNSIGNED, ValueType

WINDOW: Final = 256 * 1024

MAX_HEADER_BYTES: Final = 256 * 1024 * 1024  # 128k tokens with merges take 8 MB; some add a whole tokenizer.json
MAX_STEPS: Final = 4 * 1024 * 1024  # array elements visited one by one; 128k tokens with merges are 0.4 million

DAMAGED: Final = "the file is truncated or damaged: get it again"

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class Cursor:
    """A position in the header, and the checks that every step forward needs.

    `where` names what is being read, for messages.
    """

    def __init__(self, file: BinaryIO, size: int, window: int) -> None:
        self.at = 0
        self.where = "preamble"
        self._file = file
        self._size = size
        self._limit = min(size, MAX_HEADER_BYTES)
        self._window_bytes = window
        self._window = b""
        self._base = 0
        self._steps_left = MAX_STEPS

    def u32(self) -> int:
        return self._unpack(_U32)

    def u64(self) -> int:
        return self._unpack(_U64)

    def take(self, length: int) -> bytes:
        """The next `length` bytes, which the caller has bounded to less than a window."""
        index = self._load(length)
        self.at += length
        return self._window[index : index + length]

    def count(self, most: int, what: str) -> int:
        """A 64-bit count that may be at most `most`."""
        found = self.u64()
        if found > most:
            raise MalformedError(f"GGUF {self.where}: too many {what}", expected=f"at most {most}", actual=found)
        return found

    def text(self, most: int) -> str:
        """A string of at most `most` bytes."""
        length = self.u64()
        if length > most:
            raise MalformedError(f"GGUF {self.where}: text too long", expected=f"at most {most} bytes", actual=length)
        raw = self.take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise MalformedError(f"GGUF {self.where}: text is not UTF-8", actual=repr(raw[:40])) from None

    def value_type(self) -> ValueType:
        number = self.u32()
        try:
            return ValueType(number)
        except ValueError:
            raise MalformedError(
                f"GGUF {self.where}: unknown value type", expected=f"0 to {max(ValueType)}", actual=number
            ) from None

    def integer(self, kind: ValueType) -> int:
        """A value of any integer type."""
        if kind not in UNSIGNED and kind not in SIGNED:
            raise MalformedError(f"GGUF {self.where}: wrong type", expected="an integer", actual=kind.name)
        return int.from_bytes(self.take(SCALAR_BYTES[kind]), "little", signed=kind in SIGNED)

    def skip(self, length: int) -> None:
        self._require(length)
        self.at += length

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings: the only loop here that runs hundreds of thousands of times on a good file."""
        self._require(count * _U64.size)
        self.spend(count)
        length_at = _U64.unpack_from
        passed = 0
        while passed < count:
            index = self._load(_U64.size)
            window = self._window
            # Reading past the window raises, which is cheaper than to compare on every string.
            with suppress(struct.error, OverflowError):
                for passed in range(passed, count):  # noqa: B007, B020  (goes on where the last window ended)
                    index += 8 + length_at(window, index)[0]
                passed = count
            self.at = self._base + index
        self._require(0)

    def spend(self, steps: int) -> None:
        """Account for work that a few bytes can ask for."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise MalformedError(
                f"GGUF {self.where}: more array elements than any model has",
                expected=f"at most {MAX_STEPS} in all",
                actual=f"{MAX_STEPS - self._steps_left}",
            )

    def require_each(self, count: int, smallest: int) -> None:
        """Refuse a count whose elements can't fit the file even at their smallest."""
        self._require(count * smallest)

    def _unpack(self, form: struct.Struct) -> int:
        index = self._load(form.size)
        self.at += form.size
        number: int = form.unpack_from(self._window, index)[0]
        return number

    def _require(self, length: int) -> None:
        end = self.at + length
        if end > self._size:
            raise MalformedError(
                f"GGUF {self.where} runs past the end of the file",
                expected=f"an end within {self._size} bytes",
                actual=f"{end}",
                next_step=DAMAGED,
            )
        if end > self._limit:
            raise MalformedError(
                "GGUF header is too large", expected=f"at most {MAX_HEADER_BYTES} bytes", actual=f"{end} or more"
            )

    def _load(self, length: int) -> int:
        """Make the next `length` bytes part of the window; their index in it."""
        index = self.at - self._base
        if index + length <= len(self._window):
            return index
        self._require(length)
        self._file.seek(self.at)
        self._window = self._file.read(min(self._window_bytes, self._limit - self.at))
        self._base = self.at
        if len(self._window) < length:
            raise MalformedError(
                "file became shorter while it was read",
                expected=f"{self._size} bytes",
                actual=f"{self._base + len(self._window)}",
            )
        return 0
