"""The README of the examples leaves nothing out, and the examples are what a user can write."""

from __future__ import annotations

import ast
import re

from support.examples import README, ROOT, commands

EXAMPLES = ROOT / "examples"
DEMO = "demo.py"  # `make demo`, which the project's own README tells


def test_every_example_has_a_row_and_every_row_an_example() -> None:
    there = {
        entry.name + "/" * entry.is_dir() for entry in EXAMPLES.iterdir() if not entry.name.startswith((".", "__"))
    }
    assert set(commands()) == there - {README.name, DEMO}


def test_every_row_is_run_by_a_test() -> None:
    tests = "\n".join(test.read_text(encoding="utf-8") for test in (ROOT / "tests/examples").glob("*.py"))
    assert set(commands()) <= set(re.findall(r'commands\(\)\["([^"]+)"\]', tests))


def test_examples_use_nothing_of_ours_but_the_public_names_of_the_client() -> None:
    for program in EXAMPLES.rglob("*.py"):
        if program.name == DEMO:  # it also starts what a user has already
            continue
        for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                assert not re.match(r"(?:issuer|issuer_api|issuer_testing)\b|agent_client\..*\b_", module), program.name
