from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from issuer_testing.spire.settings import SpireSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_program() -> Callable[[Path, str], Path]:
    """A shell script in the place of a program."""

    def make(file: Path, script: str) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    return make


@pytest.fixture
def make_spire(make_program: Callable[[Path, str], Path]) -> Callable[..., Path]:
    """A folder with programs that say they are SPIRE of a version."""

    def make(folder: Path, version: str = "1.15.3", agent_version: str | None = None) -> Path:
        make_program(folder / "spire-server", f"echo {version} >&2")
        make_program(folder / "spire-agent", f"echo {agent_version or version} >&2")
        return folder

    return make


@pytest.fixture
def settings(tmp_path: Path) -> SpireSettings:
    """Nothing on PATH but the system's tools, an empty cache."""
    return SpireSettings(
        bin_dir=None,
        search_path="/usr/bin:/bin",
        cache=tmp_path / "cache",
        environment={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )


@pytest.fixture
def said() -> list[str]:
    return []
