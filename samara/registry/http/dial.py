"""From a host and port to a connected socket: names looked up here, addresses judged, then exactly those dialled.

Between the judgement and the connection no name server is asked again, so a name can't change its mind (DNS rebinding).
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from samara.registry.http.failures import HttpError, HttpFailure
from samara.registry.http.proxies import Proxy
from samara.registry.http.urls import Target
from samara.registry.http.waits import Ended, Guard
from samara.schemas.endpoints import format_endpoint
from samara.schemas.networks import NetworkPolicy

if TYPE_CHECKING:
    import ssl

Resolve = Callable[[str, int], Sequence[str]]

MAX_ADDRESSES = 8  # of one name: more are a mistake or a trick
_MAX_TUNNEL_HEAD = 1 << 16  # bytes of a proxy's answer to CONNECT
_TUNNEL_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """Somebody is knocked at. `host`: whom the request is for; `endpoint`: ADDRESS:PORT, the proxy's if `proxied`."""

    host: str
    endpoint: str
    proxied: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialled:
    """A connected socket, TLS and tunnel done. `address`: whose; `endpoint`: the same with its port, as text."""

    sock: socket.socket
    address: str
    endpoint: str


class Dialler:
    """Connects. Thread-safe; `tls` makes the context, once, when the first https is asked for."""

    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        resolve: Resolve,
        tls: Callable[[], ssl.SSLContext],
        on_contact: Callable[[Contact], None],
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._tls = tls
        self._on_contact = on_contact
        self._good: dict[tuple[str, int], str] = {}  # the address that answered last, to be tried first

    def judge(self, target: Target, proxy: Proxy | None, *, vouched: bool) -> None:
        """Before anything is asked of anybody: is the host in the URL itself refused? Raises HttpError (POLICY).

        A name is judged by its addresses when it is dialled; behind a proxy it is the proxy's to look up, and of names
        only that of its own loopback can be judged here (RFC 6761 6.3).
        """
        address = target.address
        if address is None and proxy is not None and f".{target.host}".endswith(".localhost"):
            address = "127.0.0.1"
        why = None if address is None else self._policy.why_not(address, vouched=vouched)
        if why is not None:
            raise _refused(target, why)

    def allows(self, address: str, *, vouched: bool) -> bool:
        """Whether a connection to `address`, made for somebody else, may be used again."""
        return self._policy.why_not(address, vouched=vouched) is None

    def dial(self, target: Target, proxy: Proxy | None, guard: Guard, *, vouched: bool, timeout: float) -> Dialled:
        """A connection to `target`, by way of `proxy`, within `timeout` seconds for all of it. Raises HttpError."""
        host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
        deadline = time.monotonic() + timeout
        with guard.within(timeout):
            addresses = self._allowed(target, proxy, guard, vouched=vouched, timeout=timeout)
            sock, address = self._connect(addresses, target, proxy, guard, deadline)
            self._good[host, port] = address
            try:
                if target.scheme == "https":
                    if proxy is not None:
                        _tunnel(sock, target, proxy, guard)
                    sock = self._wrap(sock, target, guard, timeout)
            except BaseException:
                guard.release()
                sock.close()
                raise
        return Dialled(sock=sock, address=address, endpoint=format_endpoint((address, port)))

    def _allowed(
        self, target: Target, proxy: Proxy | None, guard: Guard, *, vouched: bool, timeout: float
    ) -> list[str]:
        host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
        addresses = _look_up(
            self._resolve, host, port, guard, timeout, HttpFailure.PROXY if proxy else HttpFailure.NAME
        )
        judged = [
            (address, self._policy.why_not(address, vouched=vouched or proxy is not None)) for address in addresses
        ]
        allowed = [address for address, why in judged if why is None]
        if not allowed:
            raise _refused(target, "; ".join(why for _, why in judged[:3] if why is not None))
        allowed.sort(key=lambda address: address != self._good.get((host, port)))
        return allowed[:MAX_ADDRESSES]

    def _connect(
        self, addresses: list[str], target: Target, proxy: Proxy | None, guard: Guard, deadline: float
    ) -> tuple[socket.socket, str]:
        """The first that answers, each given its share of the time that is left."""
        port = target.port if proxy is None else proxy.port
        reason = ""
        for number, address in enumerate(addresses):
            endpoint = format_endpoint((address, port))
            self._on_contact(Contact(host=target.host, endpoint=endpoint, proxied=proxy is not None))
            share = max(0.1, (deadline - time.monotonic()) / (len(addresses) - number))
            sock = None
            try:
                family, kind, protocol, _, where = socket.getaddrinfo(
                    address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
                )[0]
                sock = socket.socket(family, kind, protocol)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(share)
                guard.watch(sock)
                sock.connect(where)
                if guard.ended is None:
                    return sock, address
            except OSError as error:
                reason = f"{endpoint}: {_text(error)}"
            guard.on_end(_nothing)
            if sock is not None:
                sock.close()
            if guard.ended is not None:
                break
        kind_of_failure = HttpFailure.CONNECT if proxy is None else HttpFailure.PROXY
        raise HttpError(
            f"can't connect to {target.host}" if proxy is None else f"can't connect to the proxy {proxy}",
            kind=kind_of_failure,
            actual=_why_ended(guard) or reason,
            next_step="check the address and the network",
        )

    def _wrap(self, sock: socket.socket, target: Target, guard: Guard, timeout: float) -> socket.socket:
        import ssl

        try:
            # no handshake yet: the guard must hold the new socket first
            secure = self._tls().wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            raise HttpError(f"{target.host}: TLS failed", kind=HttpFailure.CONNECT, actual=_text(error)) from None
        guard.watch(secure)
        secure.settimeout(timeout)
        try:
            secure.do_handshake()
        except ssl.SSLCertVerificationError as error:
            secure.close()
            raise HttpError(
                f"{target.host} can't prove to be {target.host}",
                kind=HttpFailure.TLS,
                actual=error.verify_message or _text(error),
                next_step="check the clock and the system's certificates (SSL_CERT_FILE)",
            ) from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, TimeoutError, ConnectionError) as error:
            secure.close()  # it hung up or was silent: no verdict about who it is
            reason = _why_ended(guard) or _text(error)
            raise HttpError(f"{target.host}: TLS failed", kind=HttpFailure.CONNECT, actual=reason) from None
        except OSError as error:
            secure.close()
            raise HttpError(f"{target.host}: TLS failed", kind=HttpFailure.TLS, actual=_text(error)) from None
        return secure


