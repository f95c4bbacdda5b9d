"""Mirrors that manifests name must not lead into private networks (SSRF). Resolves names; opens no connection.

This only keeps such releases out: whoever follows a mirror judges each address again when it dials.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
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
    left = threading.Event()
    try:
        deadline = time.monotonic() + SECONDS
        answers = _asked(targets, resolve, left)
        for _ in targets:
            try:
                target, addresses = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                warnings.append("some mirrors couldn't be resolved in time")
                break
            if addresses is None:
                warnings.append(f"mirror {target.host} can't be resolved")
            else:
                _judge(target, addresses, policy)
    finally:
        left.set()
        _resolving.release()
    return tuple(sorted(warnings))


def _asked(
    targets: Mapping[tuple[str, int], Target], resolve: Resolve, left: threading.Event
) -> queue.SimpleQueue[tuple[Target, tuple[str, ...] | None]]:
    """Where the addresses of each arrive, None for one that has none. `left`: nobody waits for them any more.

    In daemon threads: a process that ends doesn't wait for a DNS that doesn't answer.
    """
    wanted: queue.SimpleQueue[tuple[tuple[str, int], Target]] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[Target, tuple[str, ...] | None]] = queue.SimpleQueue()
    for one in targets.items():
        wanted.put(one)

    def work() -> None:
        while not left.is_set():
            try:
                key, target = wanted.get_nowait()
            except queue.Empty:
                return
            try:
                answers.put((target, tuple(resolve(*key))))
            except (OSError, UnicodeError, ValueError):
                answers.put((target, None))

    for _ in range(min(_AT_ONCE, len(targets))):
        threading.Thread(target=work, name="mirrors", daemon=True).start()
    return answers


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
