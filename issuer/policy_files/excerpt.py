"""The line of a file that a fault is about, with a caret below the place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.core.policy_faults import Position

_WIDTH: Final = 100


def excerpt(path: Path, position: Position) -> str:
    """Return the line and the caret, or nothing where there is no such line.

    ``path`` is the folder or file that was loaded. A long line is cut around the place; what is not printable, a
    terminal's control characters above all, is shown as ``?``.
    """
    lines = _lines(path / position.file if path.is_dir() else path)
    if not 0 < position.line <= len(lines):
        return ""
    text = lines[position.line - 1].rstrip("\r")
    start = max(0, position.column - 1 - _WIDTH // 2)
    shown = "".join(
        character if character.isprintable() else "?" for character in text[start : start + _WIDTH].replace("\t", " ")
    )
    gutter = f"{position.line:>5} | "
    return f"{gutter}{shown}\n{' ' * (len(gutter) - 2)}| {' ' * (position.column - 1 - start)}^"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_bytes().decode("utf-8-sig", "replace").split("\n")
    except OSError:  # gone since it was loaded: the message stands without it
        return []
