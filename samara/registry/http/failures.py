"""How an HTTP request can fail: one error, and a kind for whoever decides what to do next. Pure."""

from __future__ import annotations

from enum import StrEnum

from samara.schemas.errors import NetworkError


class HttpFailure(StrEnum):
    """Where it went wrong. POLICY and TLS won't get better by themselves; the others may."""

    POLICY = "policy"  # the address may not be contacted
    NAME = "name"  # no address for the name
    CONNECT = "connect"  # nobody answers there, or not in time
    TLS = "tls"  # whoever answers can't prove to be the host
    STATUS = "status"  # an answer that isn't the object: see `status`
    STALLED = "stalled"  # connected, then nothing for too long
    BROKEN = "broken"  # an answer that breaks HTTP, or ends before its end
    REDIRECT = "redirect"  # elsewhere, where we don't follow
    PROXY = "proxy"  # the proxy can't be used, or refuses


class HttpError(NetworkError):
    """A request failed. `status`: of HTTP, if there was one; `retry_after`: seconds from now, if the server asks."""

    def __init__(
        self,
        what: str,
        *,
        kind: HttpFailure,
        status: int | None = None,
        retry_after: float | None = None,
        expected: object = None,
        actual: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, actual=actual, next_step=next_step)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
