"""The suite's figures for people: tables and the plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from bench.plot import Point, latency_plot
from bench.suite_plan import HANDSHAKES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_COLUMNS = {
    "subject": "subject",
    "load": "load",
    "per_second": "a second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_us": "CPU us",
    "of_spire": "x SPIRE",
    "of_go_null": "x Go null",
    "signatures": "x sign",
    "refused": "refused",
    "resumed": "resumed",
    "spread": "spread",
    "load_cpu_us": "load us",
}
_TITLE = "CPU of all the server's processes, for a token (or a call); load us is the generator's own"


def suite_table(rows: Sequence[dict[str, Any]], title: str = _TITLE) -> Table:
    """Return the rows as a table, without the columns that none of them has."""
    shown = Table(title=title, title_justify="left")
    columns = [name for name in _COLUMNS if any(row.get(name) is not None for row in rows)]
    for name in columns:
        shown.add_column(_COLUMNS[name], justify="left" if name == "subject" else "right", no_wrap=True)
    for row in rows:
        shown.add_row(
            *(
                "" if row.get(name) is None else f"{row[name]:,}" if name == "per_second" else str(row[name])
                for name in columns
            )
        )
    return shown


def suite_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Return latency over throughput of each subject under several loads, one connection for each caller."""
    series: dict[str, list[Point]] = {}
    for row in rows:
        if row["load"] not in HANDSHAKES and " on " not in row["load"]:
            point = Point(row["load"], row["per_second"], row["p50_ms"], row["p99_ms"])
            series.setdefault(row["subject"], []).append(point)
    lines = {subject: points for subject, points in series.items() if len(points) > 1}
    return latency_plot("Latency over throughput, by the number of callers", lines)