def system_resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system knows them, in its order of preference. Raises OSError."""
    found = [where for *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    # a link-local address means something only with the card it is behind
    return [f"{where[0]}%{where[3]}" if len(where) == 4 and where[3] else str(where[0]) for where in found]


def _look_up(resolve: Resolve, host: str, port: int, guard: Guard, timeout: float, kind: HttpFailure) -> list[str]:
    """In a thread of its own, because a look-up can't be interrupted; one that is never answered is left behind."""
    if _is_address(host):
        return [host]
    done = threading.Event()
    found: list[Sequence[str] | OSError] = []

    def look() -> None:
        try:
            found.append(resolve(host, port))
        except OSError as error:
            found.append(error)
        finally:
            done.set()

    guard.on_end(done.set)
    threading.Thread(target=look, name="http-name", daemon=True).start()
    done.wait(timeout)
    guard.on_end(_nothing)
    answer = found[0] if found and guard.ended is None else OSError(_why_ended(guard) or "no answer in time")
    if isinstance(answer, OSError) or not answer:
        raise HttpError(
            f"there is no address for {host}",
            kind=kind,
            actual=_text(answer) if isinstance(answer, OSError) else None,
            next_step="check the name and the network",
        )
    return list(dict.fromkeys(answer))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _tunnel(sock: socket.socket, target: Target, proxy: Proxy, guard: Guard) -> None:
    """CONNECT (RFC 9110 9.3.6). After it the bytes are the target's. Raises HttpError: PROXY."""
    host = format_endpoint((target.host, target.port))
    lines = [f"CONNECT {host} HTTP/1.1", f"Host: {host}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    head = bytearray()
    try:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        while b"\r\n\r\n" not in head:
            piece = sock.recv(4096)
            if not piece or len(head) > _MAX_TUNNEL_HEAD:
                break
            head += piece
    except OSError as error:
        raise HttpError(f"the proxy {proxy} failed", kind=HttpFailure.PROXY, actual=_text(error)) from None
    found = _TUNNEL_STATUS.match(head)
    if not found or not head.endswith(b"\r\n\r\n"):  # TLS lets the client speak first: nothing may follow yet
        reason = _why_ended(guard) or "no answer that makes sense"
        raise HttpError(f"the proxy {proxy} failed", kind=HttpFailure.PROXY, actual=reason)
    status = int(found[1])
    if not 200 <= status < 300:
        raise HttpError(
            f"the proxy {proxy} won't connect to {host} (HTTP {status})", kind=HttpFailure.PROXY, status=status
        )


def _refused(target: Target, why: str) -> HttpError:
    return HttpError(f"{target.url} may not be asked: {why}", kind=HttpFailure.POLICY)


def _why_ended(guard: Guard) -> str | None:
    return {None: None, Ended.LATE: "not in time", Ended.ABORTED: "given up"}[guard.ended]


def _text(error: OSError | ValueError) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason)[:200]


def _nothing() -> None:
    """Nothing to end."""
