"""The metrics of several workers as those of one issuer: what each counted is added up, those that ended included.

A worker tells its samples from time to time; how they are joined depends on what they say. What is counted is added. A
state is added where it is a quantity (entries that wait), else the worst or the highest of all counts.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry

    Labels = tuple[tuple[str, str], ...]
    Told = list[list[Any]]
    """A worker's families: name, type, text, and samples of name, labels and value; as MessagePack carries them."""

ADDED: Final = frozenset(
    {
        "issuer_ledger_copy_missed_entries",
        "issuer_ledger_waiting_entries",
        "issuer_turns_taken",
        "issuer_waiting_requests",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
    }
)
"""States that are quantities."""
WORST: Final = frozenset(
    {
        "issuer_bundle_authorities",
        "issuer_fact_source_available",
        "issuer_ledger_writable",
        "issuer_spire_connected",
        "issuer_svid_remaining_seconds",
        "process_start_time_seconds",
    }
)
"""States of which the lowest counts."""
_COUNTED: Final = frozenset({"counter", "histogram"})
_SINCE: Final = "_created"


def told_by(registry: CollectorRegistry) -> Told:
    """Return what a registry holds now, to be sent to :class:`PoolMetrics`."""
    return _told(registry.collect())


class PoolMetrics(Collector):
    """Joins what workers told, and the supervisor's own.

    Args:
        own: The supervisor's registry.
        registry: Where this is read.
    """

    def __init__(self, own: CollectorRegistry, registry: CollectorRegistry) -> None:
        self._own = own
        self._latest: dict[int, Told] = {}
        self._ended: Told = []
        registry.register(self)

    def take(self, worker: int, told: Told) -> None:
        """Take what a worker has counted until now, and its states."""
        self._latest[worker] = told

    def end(self, worker: int) -> None:
        """Keep what a worker counted that has ended, as far as it told."""
        told = self._latest.pop(worker, [])
        counted = [family for family in told if family[1] in _COUNTED]
        self._ended = _told(joined([self._ended, counted]))

    def describe(self) -> Iterable[Metric]:
        """Return nothing: values are not read before somebody asks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Join all."""
        return iter(joined([told_by(self._own), self._ended, *list(self._latest.values())]))


def joined(told: Sequence[Told]) -> list[Metric]:
    """Return the families of several processes as one's."""
    families: dict[str, tuple[str, str, dict[tuple[str, Labels], float]]] = {}
    for name, kind, text, samples in (family for each in told for family in each):
        _, _, values = families.setdefault(name, (kind, text, {}))
        for sample, labels, value in samples:
            key = sample, tuple(sorted(labels.items()))
            values[key] = _how(name, kind, sample)(values[key], value) if key in values else float(value)
    return [_family(name, *family) for name, family in families.items()]


def _how(name: str, kind: str, sample: str) -> Callable[[float, float], float]:
    if sample.endswith(_SINCE) or name in WORST:
        return min
    if kind in _COUNTED or name in ADDED:
        return operator.add
    return max


def _family(name: str, kind: str, text: str, values: dict[tuple[str, Labels], float]) -> Metric:
    family = Metric(name, text, kind)
    for (sample, labels), value in values.items():
        family.add_sample(sample, dict(labels), value)
    return family


def _told(families: Iterable[Metric]) -> Told:
    return [
        [
            each.name,
            each.type,
            each.documentation,
            [[sample.name, sample.labels, sample.value] for sample in each.samples],
        ]
        for each in families
    ]
