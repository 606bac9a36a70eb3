"""Folders of pytest, which are for this user alone, opened to other users."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_to_others(folder: Path, mode: int) -> None:
    """Add ``mode`` to a folder and to those above it that pytest makes, one more where tests run side by side."""
    for each in (folder, *folder.parents[:3]):
        each.chmod(each.stat().st_mode | mode)
