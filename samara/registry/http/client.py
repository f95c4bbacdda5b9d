"""GET, whole or in part, and POST, with servers that are trusted with nothing.

`HttpClient.get` gives an Answer whose head was checked: which part it is, how long, and who sends it. The body is read
piece by piece with `readinto`. Connections are kept and used again. Retries, rates and what to do about failures are
the caller's: an HttpError says what kind it was. The only second try is on a kept connection that had ended meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING

from samara import __version__
from samara.registry.http.dial import Contact, Dialler, Resolve, system_resolve
from samara.registry.http.failures import HttpError, HttpFailure
from samara.registry.http.headers import Body, BrokenAnswerError, body_of, retry_after, validator
from samara.registry.http.proxies import Proxies, Proxy
from samara.registry.http.urls import Target, follow, parse_url
from samara.registry.http.waits import Ended, Watchdog
from samara.schemas.networks import NetworkPolicy

if TYPE_CHECKING:
    import ssl

    from samara.registry.http.wire import Wire

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEPT_PER_HOST = 8  # idle connections; more than that many at once to one host would be rude anyway
_KEPT_FOR = 60.0  # seconds: servers close earlier or not much later
_SMALL = 1 << 14  # bytes of an answer nobody wants that are read, so that the connection can be kept

_Key = tuple[str, str, int, Proxy | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Patience:
    connect: float
    stall: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer that was read whole, whatever its status. `headers`: lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Asks web servers, within `policy`. Thread-safe; `close` it, or use it as a context.

    `proxies`: the environment's if not given. `on_contact` hears of every connection before it is made, in the thread
    that asks. `resolve` gives the addresses of a name, or raises OSError. `named`: URLs whose hosts and ports the user
    named, so that they are vouched for whoever mentions them.
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        proxies: Proxies | None = None,
        on_contact: Callable[[Contact], None] | None = None,
        resolve: Resolve = system_resolve,
        named: Iterable[str] = (),
    ) -> None:
        self._named = {(target.host, target.port) for target in map(parse_url, named)}
        self._proxies = Proxies.from_environment(os.environ) if proxies is None else proxies
        self._dialler = Dialler(policy, resolve=resolve, tls=self._tls_context, on_contact=on_contact or _unheard)
        self._watchdog = Watchdog()
        self._lock = threading.Lock()
        self._kept: dict[_Key, list[tuple[Wire, float]]] = {}
        self._closed = False
        self._tls: ssl.SSLContext | None = None

    def get(
        self,
        url: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_range: str | None = None,
        vouched: bool = False,
        connect_timeout: float = 10.0,
        stall_timeout: float = 30.0,
    ) -> Answer:
        """The bytes [start, end) of what is at `url`; `end` None: to its end. Use the Answer as a context.

        `if_range`: the validator of what the caller has; if it is something else now, the whole comes (status 200).
        `vouched`: the user named this host, so it may be a local one; that goes for no other host it redirects to.
        `connect_timeout`: seconds for name, connection and TLS; `stall_timeout`: for the head, and for each next byte.
        Raises UsageError for what is no URL, before any socket, and HttpError.
        """
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"no such range: {start}-{end}")
        target = first = parse_url(url)
        headers = _headers(start, end, if_range)
        patience = _Patience(connect=connect_timeout, stall=stall_timeout)
        for _ in range(MAX_REDIRECTS + 1):
            known = (vouched and target.host == first.host) or (target.host, target.port) in self._named
            wire, status, found, key = self._ask(target, headers, patience, vouched=known)
            try:
                if status in (200, 206):
                    body = _body(target, status, found, start=start, end=end)
                    return Answer(self, key, wire, target, status, body, validator(found), stall_timeout)
                location = found.get("location") if status in _REDIRECTS else None
                if location is None:
                    raise _bad_status(target, status, found)
                target = follow(target, location)
            except HttpError:
                self._give_up(key, wire, found, patience)
                raise
            self._give_up(key, wire, found, patience)
        raise HttpError(
            f"{first.url}: redirected more than {MAX_REDIRECTS} times",
            kind=HttpFailure.REDIRECT,
            actual=target.url[:200],
        )

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        limit: int = 1 << 20,
        vouched: bool = False,
        connect_timeout: float = 10.0,
        stall_timeout: float = 120.0,
        slowest: float = 16 * 1024,
    ) -> Reply:
        """Send `body` to `url`; whatever is answered, also a refusal, with at most `limit` bytes of its body.

        For requests that may be sent twice: a kept connection may turn out to have ended. Redirects are not followed.
        `stall_timeout`: seconds for the answer, beside those that the body takes at `slowest` bytes per second; the
        rest as for `get`. Raises UsageError for what is no URL, and HttpError.
        """
        target = parse_url(url)
        patience = _Patience(connect=connect_timeout, stall=stall_timeout + len(body) / slowest)
        said = {**_headers(0, None, None), **headers, "Content-Length": str(len(body))}
        wire, status, found, key = self._ask(target, said, patience, vouched=vouched, body=body)
        try:
            answer = Answer(self, key, wire, target, status, _plain_body(target, found), None, stall_timeout)
        except HttpError:
            wire.close()
            raise
        with answer:
            data = bytearray()
            buffer = memoryview(bytearray(_SMALL))
            while len(data) <= limit and (count := answer.readinto(buffer)):
                data += buffer[:count]
        return Reply(status=status, headers=found, body=bytes(data[:limit]))

    def close(self) -> None:
        """End all that is under way, from any thread. What waits in `get` or `readinto` raises HttpError."""
        with self._lock:
            self._closed = True
            kept = [wire for wires in self._kept.values() for wire, _ in wires]
            self._kept.clear()
        for wire in kept:
            wire.close()
        self._watchdog.close()

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(
        self, target: Target, headers: dict[str, str], patience: _Patience, *, vouched: bool, body: bytes | None = None
    ) -> tuple[Wire, int, dict[str, str], _Key]:
        from samara.registry.http.wire import WireError

        if self._closed:
            raise HttpError(f"{target.url}: the client was closed", kind=HttpFailure.BROKEN)
        proxy = self._proxies.proxy_for(target)
        self._dialler.judge(target, proxy, vouched=vouched)
        key = (target.scheme, target.host, target.port, proxy)
        headers = {"Host": target.authority, **headers}
        path = target.path
        if proxy is not None and target.scheme == "http":
            path = target.url
            if proxy.authorization is not None:
                headers["Proxy-Authorization"] = proxy.authorization
        while True:
            kept = self._take_kept(key, vouched=vouched or proxy is not None)
            wire = kept or self._connect(target, proxy, patience, vouched=vouched)
            try:
                status, found = wire.ask(path, headers, timeout=patience.stall, body=body)
            except WireError as error:
                wire.close()
                if kept is not None and error.unheard and wire.guard.ended is None:
                    continue  # the server had closed it meanwhile, as it may
                raise _failure(target, wire, error, "no answer") from None
            except BaseException:
                wire.close()
                raise
            return wire, status, found, key

    def _connect(self, target: Target, proxy: Proxy | None, patience: _Patience, *, vouched: bool) -> Wire:
        from samara.registry.http.wire import Wire

        guard = self._watchdog.guard()
        try:
            dialled = self._dialler.dial(target, proxy, guard, vouched=vouched, timeout=patience.connect)
        except BaseException:
            guard.release()
            raise
        return Wire(dialled, guard)

    def _take_kept(self, key: _Key, *, vouched: bool) -> Wire | None:
        """A connection that may be used again. The policy is asked anew: the host may have been vouched for."""
        while True:
            with self._lock:
                if self._closed or not self._kept.get(key):
                    return None
                wire, since = self._kept[key].pop()
            if not self._dialler.allows(wire.address, vouched=vouched):
                self._keep(key, wire)
                return None
            if time.monotonic() - since <= _KEPT_FOR and wire.is_alive:
                return wire
            wire.close()

    def _keep(self, key: _Key, wire: Wire) -> None:
        """For the next request to this host, if it can have one. Those that nobody came back to are closed."""
        now = time.monotonic()
        old = [wire]
        with self._lock:
            for wires in self._kept.values():
                old += (one for one, since in wires if now - since > _KEPT_FOR)
                wires[:] = (one for one in wires if now - one[1] <= _KEPT_FOR)
            wires = self._kept.setdefault(key, [])
            if wire.is_free and not self._closed and len(wires) < _KEPT_PER_HOST:
                wires.append((wire, now))
                old.remove(wire)
        for one in old:
            one.close()

    def _give_up(self, key: _Key, wire: Wire, found: dict[str, str], patience: _Patience) -> None:
        """Nobody wants this answer's body: a small one is read, so that the connection stays of use."""
        from samara.registry.http.wire import WireError

        length = found.get("content-length", "")
        try:
            if length.isascii() and length.isdigit() and len(length) <= 6 and int(length) <= _SMALL:
                deadline = time.monotonic() + min(1.0, patience.stall)
                while (left := deadline - time.monotonic()) > 0 and wire.read(_SMALL, timeout=left):
                    pass
        except WireError:
            pass
        self._keep(key, wire)

    def _tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 and later, the system's certificates, names checked. SSL_CERT_FILE and SSL_CERT_DIR replace them."""
        import ssl

        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
                self._tls.set_alpn_protocols(["http/1.1"])
            return self._tls


