from typing import Any

from bench.load import Report
from bench.suite_figures import Run, rows_of
from bench.suite_plan import GO_NULL, SPIRE


def run(subject: str, cpu_us: float, load: str = "16", items: int = 1, calls: int = 1000, **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "calls": calls,
        "seconds": 2.0,
        "goodput": calls / 2.0,
        "codes": {"OK": calls},
        "late": 0,
        "resumed": 0,
        "mean_ms": 1.0,
        "p50_ms": 1.0,
        "p90_ms": 1.0,
        "p99_ms": 2.0,
        "p999_ms": 2.0,
        "max_ms": 3.0,
        "server_cpu_seconds": cpu_us * calls * items / 1e6,
        "load_cpu_seconds": 0.01,
    }
    return Run(subject, load, items, Report(**fields | changes))


def row(rows: list[dict[str, object]], subject: str) -> dict[str, object]:
    (found,) = (each for each in rows if each["subject"] == subject)
    return found


def test_the_median_of_the_runs_counts_and_their_spread_is_told() -> None:
    found = row(rows_of([run("ours", 100), run("ours", 900), run("ours", 110)], 20.0)["figures"], "ours")
    assert (found["cpu_us"], found["per_second"]) == (110.0, 500)
    assert found["spread"] == round((900 - 100) / 110, 2)


def test_cost_stands_beside_the_references_of_the_same_load() -> None:
    runs = [run("ours", 250), run(SPIRE, 500), run(GO_NULL, 25), run(SPIRE, 1000, load="1")]
    figures = rows_of(runs, 25.0)["figures"]
    assert (row(figures, "ours")["of_spire"], row(figures, "ours")["of_go_null"]) == (0.5, 10.0)
    assert row(figures, "ours")["signatures"] == 10.0


def test_a_reference_that_could_not_be_had_gives_no_ratio() -> None:
    found = row(rows_of([run("ours", 250), run(SPIRE, 500, load="1")], 25.0)["figures"], "ours")
    assert (found["of_spire"], found["of_go_null"]) == (None, None)


def test_a_batch_counts_its_tokens() -> None:
    found = row(rows_of([run("batch", 60, items=64, calls=10)], 20.0)["figures"], "batch")
    assert (found["per_second"], found["cpu_us"], found["signatures"]) == (320, 60.0, 3.0)


def test_what_was_refused_is_told_and_the_rest_pays_for_it() -> None:
    report = run("ours", 100, codes={"OK": 1000, "ResourceExhausted": 250})
    assert row(rows_of([report], 20.0)["figures"], "ours")["refused"] == 0.2


def test_handshakes_are_apart_with_the_part_that_was_resumed() -> None:
    rows = rows_of([run("ours", 300, load="resumed", resumed=750), run("ours", 100)], 20.0)
    assert row(rows["handshakes"], "ours")["resumed"] == 0.75
    assert [each["load"] for each in rows["figures"]] == ["16"]


def test_a_run_in_which_nothing_succeeded_divides_by_nothing() -> None:
    nothing = run("ours", 0, calls=0, codes={"ResourceExhausted": 9})
    assert row(rows_of([nothing], 20.0)["figures"], "ours")["per_second"] == 0
