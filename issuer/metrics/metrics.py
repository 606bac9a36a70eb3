"""The metrics of the issuer, in Prometheus' text format on a listener of their own; docs/OPERATING.md lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from issuer.core.record import DecisionRecord, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from issuer.core.ledger_entries import Entry

_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class MetricsListenerFault(Exception):
    """The listener cannot be opened. The message says why, for a person."""


class Metrics:
    """What happened since the start; an :class:`~issuer.ledger.group_commit.Observer` of the ledger."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._decisions = Counter(
            "issuer_decisions", "Decisions that are durable.", ("outcome", "reason"), registry=self.registry
        )
        self._commit = Histogram(
            "issuer_ledger_commit_duration_seconds",
            "How long commits of the ledger took.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "issuer_ledger_commit_entries", "Entries that shared a commit.", buckets=_ENTRIES, registry=self.registry
        )
        self._refused = Counter(
            "issuer_ledger_refused_requests", "Requests refused because of the ledger.", registry=self.registry
        )
        self._failed = Counter("issuer_ledger_failed_commits", "Commits that failed.", registry=self.registry)

        self._refused_calls = Counter(
            "issuer_refused_calls",
            "Calls that were told to come back later, by the caller's trust domain.",
            ("trust_domain",),
            registry=self.registry,
        )

    def watch_calls(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Show, when somebody looks, how many turns are taken and how many requests wait for one."""
        for name, text, value in (
            ("issuer_turns_taken", "Calls that run, batches with one more for each 16 items.", running),
            ("issuer_waiting_requests", "Requests that wait for their turn.", waiting),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)

    def call_refused(self, trust_domain: str) -> None:
        """Count a call that was told to come back later. ``trust_domain`` is one that may call, or empty."""
        self._refused_calls.labels(trust_domain).inc()

    def watch(self, waiting: Callable[[], int], healthy: Callable[[], bool], missed: Callable[[], int]) -> None:
        """Show, when somebody looks, how many entries wait, whether all can be written, and what the copy misses."""
        gauges = (
            ("issuer_ledger_waiting_entries", "Entries that wait for the next commit.", waiting),
            ("issuer_ledger_writable", "1 while the ledger, and a required copy, can be written.", healthy),
            ("issuer_ledger_copy_missed_entries", "Entries that are in the ledger and not in its copy.", missed),
        )
        for name, text, value in gauges:
            Gauge(name, text, registry=self.registry).set_function(value)

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """Count a batch that is durable."""
        self._commit.observe(seconds)
        self._batch.observe(len(entries))
        for entry in entries:
            if isinstance(entry, DecisionRecord):
                self._decisions.labels(Outcome(entry.outcome).name.lower(), entry.reason).inc()

    def refused(self) -> None:
        """Count a request that was refused because of the ledger."""
        self._refused.inc()

    def failed(self) -> None:
        """Count a commit that failed."""
        self._failed.inc()

    def serve(self, listen: str) -> Callable[[], None]:
        """Answer `GET /metrics` from a thread; return what ends that.

        Args:
            listen: ``host:port``. Whoever reaches it can read: keep it on loopback or behind something that asks.

        Raises:
            MetricsListenerFault: The address cannot be used.
        """
        host, _, port = listen.rpartition(":")
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), registry=self.registry)
        except OSError as error:
            raise MetricsListenerFault(f"metrics: {listen} cannot be listened on: {error.strerror}") from None

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop
