"""What a server counts, in the form Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from .service import LiveService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WORKER_COUNTERS = {
    "frames": "Frames generated.",
    "encodes": "Pieces of sound encoded.",
    "dropped": "Frames dropped before they were computed: cancelled or too late.",
    "failed": "Frames answered with an error.",
    "late": "Frames that were ready after their deadline.",
    "batches": "Batches computed.",
    "out_of_memory": "Batches that did not fit the device.",
    "seconds": "Seconds spent computing.",
}


class ServiceCollector(Collector):
    """Reads the numbers when they are asked for; nothing is counted twice."""

    def __init__(self, service: LiveService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service, worker = self._service, self._service.worker
        yield _gauge("sessions", "Sessions now.", len(service.sessions.ids()))
        yield _gauge("viewers", "Viewers now.", service.viewers)
        yield _gauge("ready", "1 unless it shuts down or its networks fail.", int(service.is_ready))
        yield _gauge("uptime_seconds", "Seconds since the start.", time.monotonic() - service.started)
        yield _gauge("avatar_memory_bytes", "Memory held by avatars.", getattr(service.store, "memory_bytes", 0))
        yield CounterMetricFamily("musetalk_live_requests_refused", "Requests refused.", value=service.gate.refused)
        for name, help_text in _WORKER_COUNTERS.items():
            if worker is not None:
                yield CounterMetricFamily(f"musetalk_live_worker_{name}", help_text, value=getattr(worker, name))


class Metrics:
    """A registry of its own, so that two services in one process, or another pack's metrics, do not meet."""

    def __init__(self, service: LiveService) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ServiceCollector(service))

    def text(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"musetalk_live_{name}", help_text, value=value)
