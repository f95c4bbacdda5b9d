"""Counters for Prometheus. Each service has its own: nothing global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """What is counted. `render` gives the text format (docs/registry.md names every metric)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "samara_requests", "HTTP requests answered", ["route", "status"], registry=self.registry
        )  # fmt: skip
        self.seconds = Histogram("samara_request_seconds", "Time to answer", ["route"], registry=self.registry)
        self.publishes = Counter(
            "samara_publishes", "Publishes by outcome: verified, unchanged, or why refused", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.bytes = Counter(
            "samara_blob_bytes", "Bytes of blobs given to HTTP clients, by where they came from: disk, arriving",
            ["source"], registry=self.registry,
        )  # fmt: skip
        self.announces = Counter(
            "samara_announces", "Tracker announces by outcome", ["outcome"], registry=self.registry
        )  # fmt: skip
