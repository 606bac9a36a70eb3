import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.compare import REGRESSED, UNUSABLE
from bench.comparing import NotComparable, compared
from bench.suite_plan import GO_NULL, SPIRE


def result(*rows: tuple[str, float], load: str = "16", spread: float = 0.0, **changes: float) -> dict[str, Any]:
    figures = [
        {"subject": name, "load": load, "cpu_us": cpu, "p50_ms": 1.0, "per_second": 1000, "spread": spread} | changes
        for name, cpu in rows
    ]
    return {"suite": {"figures": figures, "handshakes": []}}


def ratio(old: object, new: object, subject: str = "ours", metric: str = "cpu_us") -> float:
    (change,) = (each for each in compared(old, new) if (each.subject, each.metric) == (subject, metric))
    return round(change.ratio, 3)


def test_a_cost_is_put_beside_spire_in_its_own_run() -> None:
    slow_machine = result(("ours", 400), (SPIRE, 1000))
    assert ratio(result(("ours", 200), (SPIRE, 500)), slow_machine) == 1.0
    assert ratio(result(("ours", 100), (SPIRE, 500)), slow_machine) == 2.0


def test_go_stands_in_where_spire_was_not_in_both() -> None:
    (change, *_) = compared(result(("ours", 100), (GO_NULL, 20), (SPIRE, 500)), result(("ours", 100), (GO_NULL, 10)))
    assert (change.reference, change.ratio) == (GO_NULL, 2.0)


def test_without_a_reference_the_figures_themselves_are_compared() -> None:
    assert ratio(result(("ours", 100)), result(("ours", 150))) == 1.5


def test_less_throughput_is_worse() -> None:
    old, new = result(("ours", 1), per_second=1000), result(("ours", 1), per_second=500)
    assert ratio(old, new, metric="per_second") == 2.0


@pytest.mark.parametrize(("cpu", "regression"), [(80, False), (115, False), (116, True)])
def test_more_than_the_tolerance_is_a_regression(cpu: float, regression: bool) -> None:  # noqa: FBT001
    changes = compared(result(("ours", 100)), result(("ours", cpu)), tolerance=0.15)
    assert any(change.is_regression for change in changes) is regression


def test_runs_that_lie_apart_allow_as_much_more() -> None:
    changes = compared(result(("ours", 100), spread=0.2), result(("ours", 150), spread=0.2), tolerance=0.15)
    assert not any(change.is_regression for change in changes)


@pytest.mark.parametrize("wrong", [{}, [], {"suite": {}}, None])
def test_what_is_no_result_is_told(wrong: object) -> None:
    with pytest.raises(NotComparable):
        compared(wrong, result(("ours", 1)))


def test_results_without_anything_in_common_are_told() -> None:
    with pytest.raises(NotComparable, match="in common"):
        compared(result(("ours", 1)), result(("ours", 1), load="64"))


def compare(*arguments: Path) -> tuple[int, str]:
    import typer  # noqa: PLC0415

    from bench.compare import main  # noqa: PLC0415

    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output


def test_the_exit_code_tells_what_came_of_it(tmp_path: Path) -> None:
    for name, cpu in (("old", 100), ("same", 100), ("worse", 200)):
        (tmp_path / name).write_text(json.dumps(result(("ours", cpu))))
    assert compare(tmp_path / "old", tmp_path / "same")[0] == 0
    code, told = compare(tmp_path / "old", tmp_path / "worse")
    assert (code, "2.00" in told) == (REGRESSED, True)
    assert compare(tmp_path / "nothing", tmp_path / "same")[0] == UNUSABLE
