"""A name server for one lab: says of each name what the test wants said. RFC 1035, as much as resolvers ask for."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_NO_SUCH_NAME, _BROKEN = 3, 2
_A = 1
LIMIT = 30.0  # seconds that stopping may take


class NameServer:
    """Listens at `address`, port 53. Make it inside the machine that it shall run on. Use as a context manager.

    `names`: name → IPv4 address; others don't exist. `is_silent`: answers nothing. `is_broken`: says that it fails.
    `asked`: how many questions came.
    """

    def __init__(self, address: str) -> None:
        self.names: dict[str, str] = {}
        self.is_silent = self.is_broken = False
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._socket.settimeout(0.05)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._stopped.set()
        self._thread.join(LIMIT)
        self._socket.close()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                question, caller = self._socket.recvfrom(512)
                self.asked += 1
                if not self.is_silent:
                    self._socket.sendto(self._answer(question), caller)

    def _answer(self, question: bytes) -> bytes:
        name, end = _name_in(question)
        (kind,) = struct.unpack(">H", question[end : end + 2])
        asked = question[12 : end + 4]
        address = self.names.get(name)
        code = _BROKEN if self.is_broken else 0 if address is not None else _NO_SUCH_NAME
        answers = b""
        if code == 0 and kind == _A and address is not None:
            answers = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 0, 4) + socket.inet_aton(address)
        head = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 1 if answers else 0, 0, 0)
        return head + asked + answers


def _name_in(question: bytes) -> tuple[str, int]:
    """The name asked for, and where it ends."""
    labels, at = [], 12
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode("ascii"))
        at += 1 + size
    return ".".join(labels), at + 1
