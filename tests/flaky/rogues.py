"""Peers that talk BitTorrent just well enough to do harm: each claims to have everything, and does it in its own way.

BEP 3's handshake and messages, nothing more. They listen on an address of their own, since bans are by address.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from enum import StrEnum
from types import TracebackType
from typing import Self

HOST = "127.0.0.2"
LIMIT = 30.0  # seconds that stopping may take
DRIP = 0.1  # seconds from byte to byte

_GREETING = b"\x13BitTorrent protocol"
_UNCHOKE, _INTERESTED, _BITFIELD, _REQUEST, _PIECE = 1, 2, 5, 6, 7


class Harm(StrEnum):
    """What a rogue does once it is asked for something."""

    WRONG_BYTES = "wrong-bytes"
    SHORTER = "shorter-blocks"
    LONGER = "longer-blocks"
    ELSEWHERE = "blocks-nobody-asked-for"
    ENDLESS = "a-message-of-two-gigabytes"
    GARBAGE = "garbage"
    HANGS_UP = "hangs-up"
    SILENT = "silent"
    DRIPS = "drips"


class Rogue:
    """One such peer. Use as a context manager.

    `text`: HOST:PORT. `asked`: blocks it was asked for. `pieces`: those it gave anything of. `given`: bytes of wrong
    blocks.
    """

    def __init__(self, harm: Harm, *, pieces: int, seed: int = 0, host: str = HOST) -> None:
        self.harm = harm
        self.asked = self.given = 0
        self.pieces: set[int] = set()
        self._id = f"-XX0000-{harm.value:.12}".ljust(20, "-").encode("ascii")  # two of one id are taken for one peer
        self._count = pieces
        self._dice = random.Random(seed)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self.text = f"{host}:{self._listener.getsockname()[1]}"
        self._listener.settimeout(0.05)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._stopped.set()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a rogue doesn't end"
        self._listener.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError, EOFError):
            caller.settimeout(0.05)
            hello = self._read(caller, 68)
            if not hello.startswith(_GREETING):
                return  # it tries encryption first, and comes again without
            caller.sendall(_GREETING + bytes(8) + hello[28:48] + self._id)
            caller.sendall(_message(_BITFIELD, _all_of(self._count)) + _message(_UNCHOKE))
            for index, begin, length in self._requests(caller):
                self.asked += 1
                self._answer(caller, index, begin, length)

    def _requests(self, caller: socket.socket) -> Iterator[tuple[int, int, int]]:
        while True:
            (size,) = struct.unpack(">I", self._read(caller, 4))
            body = self._read(caller, size)
            if body[:1] == bytes([_REQUEST]):
                yield struct.unpack(">III", body[1:13])

    def _answer(self, caller: socket.socket, index: int, begin: int, length: int) -> None:
        junk = self._dice.randbytes(length)
        match self.harm:
            case Harm.WRONG_BYTES:
                self._give(caller, index, begin, junk)
            case Harm.SHORTER:
                self._give(caller, index, begin, junk[: length // 2])
            case Harm.LONGER:
                self._give(caller, index, begin, junk + junk)
            case Harm.ELSEWHERE:
                self._give(caller, index + self._count, begin, junk)
            case Harm.ENDLESS:
                caller.sendall(struct.pack(">IB", 0x7FFFFFFF, _PIECE) + junk)
            case Harm.GARBAGE:
                caller.sendall(junk)
            case Harm.HANGS_UP:
                raise EOFError
            case Harm.SILENT:
                pass
            case Harm.DRIPS:
                head = struct.pack(">IBII", 9 + length, _PIECE, index, begin)
                for byte in head + junk:
                    caller.sendall(bytes([byte]))
                    if self._stopped.wait(DRIP):
                        raise EOFError

    def _give(self, caller: socket.socket, index: int, begin: int, block: bytes) -> None:
        caller.sendall(_message(_PIECE, struct.pack(">II", index, begin) + block))
        self.pieces.add(index)
        self.given += len(block)

    def _read(self, caller: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if self._stopped.is_set():
                raise EOFError
            try:
                chunk = caller.recv(size - len(data))
            except TimeoutError:
                continue
            if not chunk:
                raise EOFError
            data += chunk
        return data


def _message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def _all_of(pieces: int) -> bytes:
    bits = "1" * pieces + "0" * (-pieces % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
