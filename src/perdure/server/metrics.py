"""Prometheus metrics of one server, in a registry of their own, so that several servers in a process do not mix.

Counters count what passes through this server; gauges are read from the node when somebody asks for them.
"""

from __future__ import annotations

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from perdure.engine.cluster import Cluster
from perdure.engine.views import Health
from perdure.model.records import JobState, RunStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_AREAS = ("/e", "/invoke", "/v1", "/v2", "/api/v2", "/health", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Here(msgspec.Struct, frozen=True):
    """What a node knows of itself: its id, runs executing and parked, functions in force, and whether its news travel
    over a bus that all nodes hear."""

    node: str
    load: tuple[int, int]
    functions: int
    bus: bool = False


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
        self._cluster = _ClusterGauges(registry)
        self._node = Gauge("perdure_node_info", "This server's node, 1 by its id", ["node"], registry=registry)
        self._bus = Gauge("perdure_bus_shared", "Whether all nodes, this one too, hear the bus", registry=registry)

    def count_request(self, method: str, path: str, status: int) -> None:
        """Counts an answered request; methods and areas are few, whatever the requests say."""
        area = next((area for area in _AREAS if path == area or path.startswith(area + "/")), "other")
        self._requests.labels(method if method in _METHODS else "other", area, str(status)).inc()

    def expose(self, health: Health, here: Here, now: int) -> bytes:
        """The metrics in Prometheus' text format, as of `now` (ms)."""
        for status in RunStatus:
            self._runs.labels(str(status)).set(health.runs.get(status, 0))
        for state in JobState:
            self._jobs.labels(state.name.lower()).set(health.jobs.get(state, 0))
        self._resident.labels("active").set(here.load[0])
        self._resident.labels("parked").set(here.load[1])
        self._orphans.set(len(health.orphans))
        self._leaked.set(len(health.leaked_slots))
        self._functions.set(here.functions)
        self._node.labels(here.node).set(1)
        self._bus.set(here.bus)
        self._cluster.set(health.cluster, now)
        return generate_latest(self.registry)


class _ClusterGauges:
    """What is read from the database of all nodes, and what waits for them by function."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._nodes = Gauge("perdure_nodes", "Nodes on the database", ["state"], registry=registry)
        self._leases = Gauge("perdure_leases", "Runs that a node drives", ["node"], registry=registry)
        self._abandoned = Gauge("perdure_abandoned_leases", "Leases that nobody alive has", registry=registry)
        self._lag = Gauge(
            "perdure_lag_seconds", "How late the latest of what is due or ready is (0 if nothing is)", registry=registry
        )
        self._set_aside = Gauge("perdure_jobs_set_aside", "Jobs that could not be used", registry=registry)
        self._queued = Gauge("perdure_queue_runs", "Runs by function", ["function", "state"], registry=registry)
        self._oldest = Gauge(
            "perdure_queue_oldest_seconds", "Since when the oldest ready run waits", ["function"], registry=registry
        )

    def set(self, cluster: Cluster, now: int) -> None:
        alive = sum(node.alive_until > now for node in cluster.nodes)
        self._nodes.labels("alive").set(alive)
        self._nodes.labels("gone").set(len(cluster.nodes) - alive)
        self._abandoned.set(cluster.abandoned(now))
        self._lag.set(cluster.lag(now) / 1000)
        self._set_aside.set(len(cluster.set_aside))
        # Nodes and functions that are no more must not stay as they were.
        for gauge in (self._leases, self._queued, self._oldest):
            gauge.clear()
        for node in cluster.nodes:
            self._leases.labels(node.id).set(node.leases)
        for queue in cluster.queues:
            for state in ("ready", "leased", "blocked"):
                self._queued.labels(queue.function_id, state).set(getattr(queue, state))
            waits = 0 if queue.oldest_ready is None else max(0, now - queue.oldest_ready)
            self._oldest.labels(queue.function_id).set(waits / 1000)
