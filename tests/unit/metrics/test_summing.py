"""The metrics of several workers as those of one issuer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from support.scraping import samples, value

from issuer.metrics.summing import PoolMetrics, told_by


class Counting:
    """The registry of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tokens = Counter("tokens", "Tokens.", ("risk",), registry=self.registry)
        self.took = Histogram("took_seconds", "How long.", buckets=(1, 2), registry=self.registry)
        self.waiting = Gauge("issuer_waiting_requests", "A quantity.", registry=self.registry)
        self.writable = Gauge("issuer_ledger_writable", "A state.", registry=self.registry)
        self.age = Gauge("issuer_signing_key_age_seconds", "Another.", registry=self.registry)


def read(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return value(samples(generate_latest(registry).decode()), name, **labels)


def test_what_was_counted_is_added_up_and_states_are_joined_as_they_mean() -> None:
    shown, one, other = CollectorRegistry(), Counting(), Counting()
    own = Counting()
    pool = PoolMetrics(own.registry, shown)
    for tokens, process in enumerate((own, one, other), 1):
        process.tokens.labels("low").inc(tokens)
        process.took.observe(tokens)
        process.waiting.set(tokens)
        process.writable.set(tokens != 2)
        process.age.set(tokens)
    other.tokens.labels("high").inc()
    pool.take(1, told_by(one.registry))
    pool.take(2, told_by(other.registry))
    assert read(shown, "tokens_total", risk="low") == 6
    assert read(shown, "tokens_total", risk="high") == 1
    assert read(shown, "took_seconds_count") == 3
    assert read(shown, "took_seconds_sum") == 6
    assert read(shown, "took_seconds_bucket", le="1.0") == 1
    assert read(shown, "took_seconds_bucket", le="+Inf") == 3
    assert read(shown, "issuer_waiting_requests") == 6
    assert read(shown, "issuer_ledger_writable") == 0, "the worst"
    assert read(shown, "issuer_signing_key_age_seconds") == 3


def test_what_an_ended_worker_counted_stays_and_its_states_go() -> None:
    shown, one = CollectorRegistry(), Counting()
    pool = PoolMetrics(CollectorRegistry(), shown)
    one.tokens.labels("low").inc(5)
    one.waiting.set(7)
    for worker in (1, 2):
        pool.take(worker, told_by(one.registry))
        pool.end(worker)
    pool.end(3)  # one that never told anything
    assert read(shown, "tokens_total", risk="low") == 10
    assert read(shown, "issuer_waiting_requests") == 0
    pool.take(4, told_by(one.registry))
    assert read(shown, "tokens_total", risk="low") == 15
