"""Two results of the suite beside each other: pure.

Machines differ, and so does one machine from hour to hour. So each figure is first put beside the reference of its own
run, under the same load, and those ratios are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.suite_plan import GO_NULL, SPIRE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Figures = Mapping[tuple[str, str], Mapping[str, Any]]

METRICS = {"cpu_us": 1, "p50_ms": 1, "per_second": -1}
"""What is compared; -1 where less is worse."""
TOLERANCE = 0.15
"""Two runs of the same program differ so much on a machine that does other things too."""


class NotComparable(ValueError):
    """Something is no result of the suite, or two results have nothing in common. The message says which."""


@dataclass(frozen=True)
class Change:
    """One figure of one subject under one load.

    Attributes:
        subject: Its name.
        load: As in the results.
        metric: One of :data:`METRICS`.
        ratio: How much worse it is: 1 is equal, 2 is twice as bad, 0.5 half.
        reference: What it was put beside in each run; empty: nothing was there in both, absolute figures are compared.
        allowed: Up to which ratio it is no regression: the tolerance, and how far apart the runs lay.
    """

    subject: str
    load: str
    metric: str
    ratio: float
    reference: str
    allowed: float

    @property
    def is_regression(self) -> bool:
        """Whether it is worse than chance explains."""
        return self.ratio > self.allowed


def compared(old: object, new: object, tolerance: float = TOLERANCE) -> list[Change]:
    """Return every figure that both have, the worst first.

    Args:
        old: What the JSON file of an earlier run says.
        new: The same of a later one.
        tolerance: Changes up to this part count as none.

    Raises:
        NotComparable: One is no result of the suite, or they have nothing in common.
    """
    before, after = _figures(old, "the old one"), _figures(new, "the new one")
    changes = [change for key in after if key in before for change in _changes(key, before, after, tolerance)]
    if not changes:
        raise NotComparable("the two have no subject under the same load in common")
    return sorted(changes, key=lambda change: -change.ratio)


def _figures(document: object, which: str) -> Figures:
    try:
        suite = document["suite"]  # type: ignore[index] # what it is not, the except says
        return {(row["subject"], row["load"]): row for row in [*suite["figures"], *suite["handshakes"]]}
    except (KeyError, TypeError) as error:
        raise NotComparable(f"{which} is no result of the suite (python -m bench --only suite)") from error


def _changes(key: tuple[str, str], before: Figures, after: Figures, tolerance: float) -> Iterator[Change]:
    subject, load = key
    reference = next((name for name in (SPIRE, GO_NULL) if _is_reference(name, key, before, after)), "")
    for metric, direction in METRICS.items():
        was, now = (_beside(figures, key, reference, metric) for figures in (before, after))
        if not was or not now:
            continue
        spread = before[key]["spread"] + after[key]["spread"]
        yield Change(subject, load, metric, (now / was) ** direction, reference, 1 + tolerance + spread)


def _is_reference(name: str, key: tuple[str, str], before: Figures, after: Figures) -> bool:
    return name != key[0] and all((name, key[1]) in figures for figures in (before, after))


def _beside(figures: Figures, key: tuple[str, str], reference: str, metric: str) -> float:
    mine = float(figures[key][metric])
    other = float(figures[reference, key[1]][metric]) if reference else 1.0
    return mine / other if other else 0.0
