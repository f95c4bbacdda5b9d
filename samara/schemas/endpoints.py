"""HOST:PORT, as people write it and as tuples. Pure."""

from __future__ import annotations

from samara.schemas.errors import UsageError


def format_endpoint(endpoint: tuple[str, int]) -> str:
    """(host, port) → host:port, IPv6 in brackets."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT` → (host, port). Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not colon or not host or not is_port:
        raise UsageError("not an endpoint", expected="HOST:PORT or [IPV6]:PORT", actual=repr(text[:80]))
    return host, int(port)


def parse_peer(text: str) -> tuple[str, int]:
    """The same for somebody to talk to: no port 0, which only listening can mean. Raises UsageError."""
    host, port = parse_endpoint(text)
    if port == 0:
        raise UsageError("nobody listens on port 0", expected="HOST:PORT", actual=repr(text[:80]))
    return host, port
