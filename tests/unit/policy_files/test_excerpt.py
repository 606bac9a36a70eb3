from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from issuer.core.policy_faults import Position
from issuer.policy_files.excerpt import excerpt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"one: 1\r\n\ttwo: \x1b[31m\xff\n" + b"x" * 200 + b"!" + b"y" * 200 + b"\n")
    return path


def test_shows_the_line_with_a_caret_below_the_place(file: Path) -> None:
    assert excerpt(file, Position("a.yaml", 1, 6)) == "    1 | one: 1\n      |      ^"


def test_finds_the_file_in_a_folder(file: Path) -> None:
    assert excerpt(file.parent, Position("a.yaml", 1, 1)).startswith("    1 | one: 1\n")


def test_shows_no_control_characters(file: Path) -> None:
    assert excerpt(file, Position("a.yaml", 2, 2)) == "    2 |  two: ?[31m\ufffd\n      |  ^"


def test_cuts_a_long_line_around_the_place(file: Path) -> None:
    line, caret = excerpt(file, Position("a.yaml", 3, 201)).split("\n")
    assert len(line) == 8 + 100
    assert line[caret.index("^")] == "!"


@pytest.mark.parametrize("position", [Position("a.yaml", 0, 0), Position("a.yaml", 9, 1)])
def test_shows_nothing_where_there_is_no_line(file: Path, position: Position) -> None:
    assert excerpt(file, position) == ""


def test_shows_nothing_of_a_file_that_is_gone(tmp_path: Path) -> None:
    assert excerpt(tmp_path, Position("gone.yaml", 1, 1)) == ""
