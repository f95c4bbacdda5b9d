"""Whether a session listens where it was asked to. Pure: fed with what the session reports, until it is settled."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from samara.schemas.endpoints import parse_endpoint
from samara.schemas.errors import NetworkError
from samara.seeder.swarm_events import ListenFailed, ListeningOn, SwarmEvent


class ListenOutcome:
    """`chosen`: endpoints whose ports somebody asked for; each must work. Of the others one is enough."""

    def __init__(self, chosen: Iterable[str]) -> None:
        self._undecided = set(chosen)
        self._found: list[str] = []
        self._failed: ListenFailed | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing that was asked for is open any more."""
        return bool(self._found) and not self._undecided

    def hear(self, happened: SwarmEvent) -> None:
        """Something happened."""
        if isinstance(happened, ListeningOn):
            self._found.append(happened.endpoint)
            self._undecided = {chosen for chosen in self._undecided if not _is_at(happened.endpoint, chosen)}
        elif isinstance(happened, ListenFailed):
            self._failed = happened if self._failed is None or happened.was_chosen else self._failed

    def require_no_failure(self) -> None:
        """Raises NetworkError for a chosen port that can't be had, or for any while there is none at all."""
        if self._failed is not None and (self._failed.was_chosen or not self._found):
            raise self._failed.as_error()

    def endpoints(self) -> tuple[str, ...]:
        """Where the session listens. Raises NetworkError if that is nowhere, or not everywhere that was chosen."""
        if self._undecided:
            raise NetworkError(
                f"can't listen on {', '.join(sorted(self._undecided))}: no address of this machine",
                next_step="choose another --listen address",
            )
        if not self._found:
            raise NetworkError("can't listen: the session reported no address", next_step="check --listen")
        return tuple(dict.fromkeys(self._found))


def _is_at(endpoint: str, chosen: str) -> bool:
    """Whether an endpoint of the session's is what `chosen` asked for: an address, all of them, or an interface."""
    (host, port), (chosen_host, chosen_port) = parse_endpoint(endpoint), parse_endpoint(chosen)
    try:
        address = ipaddress.ip_address(chosen_host)
    except ValueError:
        return port == chosen_port
    return port == chosen_port and (address.is_unspecified or address == ipaddress.ip_address(host))
