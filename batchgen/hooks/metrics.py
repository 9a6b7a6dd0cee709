"""Metrics of a run for Prometheus, on loopback only: read from the job table when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from batchgen import clock
from batchgen.errors import UsageError
from batchgen.jobtable import statistics
from batchgen.jobtable.database import Database

if TYPE_CHECKING:
    from prometheus_client import Metric

LOOPBACK = "127.0.0.1"


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
        jobs = GaugeMetricFamily("batchgen_jobs", "Jobs of the batch by state.", labels=["batch", "state"])
        for state, number in summary.counts.items():
            jobs.add_metric([self.batch, state], number)
        yield jobs
        in_flight = sum(number for state, number in summary.counts.items() if state.is_in_flight)
        reserved = "Estimates of the requests whose charge is not known yet, in USD."
        moved = "When a job last changed its state, as Unix time."
        for name, value, help_text in (
            ("in_flight", in_flight, "Jobs on the wire or at the service."),
            ("held", summary.held, "Unconfirmed jobs that wait for a person."),
            ("late", summary.late, "Generations past their deadline."),
            ("cost_usd", float(summary.cost_usd), "What the batch has cost, in USD."),
            ("reserved_usd", float(summary.reserved_usd), reserved),
            ("unpriced", summary.unpriced, "Requests of which neither charge nor price is known."),
            ("delivered_bytes", summary.bytes, "Bytes of the delivered files."),
            ("last_movement_timestamp_seconds", self.last_movement().timestamp(), moved),
        ):
            family = GaugeMetricFamily(f"batchgen_{name}", help_text, labels=["batch"])
            family.add_metric([self.batch], value)
            yield family
        words = "Requests of this run by what they came to."
        requests = CounterMetricFamily("batchgen_requests", words, labels=["batch", "request", "outcome"])
        for (request, outcome), number in sorted(self.answers.copy().items()):
            requests.add_metric([self.batch, request, outcome], number)
        yield requests


class MetricsServer:
    """A port on loopback with the metrics of a run; nothing until a collector is registered.

    0 is any port that is free. Raises `UsageError` where none can be taken.
    """

    def __init__(self, port: int) -> None:
        try:
            import prometheus_client  # Imported here: only `--metrics` needs it.
        except ImportError:
            raise UsageError(
                'metrics need the Prometheus client: pip install "batchgen[metrics]". Nothing has been sent.'
            ) from None
        self.registry = prometheus_client.CollectorRegistry()
        try:
            self.server, self.thread = prometheus_client.start_http_server(port, LOOPBACK, self.registry)
        except OSError as error:
            raise UsageError(
                f"--metrics {port}: the port cannot be used ({error.strerror}). Another run may serve its own there:"
                " name another one, or 0 for any that is free. Nothing has been sent."
            ) from None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server.server_port}/metrics"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
