"""/healthz, /readyz, /metrics: for who keeps the service running.

Nothing here changes anything. What can't be looked at is left out of /metrics, and said by `samara_database_up`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from ipaddress import ip_network

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from samara.registry import schema
from samara.registry.last_audit import read_last_audit
from samara.registry.service.guard import ADDRESS
from samara.registry.service.metrics import MEDIA_TYPE, Gauge
from samara.registry.service.problems import RETRY_AFTER, RefusedError, public
from samara.registry.service.service import Service
from samara.registry.service.wire_limits import is_within
from samara.registry.store import free_bytes
from samara.schemas.errors import SamaraError

_trouble = logging.getLogger("samara.serve")
MIN_FREE = 64 << 20  # bytes: below this a publish or a pull may fail at any moment
TOP_SWARMS = 50
_THIS_MACHINE = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_UNCACHED = {"Cache-Control": "no-store"}


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", summary="Whether the process lives", response_class=PlainTextResponse)
    async def healthz() -> Response:
        """Touches neither disk nor database."""
        return PlainTextResponse("ok\n", headers=_UNCACHED)

    @router.get(
        "/readyz", summary="Whether it can serve", response_class=PlainTextResponse, responses={503: {}}
    )  # fmt: skip
    def readyz() -> Response:
        """The database answers, its schema is this version's, the disk has room."""
        why = why_not_ready(service)
        if why is not None:
            headers = {"Retry-After": str(RETRY_AFTER), **_UNCACHED}
            raise RefusedError(f"not ready: {why}", status=503, headers=headers)
        return PlainTextResponse("ready\n", headers=_UNCACHED)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses={403: {}})
    def metrics(request: Request) -> Response:
        """For this machine, and the networks that the operator names."""
        address = request.scope.get(ADDRESS, "")
        if not is_within(address, (*_THIS_MACHINE, *service.settings.watchers)):
            raise RefusedError("metrics are not for this address", status=403)
        return Response(service.metrics.render(gauges(service)), media_type=MEDIA_TYPE, headers=_UNCACHED)

    return router


def why_not_ready(service: Service) -> str | None:
    """What stands in the way, or None."""
    try:
        with service.index.database.read() as session:
            if not schema.is_up_to_date(session.connection()):
                return "the database has another schema version; run samara db upgrade"
        free = free_bytes(service.home.root)
    except SamaraError as error:
        _trouble.warning("%s", error)
        return public(error).what
    return None if free >= MIN_FREE else f"the disk is full ({free >> 20} MiB left)"


def gauges(service: Service) -> Iterator[Gauge]:
    """How everything stands at this moment."""
    yield from _database(service)
    yield from _swarms(service)
    yield from _kept(service)
    yield from _followed(service)
    yield from _audit(service)
    try:
        yield Gauge(
            name="samara_disk_free_bytes", about="Room on the store's disk", value=free_bytes(service.home.root)
        )  # fmt: skip
    except SamaraError:
        return


def _database(service: Service) -> Iterator[Gauge]:
    about = "Whether the database answers"
    began = time.perf_counter()
    try:
        counts, listed, bars = service.index.counts(), service.listings.count(), service.barred.counts()
    except SamaraError:
        yield Gauge(name="samara_database_up", about=about, value=0)
        return
    yield Gauge(name="samara_database_up", about=about, value=1)
    yield Gauge(
        name="samara_database_seconds", about="How long it took to answer just now", value=time.perf_counter() - began
    )
    yield Gauge(name="samara_releases", about="Releases known here", value=counts.releases)
    yield Gauge(name="samara_blobs", about="Blobs known here", value=counts.blobs)
    yield Gauge(name="samara_blobs_held", about="Files here that hold a whole blob", value=counts.locations)
    yield Gauge(name="samara_names_listed", about="Names that mean a release here", value=listed)
    for kind, count in bars.items():
        yield Gauge(
            name="samara_barred", about="What the operator bars from here, by kind", value=count,
            labels=(("kind", kind.value),),
        )  # fmt: skip