class Answer:
    """A body being received. One thread reads; any may abort. As a context it is closed at its end."""

    def __init__(
        self,
        client: HttpClient,
        key: _Key,
        wire: Wire,
        target: Target,
        status: int,
        body: Body,
        validator: str | None,
        stall_timeout: float,
    ) -> None:
        self.url = target.url  # after redirects
        self.endpoint = wire.endpoint  # HOST:PORT really connected
        self.status = status  # 200: from byte 0, whatever was asked; 206: from `start`
        self.start = body.start
        self.length = body.length  # bytes to come, None if only the end will tell
        self.total = body.total  # bytes of the whole object, None if not said
        self.validator = validator
        self._client = client
        self._key = key
        self._wire: Wire | None = wire
        self._lock = threading.Lock()
        self._target = target
        self._left = body.length
        self._got = 0
        self._failed: HttpError | None = None
        self._stall_timeout = stall_timeout

    def readinto(self, buffer: memoryview | bytearray) -> int:
        """Receive what is there into `buffer`, at most its size: how many bytes; 0 at the end. Waits for one at least.

        Never more than was announced. Raises HttpError: STALLED after `stall_timeout` seconds without a byte; BROKEN if
        the body ends before its end, or was aborted; and the same again for who asks once more.
        """
        from samara.registry.http.wire import WireError

        if self._failed is not None:
            raise self._failed
        if len(buffer) == 0:
            raise ValueError("an empty buffer")
        if self._left == 0:
            self.close()
            return 0
        wire = self._wire
        if wire is None:
            raise ValueError("the answer was closed")
        size = len(buffer) if self._left is None else min(len(buffer), self._left)
        try:
            data = wire.read(size, timeout=self._stall_timeout)
        except WireError as error:
            raise self._broken(wire, error) from None
        if not data and self._left is not None:
            raise self._broken(wire, WireError("the connection ended"))
        buffer[: len(data)] = data
        self._got += len(data)
        if self._left is not None:
            self._left -= len(data)
        if not data:
            self._left = 0
        if self._left == 0:
            self.close()
        return len(data)

    def abort(self) -> None:
        """From any thread, before the end: whoever waits in `readinto` raises at once, and so does who asks later."""
        with self._lock:  # its connection may be another answer's by now
            if self._wire is not None:
                self._wire.guard.end(Ended.ABORTED)

    def close(self) -> None:
        """Keep the connection if the body was read to its end, else end it. In the reading thread."""
        with self._lock:
            wire, self._wire = self._wire, None
        if wire is not None:
            self._client._keep(self._key, wire)

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _broken(self, wire: Wire, error: Exception) -> HttpError:
        self._failed = _failure(self._target, wire, error, f"ended early, after {self._got} bytes")
        self.close()
        return self._failed


