"""What a monitoring system learns of an issuer of several workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from issuer.metrics.metrics import Metrics
from issuer.metrics.summing import PoolMetrics

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from issuer.config_sections import MetricsSection
    from issuer.metrics.summing import Told
    from issuer.workers.pool import Pool
    from issuer.workers.process import WorkerProcess


class PoolTelemetry:
    """What a monitoring system learns of an issuer of several workers: one listener, over all of them.

    Args:
        metrics: Where metrics can be read.
    """

    def __init__(self, metrics: MetricsSection) -> None:
        self._listen = metrics.listen
        self.metrics = Metrics()
        self._registry = CollectorRegistry()
        self._joined = PoolMetrics(self.metrics.registry, self._registry)

    def open(self, pool: Pool, stack: AsyncExitStack) -> None:
        """Listen for scrapes.

        Args:
            pool: The workers, whose number is shown.
            stack: Ends it.

        Raises:
            MetricsListenerFault: The address cannot be used.
        """
        if self._listen is not None:
            stack.callback(self.metrics.serve(self._listen, self._registry))
        gauges = self.metrics.gauges
        gauges.many("issuer_workers", "Worker processes, by whether they serve.", ("state",), lambda: _by_state(pool))
        gauges.counts(
            "issuer_worker_restarts",
            "Workers that were started in the place of one that ended.",
            (),
            lambda: {(): pool.restarts},
        )

    def take(self, worker: WorkerProcess, told: Told) -> None:
        """Take what a worker counted."""
        self._joined.take(worker.pid, told)

    def ended(self, worker: WorkerProcess) -> None:
        """Keep what a worker counted that has ended."""
        self._joined.end(worker.pid)


def _by_state(pool: Pool) -> dict[tuple[str, ...], float]:
    serving = [worker.report.serving for worker in pool.living]
    return {("serving",): sum(serving), ("not_serving",): len(serving) - sum(serving)}
