"""How things stand: read at the moment at which somebody scrapes, from the scrape's thread, and kept nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    Values = Mapping[tuple[str, ...], float]
    """A value for each combination of label values."""


class Gauges(Collector):
    """Metrics whose values are looked up when they are asked for.

    What reads a value runs in another thread than that which changes it: it must take whole values, and not block.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reads: list[tuple[str, str, tuple[str, ...], bool, Callable[[], Values]]] = []
        registry.register(self)

    def one(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show a single value."""
        self._reads.append((name, text, (), False, lambda: {(): read()}))

    def many(self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Values]) -> None:
        """Show a value for each combination of label values."""
        self._reads.append((name, text, labels, False, read))

    def counts(self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Values]) -> None:
        """Show values that only grow, and are counted elsewhere. ``name`` is without ``_total``."""
        self._reads.append((name, text, labels, True, read))

    def describe(self) -> Iterable[Metric]:
        """Return nothing: values are not read before somebody asks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read every value."""
        for name, text, labels, grows, read in self._reads:
            family = (CounterMetricFamily if grows else GaugeMetricFamily)(name, text, labels=labels)
            for values, value in read().items():
                family.add_metric(values, value)
            yield family
