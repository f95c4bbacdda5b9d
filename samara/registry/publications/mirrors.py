"""Mirrors that manifests name must not lead into private networks (SSRF). Resolves names; opens no connection.

This only keeps such releases out: whoever follows a mirror judges each address again when it dials.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as LateError
from contextlib import AbstractContextManager, nullcontext

from samara.registry.http.dial import Resolve, system_resolve
from samara.registry.http.urls import Target, parse_url
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.schemas.errors import SamaraError
from samara.schemas.manifest import Release
from samara.schemas.networks import NetworkPolicy

MAX_HOSTS = 64  # of one publication: its look-ups shouldn't hold up others
SECONDS = 10.0
PATIENCE = 1.0  # seconds that one waits while as many as may are looking names up
_AT_ONCE = 8
_resolving = threading.BoundedSemaphore(4)  # publications that look names up at once


def check_mirrors(
    releases: Iterable[Release],
    policy: NetworkPolicy,
    *,
    resolve: Resolve = system_resolve,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[str, ...]:
    """Warnings about hosts that can't be resolved now. Raises PublicationRefusedError for one that is not public.

    `aside`: entered while names are looked up, which may take `SECONDS`.
    """
    targets: dict[tuple[str, int], Target] = {}
    for release in releases:
        for file in release.files:
            for url in file.mirrors:
                target = _parse(url)
                targets.setdefault((target.host, target.port), target)
    if len(targets) > MAX_HOSTS:
        raise PublicationRefusedError(
            Reason.MIRROR, "mirrors on too many hosts", expected=f"at most {MAX_HOSTS}", actual=len(targets)
        )
    if not targets:
        return ()
    with aside():
        return _looked_up(targets, policy, resolve)


def _looked_up(
    targets: Mapping[tuple[str, int], Target], policy: NetworkPolicy, resolve: Resolve
) -> tuple[str, ...]:  # fmt: skip
    if not _resolving.acquire(timeout=PATIENCE):
        return ("mirrors were not looked up: too many publications at once",)
    warnings: list[str] = []
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mirrors")
    try:
        asked = {pool.submit(resolve, *key): target for key, target in targets.items()}
        try:
            for done in as_completed(asked, timeout=SECONDS):
                target = asked[done]
                try:
                    addresses = done.result()
                except (OSError, UnicodeError, ValueError):
                    warnings.append(f"mirror {target.host} can't be resolved")
                    continue
                _judge(target, addresses, policy)
        except LateError:
            warnings.append("some mirrors couldn't be resolved in time")
    finally:
        _resolving.release()
        pool.shutdown(wait=False, cancel_futures=True)
    return tuple(sorted(warnings))


def _judge(target: Target, addresses: Iterable[str], policy: NetworkPolicy) -> None:
    for address in addresses:
        why = policy.why_not(address, vouched=False)
        if why is not None:
            raise PublicationRefusedError(
                Reason.MIRROR, f"mirror {target.host} must not be followed: {why}", expected="a public address",
                next_step="leave it out; the operator of this registry can allow private mirrors",
            )  # fmt: skip


def _parse(url: str) -> Target:
    try:
        return parse_url(url)
    except SamaraError as error:
        raise PublicationRefusedError(Reason.MIRROR, f"a mirror that is no URL: {error.what}") from None
