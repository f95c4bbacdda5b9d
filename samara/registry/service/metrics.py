"""Counters for Prometheus. Each service has its own: nothing global."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What is counted. `render` gives the text format (docs/registry.md names every metric)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "samara_requests", "HTTP requests answered", ["route", "status"], registry=self.registry
        )  # fmt: skip
        self.seconds = Histogram(
            "samara_request_seconds", "Time until the answer begins", ["route"], registry=self.registry
        )
        self.publishes = Counter(
            "samara_publishes", "Publishes by outcome: verified, unchanged, or why refused", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.bytes = Counter(
            "samara_blob_bytes", "Bytes of blobs given to HTTP clients, by where they came from: disk, arriving, index",
            ["source"], registry=self.registry,
        )  # fmt: skip
        self.announces = Counter(
            "samara_announces", "Tracker announces by outcome", ["outcome"], registry=self.registry
        )  # fmt: skip

    def render(self, now: Iterable[Gauge]) -> bytes:
        """Everything counted, and how things stand, in Prometheus' text format."""
        families: dict[str, GaugeMetricFamily] = {}
        for gauge in now:
            names = [name for name, _ in gauge.labels]
            family = families.setdefault(gauge.name, GaugeMetricFamily(gauge.name, gauge.about, labels=names))
            family.add_metric([value for _, value in gauge.labels], gauge.value)
        at_this_moment = CollectorRegistry()
        at_this_moment.register(_Families(list(families.values())))
        return generate_latest(self.registry) + generate_latest(at_this_moment)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauge:
    """How something stands. `labels`: (name, value) in an order that is the same for every one of this name."""

    name: str
    about: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class _Families(Collector):
    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families
