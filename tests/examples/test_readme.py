"""The README of the examples leaves nothing out."""

from __future__ import annotations

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