def _headers(start: int, end: int | None, if_range: str | None) -> dict[str, str]:
    headers = {"User-Agent": f"samara/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    if start > 0 or end is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if if_range is not None:
            headers["If-Range"] = if_range
    return headers


def _body(target: Target, status: int, found: dict[str, str], *, start: int, end: int | None) -> Body:
    try:
        return body_of(status, found, start=start, end=end)
    except BrokenAnswerError as error:
        raise HttpError(f"{target.url} answers nonsense: {error}", kind=HttpFailure.BROKEN, status=status) from None


def _plain_body(target: Target, found: dict[str, str]) -> Body:
    """The body of any status, as it is framed."""
    return _body(target, 200, found, start=0, end=None)


def _bad_status(target: Target, status: int, found: dict[str, str]) -> HttpError:
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    kind = HttpFailure.PROXY if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else HttpFailure.STATUS
    return HttpError(
        f"{target.url} answered HTTP {status}{phrase}",
        kind=kind,
        status=status,
        retry_after=retry_after(found, datetime.now(UTC)),
    )


def _failure(target: Target, wire: Wire, error: Exception, what: str) -> HttpError:
    from samara.registry.http.wire import WireError

    if wire.guard.ended is Ended.ABORTED:
        return HttpError(f"{target.url} was given up", kind=HttpFailure.BROKEN)
    if wire.guard.ended is Ended.LATE or (isinstance(error, WireError) and error.silent):
        return HttpError(f"{target.url} is silent", kind=HttpFailure.STALLED, next_step="try again later")
    return HttpError(f"{target.url}: {what}", kind=HttpFailure.BROKEN, actual=str(error), next_step="try again later")


def _unheard(contact: Contact) -> None:
    """Nobody wants to know."""
