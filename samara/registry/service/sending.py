"""Answers whose bytes come from a file: a whole one, or one that is still arriving. Never a byte that isn't proven.

A whole file's stamp is compared again before every slice; if it changed meanwhile, or the file ends early, the
connection is ended instead: the client notices by Content-Length. Where the server can (`wire_files`), bytes don't pass
through Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from anyio import to_thread
from fastapi.responses import Response

from samara.registry.positioned import read_at
from samara.registry.service.metrics import Metrics
from samara.registry.service.ports import Arriving
from samara.registry.service.problems import problem
from samara.registry.service.wire_files import EXTENSION
from samara.schemas.errors import SamaraError
from samara.schemas.stamps import Stamp

T = TypeVar("T")

SLICE = 8 << 20  # bytes sent between two looks at the stamp
_LAST = 64 << 10  # the end of a file is sent by itself: a change while the rest was sent is noticed before it is whole
_CHUNK = 256 << 10  # read at once where the server has no sendfile
_STEP = 1 << 20  # of what arrives: wait for so many bytes at a time
_PATIENCE = 1.0  # seconds of one wait; then it is looked whether the client is still there
_FIRST = 10.0  # seconds in which a fetch that can't begin may say so, before the answer is promised
_WAITING = 64  # threads that wait for arriving bytes


class Changed(Exception):  # noqa: N818  (an outcome, not a fault)
    """The file isn't any more what was verified."""


class OpenFile:
    """A descriptor that is closed at the latest when nobody has it any more. `stamp`: what it was verified with."""

    def __init__(self, fd: int, stamp: Stamp | None, *, in_store: bool = False) -> None:
        self.fd = fd
        self.in_store = in_store
        self._stamp = stamp

    def check(self) -> None:
        """Raises Changed unless the file bears the stamp that it had when it was verified."""
        if self._stamp is None:
            return
        try:
            if Stamp.of(os.fstat(self.fd)) == self._stamp:
                return
        except OSError:
            pass
        raise Changed

    def read(self, offset: int, count: int) -> bytes:
        """Exactly so many bytes. Raises Changed where there are fewer, or they can't be read."""
        parts = []
        while count:
            try:
                part = read_at(self.fd, count, offset)
            except OSError:
                raise Changed from None
            if not part:
                raise Changed
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close it; once is enough."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Sent:
    """Counts what was given."""

    def __init__(self, metrics: Metrics, source: str) -> None:
        self._counter = metrics.bytes.labels(source)

    def add(self, count: int) -> None:
        """So many bytes more."""
        self._counter.inc(count)


class _Sending(Response):
    def __init__(self, start: int, end: int, status: int, headers: Mapping[str, str], sent: Sent) -> None:
        self._at = start
        self._end = end
        self._sent = sent
        super().__init__(status_code=status)
        self.raw_headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]

    async def _begin(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _give(self, scope: Any, send: Any, file: OpenFile, until: int) -> None:
        """Send up to `until`. Raises Changed, or ConnectionError when the client is gone."""
        zero_copy = EXTENSION in scope.get("extensions", {})
        while self._at < until:
            file.check()
            size = min(until - self._at, SLICE if zero_copy else _CHUNK)
            more = self._at + size < self._end
            if zero_copy:
                message = {"type": EXTENSION, "file": file.fd, "offset": self._at, "count": size, "more_body": more}
            else:
                body = await to_thread.run_sync(file.read, self._at, size)
                file.check()
                message = {"type": "http.response.body", "body": body, "more_body": more}
            await send(message)
            self._at += size
            self._sent.add(size)


class BytesAnswer(_Sending):
    """Bytes [start, end) of what is in memory, in slices: a slow client has a slice of its own, not the whole."""

    def __init__(
        self, data: bytes, start: int, end: int, status: int, headers: Mapping[str, str], sent: Sent
    ) -> None:  # fmt: skip
        super().__init__(start, end, status, headers, sent)
        self._data = data

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        """As an ASGI application."""
        await self._begin(send)
        view = memoryview(self._data)
        while self._at < self._end:
            until = min(self._at + _CHUNK, self._end)
            body = bytes(view[self._at : until])
            await send({"type": "http.response.body", "body": body, "more_body": until < self._end})
            self._sent.add(until - self._at)
            self._at = until


class FileAnswer(_Sending):
    """Bytes [start, end) of a whole file."""

    def __init__(
        self, file: OpenFile, start: int, end: int, status: int, headers: Mapping[str, str], sent: Sent
    ) -> None:  # fmt: skip
        super().__init__(start, end, status, headers, sent)
        self._file = file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI application."""
        try:
            async with _until_gone(receive):
                await self._begin(send)
                await self._give(scope, send, self._file, max(self._at, self._end - _LAST))
                await self._give(scope, send, self._file, self._end)
        except (Changed, ConnectionError):
            return  # before its end: the server closes the connection
        finally:
            self._file.close()


class ArrivingAnswer(_Sending):
    """Bytes [start, end) of a blob, each sent once it is proven. Owns one reader of the fetch."""

    def __init__(
        self, arriving: Arriving, start: int, end: int, status: int, headers: Mapping[str, str], sent: Sent
    ) -> None:  # fmt: skip
        super().__init__(start, end, status, headers, sent)
        self._arriving: Arriving | None = arriving

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As an ASGI application."""
        arriving = self._arriving
        assert arriving is not None
        begun = False
        file: OpenFile | None = None
        try:
            async with _until_gone(receive):
                began_at = asyncio.get_running_loop().time()
                while self._at < self._end:
                    until = min(self._at + _STEP, self._end)
                    is_there = await _waiting(arriving.wait_range, self._at, until, _PATIENCE)
                    late = asyncio.get_running_loop().time() - began_at > _FIRST
                    if not begun and (is_there or late):
                        await self._begin(send)
                        begun = True
                    if is_there:
                        if file is None:
                            file = OpenFile(await _waiting(arriving.open), None)
                        await self._give(scope, send, file, until)
        except SamaraError as error:
            if not begun:
                await problem(error)(scope, receive, send)
        except (Changed, ConnectionError):
            return  # before its end: the server closes the connection
        finally:
            if file is not None:
                file.close()
            self._leave()

    def _leave(self) -> None:
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.close()

    def __del__(self) -> None:
        self._leave()


@contextlib.asynccontextmanager
async def _until_gone(receive: Any) -> AsyncIterator[None]:
    """Cancel what is within when the client goes away; that ends as ConnectionResetError."""
    task = asyncio.current_task()
    assert task is not None
    gone = ended = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        if not ended:  # it is also said after an answer's last byte
            gone = True
            task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone or task.uncancel() > 0:
            raise
        raise ConnectionResetError("the client is gone") from None
    finally:
        ended = True
        watcher.cancel()


@functools.cache
def _waiting_threads() -> ThreadPoolExecutor:
    """Waiting for peers must not use up the threads that other requests are answered in."""
    return ThreadPoolExecutor(_WAITING, thread_name_prefix="samara-arriving")


async def _waiting(call: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread of those; a cancelled caller goes on when the call has ended: nothing is closed under it."""
    turn = asyncio.get_running_loop().run_in_executor(_waiting_threads(), call, *arguments)
    try:
        return await asyncio.shield(turn)
    except asyncio.CancelledError:
        await asyncio.wait([turn])
        if turn.done() and not turn.cancelled():
            turn.exception()  # looked at: nobody else will
        raise
