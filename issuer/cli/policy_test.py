"""``issuer policy test``: the cases beside a policy, decided as the server would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.etree import ElementTree as ET

import typer

from issuer.cli.failure import ExitCode, fail
from issuer.cli.output import Output
from issuer.cli.policy_loading import CeilingOption, OutputOption, PolicyOption, load
from issuer.core.policy_cases import coverage_of, read_cases, run_case
from issuer.core.policy_faults import PolicyInvalid
from issuer.policy_files.directory import CASES_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from issuer.core.policy import Policy
    from issuer.core.policy_cases import Case, CaseResult, Coverage


def run_cases(
    cases: Annotated[
        list[Path] | None, typer.Argument(help="Files of cases; all *.test.yaml beside the policy when left out.")
    ] = None,
    policy: PolicyOption = Path("policy"),
    junit: Annotated[Path | None, typer.Option(help="Also write the results here, as JUnit XML.")] = None,
    coverage_min: Annotated[int, typer.Option(help="Fail when less is covered, in percent.", min=0, max=100)] = 0,
    legacy_max_ttl: CeilingOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Decide the cases of a policy and compare, each at its own time and with its own facts.

    Covered is each rule that took effect in some case, and each condition that came out true, and false. Exit code 0
    when all is as expected, 1 when not, 2 when there is nothing to run.

    [bold]Example[/bold]

        issuer policy test --policy policy/ --coverage-min 80 --junit results.xml
    """
    loaded = load(policy, legacy_max_ttl)
    files = {str(file): file for file in cases or ()} or _files_beside(policy)
    results = [run_case(loaded, case) for name, file in files.items() for case in _cases(name, file, loaded)]
    if not results:
        fail(f"no cases: write them into a file named '*{CASES_SUFFIX}' beside the policy", ExitCode.USAGE)
    coverage = coverage_of(loaded, results)
    if junit is not None:
        _write(junit, _junit(results))
    if output is Output.JSON:
        typer.echo(json.dumps(_document(results, coverage)))
    else:
        _print(results, coverage)
    failed = sum(bool(result.differences) for result in results)
    if failed:
        fail(f"{failed} of {len(results)} cases did not come out as expected")
    if coverage.percent < coverage_min:
        fail(f"{coverage.percent} % is covered, and {coverage_min} % is asked for")


def _files_beside(policy: Path) -> dict[str, Path]:
    """Return the files of cases by their names within the folder, without hidden ones, as policy is read."""
    pattern = f"*{CASES_SUFFIX}"
    folder, files = (policy, policy.rglob(pattern)) if policy.is_dir() else (policy.parent, policy.parent.glob(pattern))
    found = {str(file.relative_to(folder)): file for file in sorted(files)}
    return {name: file for name, file in found.items() if not any(part.startswith(".") for part in Path(name).parts)}


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"--junit: {file}: {error.strerror}", ExitCode.USAGE)


def _cases(name: str, file: Path, policy: Policy) -> list[Case]:
    try:
        return read_cases(name, file.read_bytes(), policy.fact_types)
    except PolicyInvalid as error:
        fail(str(error))
    except OSError as error:
        fail(f"{file}: {error.strerror}", ExitCode.USAGE)


def _print(results: Sequence[CaseResult], coverage: Coverage) -> None:
    for result in results:
        mark = typer.style("FAIL", fg="red") if result.differences else typer.style("ok", fg="green")
        typer.echo(f"{mark}  {result.case.name}  {result.case.source}")  # colours reach terminals only
        for word, expected, got in result.differences:
            typer.echo(f"      {word}: expected {expected}, got {got or 'nothing'}")
        for change in result.explanation.changes if result.differences else ():
            typer.echo(f"      {change}")
    typer.echo(f"{len(results)} cases; {coverage.percent} % of the rules and of the sides of conditions covered")
    for rule in coverage.untried_rules:
        typer.echo(f"  {rule} never took effect")
    for condition, side in coverage.untried_sides:
        typer.echo(f"  {' '.join(condition.split())} was never {side}")


def _document(results: Sequence[CaseResult], coverage: Coverage) -> dict[str, object]:
    return {
        "cases": [
            {
                "name": result.case.name,
                "source": str(result.case.source),
                "ok": not result.differences,
                "differences": [
                    {"what": word, "expected": expected, "got": got} for word, expected, got in result.differences
                ],
            }
            for result in results
        ],
        "coverage": {
            "percent": coverage.percent,
            "untried_rules": coverage.untried_rules,
            "untried_sides": [{"condition": condition, "side": side} for condition, side in coverage.untried_sides],
        },
    }


def _junit(results: Sequence[CaseResult]) -> str:
    failures = sum(bool(result.differences) for result in results)
    suite = ET.Element("testsuite", name="policy", tests=str(len(results)), failures=str(failures))
    for result in results:
        source = result.case.source
        case = ET.SubElement(suite, "testcase", name=result.case.name, classname=source.file, line=str(source.line))
        if result.differences:
            text = "; ".join(f"{word}: expected {expected}, got {got}" for word, expected, got in result.differences)
            ET.SubElement(case, "failure", message=text).text = "\n".join(result.explanation.changes)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)
