"""Web servers on loopback that do exactly what a test says, with TLS, behind proxies. Real sockets, no good manners."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.listeners import visited

from samara.registry.http import Answer, Contact, HttpClient, HttpError, HttpFailure, Proxies
from samara.schemas.networks import NetworkPolicy

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)\Z")
PATIENCE = 0.4  # seconds of a stall_timeout that is meant to be met: short for the test, long for loopback

DATA = b"".join(hashlib.sha256(number.to_bytes(4)).digest() for number in range(10_000))  # 320,000 bytes, no two alike


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked. Names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    def part(self, size: int) -> tuple[int, int] | None:
        """[start, end) of the Range asked for, of an object of `size` bytes."""
        found = _RANGE.match(self.headers.get("range", ""))
        if found is None:
            return None
        return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size


class Visitor:
    """One connection, the server's side of it."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self._unread = b""

    def request(self) -> Request | None:
        """The next request; None when the client is gone."""
        while b"\r\n\r\n" not in self._unread:
            piece = self.receive()
            if not piece:
                return None
            self._unread += piece
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        made = Request(method=method, target=target, headers=headers)
        with self.server.lock:
            self.server.requests.append(made)
        return made

    def receive(self) -> bytes:
        """Whatever comes; nothing when the client is gone."""
        try:
            return self.sock.recv(1 << 16)
        except OSError:
            return b""

    def send(self, data: bytes) -> bool:
        """Whether it went out."""
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    def answer(self, status: int, body: bytes = b"", **headers: str) -> bool:
        """An answer with a length, unless a header says otherwise. `Content_Range` for Content-Range."""
        lines = {"Content_Length": str(len(body)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value)
        return self.send(f"HTTP/1.1 {status} As It Is\r\n{head}\r\n".encode("latin-1") + body)

    def until_gone(self) -> None:
        """Wait for the client to hang up."""
        while self.receive():
            pass

    def drip(self, data: bytes, every: float = 0.05) -> None:
        """Byte by byte, over and over, until the client has had enough or the test is over."""
        while not self.server.over.wait(every):
            if not self.send(data[:1]):
                return
            data = data[1:] + data[:1]


Script = Callable[[Visitor], None]


@dataclass(kw_only=True)
class Server:
    """A server and what it has seen."""

    port: int
    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    failed_handshakes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def server(
    script: Script, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """`script` is run for each connection, in a thread of its own. `url` has no path."""
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    name = f"[{host}]" if ":" in host else host
    made = Server(port=listening.getsockname()[1], url="")
    made.url = f"{'https' if tls else 'http'}://{name}:{made.port}"

    def wrap(sock: socket.socket) -> socket.socket | None:
        if tls is None:
            return sock
        try:
            return tls.wrap_socket(sock, server_side=True)
        except OSError:
            with made.lock:
                made.failed_handshakes += 1
            return None

    def count() -> None:
        with made.lock:
            made.connections += 1

    with visited(listening, lambda sock: script(Visitor(sock, made)), on_connection=count, wrap=wrap):
        try:
            yield made
        finally:
            made.over.set()


def mirror(data: bytes = DATA, **headers: str) -> Script:
    """An honest server: whole or part, connections kept."""

    def script(visitor: Visitor) -> None:
        while (request := visitor.request()) is not None:
            part = request.part(len(data))
            if part is None or request.headers.get("if-range", headers.get("ETag")) != headers.get("ETag"):
                visitor.answer(200, data, **headers)
            elif part[0] >= len(data):
                visitor.answer(416, Content_Range=f"bytes */{len(data)}")
            else:
                start, end = part
                visitor.answer(206, data[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(data)}", **headers)

    return script


def once(send: Callable[[Visitor, Request], object]) -> Script:
    """For each request of a connection, `send`; what it leaves unsaid is never said."""

    def script(visitor: Visitor) -> None:
        while (request := visitor.request()) is not None:
            send(visitor, request)

    return script


def says(data: bytes) -> Script:
    """These bytes in answer to one request, and then the end."""

    def script(visitor: Visitor) -> None:
        if visitor.request() is not None:
            visitor.send(data)

    return script


def redirects(to: Callable[[Request], str], status: int = 302) -> Script:
    """Elsewhere, always."""
    return once(lambda visitor, request: visitor.answer(status, b"over there", Location=to(request)))


# --- the client's side ----------------------------------------------------------------------------------------------


class Contacts(list[Contact]):
    """What a client says it was in contact with."""

    @property
    def endpoints(self) -> list[str]:
        return [contact.endpoint for contact in self]


@contextmanager
def client(
    policy: NetworkPolicy | None = None,
    *,
    names: dict[str, list[str]] | None = None,
    proxies: Proxies | None = None,
    contacts: Contacts | None = None,
) -> Iterator[HttpClient]:
    """A client for which the only names are `names`, and the environment has no proxies."""

    def resolve(host: str, port: int) -> list[str]:
        try:
            return (names or {})[host]
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None

    heard = (lambda contact: None) if contacts is None else contacts.append
    made = HttpClient(
        NetworkPolicy() if policy is None else policy, proxies=proxies or Proxies(), on_contact=heard, resolve=resolve
    )
    with made:
        yield made


def everything(answer: Answer, piece: int = 1 << 14) -> bytes:
    """The whole body."""
    data, buffer = bytearray(), memoryview(bytearray(piece))
    with answer:
        while count := answer.readinto(buffer):
            data += buffer[:count]
    return bytes(data)


def failure(action: Callable[[], object]) -> HttpError:
    """The error of what must fail."""
    try:
        action()
    except HttpError as error:
        return error
    raise AssertionError("it succeeded")


def kind(action: Callable[[], object]) -> HttpFailure:
    """How it failed."""
    return failure(action).kind


# --- certificates ---------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority in a folder; `file` is its certificate, for SSL_CERT_FILE."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._build(self._name, self._key, (), days=30, authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def server_for(self, *names: str, days: int = 30) -> ssl.SSLContext:
        """A server's side of TLS, with a certificate for `names`, valid for so many days from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
        certificate = self._build(subject, key, names, days=days, authority=False)
        file = self._folder / f"{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], *, days: int, authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if authority:
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        else:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False).add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# --- proxies --------------------------------------------------------------------------------------------------------


def proxy(names: dict[str, str], *, secret: str | None = None, refuses: int | None = None) -> Script:
    """A real one, for one request a connection: GET with a whole URL, and CONNECT. `names`: where it finds hosts.

    `secret`: USER:PASSWORD it wants; `refuses`: the status it answers everything with.
    """

    def script(visitor: Visitor) -> None:
        request = visitor.request()
        if request is None:
            return
        expected = None if secret is None else "Basic " + b64encode(secret.encode()).decode()
        if request.headers.get("proxy-authorization") != expected:
            visitor.answer(407, b"", Proxy_Authenticate="Basic")
        elif refuses is not None:
            visitor.answer(refuses)
        elif request.method == "CONNECT":
            _relay(visitor, request.target, names, b"", greeting=b"HTTP/1.1 200 Connected\r\nVia: here\r\n\r\n")
        else:
            authority, _, path = request.target.removeprefix("http://").partition("/")
            kept = {name: value for name, value in request.headers.items() if not name.startswith("proxy-")}
            lines = [
                f"GET /{path} HTTP/1.1",
                "Connection: close",
                *(f"{name}: {value}" for name, value in kept.items()),
            ]
            _relay(visitor, authority, names, "\r\n".join([*lines, "", ""]).encode("latin-1"), greeting=b"")

    return script


def _relay(visitor: Visitor, authority: str, names: dict[str, str], request: bytes, *, greeting: bytes) -> None:
    host, _, port = authority.rpartition(":")
    try:
        upstream = socket.create_connection((names.get(host, host), int(port)), 10)
    except OSError:
        visitor.answer(502)
        return
    with upstream:
        upstream.settimeout(None)
        upstream.sendall(request)
        visitor.send(greeting)

        def upwards() -> None:
            while data := visitor.receive():
                with contextlib.suppress(OSError):
                    upstream.sendall(data)
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=upwards, daemon=True)
        thread.start()
        with contextlib.suppress(OSError):
            while data := upstream.recv(1 << 16):
                if not visitor.send(data):
                    break
        with contextlib.suppress(OSError):
            visitor.sock.shutdown(socket.SHUT_RDWR)
        thread.join(30)
