"""Looking up the names of peers without waiting for a resolver that doesn't answer: that can take half a minute.

A look-up runs in a thread of its own. Most answer at once, and are waited for that long; later answers are fetched with
`answered`. Nothing is kept: a name that is asked for again is looked up again, for it may have moved.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError

Endpoint = tuple[str, int]

AT_ONCE = 0.25  # seconds that are waited for an answer


def addresses(host: str, port: int) -> list[Endpoint]:
    """The addresses of a host, as long as that takes. Raises OSError."""
    try:
        return [(str(ipaddress.ip_address(host)), port)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError:  # UnicodeError among them: what can't be the name of a host
        raise socket.gaierror(socket.EAI_NONAME, "not the name of a host") from None
    return list(dict.fromkeys((str(item[4][0]), port) for item in found))


class NameLookups:
    """Look-ups under way. For one thread."""

    def __init__(self) -> None:
        self._running: dict[Endpoint, Future[list[Endpoint]]] = {}

    def ask(self, host: str, port: int) -> list[Endpoint] | None:
        """The addresses; None if the resolver hasn't answered yet. Raises OSError."""
        try:
            return [(str(ipaddress.ip_address(host)), port)]
        except ValueError:
            pass
        running = self._running.get((host, port))
        if running is None:
            running = self._running[host, port] = _begun(host, port)
        try:
            found = running.result(AT_ONCE if len(self._running) == 1 else 0.0)
        except NotYetError:
            if not running.done():
                return None
            found = running.result()  # it came in the very moment; or the look-up itself ended with a time-out
        finally:
            if running.done():
                self._running.pop((host, port), None)
        return found

    def answered(self) -> list[Endpoint]:
        """Names whose answer is there: `ask` gives it."""
        return [endpoint for endpoint, running in self._running.items() if running.done()]


def _begun(host: str, port: int) -> Future[list[Endpoint]]:
    made: Future[list[Endpoint]] = Future()

    def look_up() -> None:
        try:
            made.set_result(addresses(host, port))
        except OSError as error:
            made.set_exception(error)

    # a resolver that hangs must not hold up the end of the process
    threading.Thread(target=look_up, name="name", daemon=True).start()
    return made
