"""Prometheus metrics of one server, in a registry of their own, so that several servers in a process do not mix.

Counters count what passes through this server; gauges are read from the node when somebody asks for them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from perdure.engine.views import Health
from perdure.model.records import JobState, RunStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_AREAS = ("/e", "/invoke", "/v1", "/v2", "/api/v2", "/health", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """What a server counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        events = Counter(
            "perdure_events",
            "Events received over HTTP: a refused batch counts whole, an unreadable body as one",
            ["outcome"],
            registry=registry,
        )
        self.accepted = events.labels("accepted")
        self.refused = events.labels("refused")
        self.ingest_seconds = Histogram(
            "perdure_ingest_seconds",
            "From a parsed request with events to their commit",
            registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        self._requests = Counter(
            "perdure_http_requests", "HTTP requests", ["method", "area", "status"], registry=registry
        )
        self._runs = Gauge("perdure_runs", "Runs in the store, by status", ["status"], registry=registry)
        self._jobs = Gauge("perdure_jobs", "Jobs in the store, by state", ["state"], registry=registry)
        self._resident = Gauge("perdure_resident_runs", "Runs in memory", ["state"], registry=registry)
        self._orphans = Gauge("perdure_orphan_runs", "Runs without a next wake-up (0 is right)", registry=registry)
        self._leaked = Gauge("perdure_leaked_slots", "Slots without an owner (0 is right)", registry=registry)
        self._functions = Gauge("perdure_functions", "Functions in force", registry=registry)

    def count_request(self, method: str, path: str, status: int) -> None:
        """Counts an answered request; methods and areas are few, whatever the requests say."""
        area = next((area for area in _AREAS if path == area or path.startswith(area + "/")), "other")
        self._requests.labels(method if method in _METHODS else "other", area, str(status)).inc()

    def expose(self, health: Health, load: tuple[int, int], functions: int) -> bytes:
        """The metrics in Prometheus' text format."""
        for status in RunStatus:
            self._runs.labels(str(status)).set(health.runs.get(status, 0))
        for state in JobState:
            self._jobs.labels(state.name.lower()).set(health.jobs.get(state, 0))
        self._resident.labels("active").set(load[0])
        self._resident.labels("parked").set(load[1])
        self._orphans.set(len(health.orphans))
        self._leaked.set(len(health.leaked_slots))
        self._functions.set(functions)
        return generate_latest(self.registry)
