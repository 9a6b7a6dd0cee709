"""Metrics of a run for Prometheus, on loopback only: read from the job table when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from batchgen import clock
from batchgen.errors import UsageError
from batchgen.jobtable import statistics
from batchgen.jobtable.database import Database

if TYPE_CHECKING:
    from prometheus_client import Metric

LOOPBACK = "127.0.0.1"
REFUSALS = ("throttled", "blocked", "rejected")
"""Answers to a create request that accept nothing."""


@dataclass(eq=False, slots=True)
class RunMetrics:
    """A Prometheus collector: one batch, and what one run has asked of the service. Implements `collect`."""

    database: Database
    batch_id: int
    batch: str
    answers: Counter[tuple[str, str]]
    """How many requests of this run came to what: (create, accepted), (poll, working), …"""
    last_movement: Callable[[], datetime]

    def collect(self) -> Iterator[Metric]:
        """All families of metrics. Called by the client's own thread for each scrape."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        summary = self.database.read_now(statistics.batch_summary, self.batch_id, clock.utcnow())
        labels = ["batch"]

        def gauge(name: str, help_text: str, value: float) -> Metric:
            family = GaugeMetricFamily(f"batchgen_{name}", help_text, labels=labels)
            family.add_metric([self.batch], value)
            return family

        jobs = GaugeMetricFamily("batchgen_jobs", "Jobs of the batch by state.", labels=[*labels, "state"])
        for state, number in summary.counts.items():
            jobs.add_metric([self.batch, state], number)
        yield jobs
        in_flight = sum(number for state, number in summary.counts.items() if state.is_in_flight)
        yield gauge("in_flight", "Jobs on the wire or at the service.", in_flight)
        yield gauge("held", "Unconfirmed jobs that wait for a person.", summary.held)
        yield gauge("late", "Generations past their deadline.", summary.late)
        yield gauge("cost_usd", "What the batch has cost, in USD.", float(summary.cost_usd))
        reserved = "Estimates of the requests whose charge is not known yet, in USD."
        yield gauge("reserved_usd", reserved, float(summary.reserved_usd))
        yield gauge("unpriced", "Requests of which neither charge nor price is known.", summary.unpriced)
        yield gauge("delivered_bytes", "Bytes of the delivered files.", summary.bytes)
        yield gauge(
            "last_movement_timestamp_seconds",
            "When a job last changed its state, as Unix time.",
            self.last_movement().timestamp(),
        )
        requests = CounterMetricFamily(
            "batchgen_requests", "Requests of this run by what they came to.", labels=[*labels, "request", "outcome"]
        )
        sums = Counter[str]()
        for (request, outcome), number in sorted(self.answers.copy().items()):
            requests.add_metric([self.batch, request, outcome], number)
            sums[request] += number
            sums["refusal"] += number if request == "create" and outcome in REFUSALS else 0
        yield requests
        for name, key, help_text in (
            ("submits", "create", "Create requests of this run."),
            ("polls", "poll", "Polls of this run."),
            ("refusals", "refusal", "Create requests of this run that the service refused."),
        ):
            family = CounterMetricFamily(f"batchgen_{name}", help_text, labels=labels)
            family.add_metric([self.batch], sums[key])
            yield family


def serve(port: int) -> MetricsServer:
    """Take a port for metrics; 0 is any that is free. Raises `UsageError` where that cannot be done."""
    try:
        import prometheus_client  # Imported here: only `--metrics` needs it.
    except ImportError:
        raise UsageError(
            'metrics need the Prometheus client: pip install "batchgen[metrics]". Nothing has been sent.'
        ) from None
    registry = prometheus_client.CollectorRegistry()
    try:
        server, thread = prometheus_client.start_http_server(port, LOOPBACK, registry)
    except OSError as error:
        raise UsageError(
            f"--metrics {port}: the port cannot be used ({error.strerror}). Another run may serve its own there: name"
            " another one, or 0 for any that is free. Nothing has been sent."
        ) from None
    return MetricsServer(server, thread, registry)


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """A port on loopback with the metrics of a run; nothing until a collector is registered."""

    server: Any
    thread: Any
    registry: Any

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server.server_port}/metrics"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