def _swarms(service: Service) -> Iterator[Gauge]:
    totals = service.tracker.totals()
    yield Gauge(name="samara_swarms", about="Swarms with peers", value=totals.swarms)
    yield Gauge(name="samara_peers", about="Peers of all swarms", value=totals.peers)
    about = f"Peers of the {TOP_SWARMS} largest swarms, by blob"
    for b3, counts in service.tracker.busiest(TOP_SWARMS):
        for kind, count in (("seeder", counts.seeders), ("leecher", counts.leechers)):
            yield Gauge(
                name="samara_swarm_peers", about=about, value=count, labels=(("blob", b3), ("kind", kind))
            )  # fmt: skip


def _kept(service: Service) -> Iterator[Gauge]:
    if service.keeper is None:
        return
    status = service.keeper.status()
    for name, about, value in (
        ("samara_mirror_held_blobs", "Blobs that the registry fetched by itself", status.held),
        ("samara_mirror_held_bytes", "What they take", status.held_bytes),
        ("samara_mirror_quota_bytes", "What they may take; -1: no bound", -1 if status.quota is None else status.quota),
        ("samara_mirror_pending_blobs", "Listed blobs that are to be fetched", status.pending),
        ("samara_mirror_coming_blobs", "Blobs on their way", len(status.coming)),
        ("samara_mirror_failing_blobs", "Blobs that couldn't be fetched and wait", len(status.failed)),
        ("samara_mirror_left_out_blobs", "Listed blobs for which the quota has no room", status.left_out),
        ("samara_mirror_brought_blobs", "Blobs fetched since the start", status.brought),
        ("samara_mirror_brought_bytes", "Bytes of them", status.brought_bytes),
        ("samara_mirror_evicted_blobs", "Blobs removed since the start to make room", status.evicted),
        ("samara_mirror_evicted_bytes", "Bytes of them", status.evicted_bytes),
        ("samara_mirror_failures", "Fetches that failed since the start", status.failures),
        ("samara_mirror_rejected_sources", "Peers and mirrors that lied since the start", status.rejected_sources),
        ("samara_mirror_seeding_blobs", "Blobs given to swarms", status.seeding),
        ("samara_mirror_uploaded_bytes", "Bytes given to swarms since the start", status.uploaded),
        ("samara_mirror_trouble", "Whether something stops all fetching", float(status.trouble is not None)),
    ):
        yield Gauge(name=name, about=about, value=value)
    for source, count in (("peers", status.from_peers), ("mirrors", status.from_mirrors)):
        yield Gauge(
            name="samara_mirror_fetched_bytes", about="Bytes fetched since the start, by source", value=count,
            labels=(("source", source),),
        )  # fmt: skip


def _followed(service: Service) -> Iterator[Gauge]:
    for one in () if service.follower is None else service.follower.status():
        for name, about, value in (
            ("last_ok_timestamp_seconds", "When all of a followed registry had been asked for last", one.last_ok),
            ("failures", "How often in a row that failed", one.failures),
            ("publishers", "Publishers that a followed registry lists", one.publishers),
            ("refused", "Publishers of it that couldn't be taken in", one.failed),
            ("behind", "Publishers of it with older catalogs than here", one.behind),
            ("releases", "Releases taken over from it since the start", one.releases),
        ):
            if value is not None:
                yield Gauge(
                    name=f"samara_follow_{name}", about=about, value=value, labels=(("registry", one.origin),)
                )  # fmt: skip


def _audit(service: Service) -> Iterator[Gauge]:
    audit = read_last_audit(service.home)
    if audit is None:
        return
    yield Gauge(name="samara_last_audit_timestamp_seconds", about="When samara audit ended last", value=audit.at)
    yield Gauge(
        name="samara_last_audit_clean", about="Whether it found nothing wrong", value=float(audit.outcome == "ok")
    )  # fmt: skip
    for level, count in audit.findings.items():
        yield Gauge(
            name="samara_last_audit_findings", about="What it found, by level", value=count, labels=(("level", level),)
        )  # fmt: skip
