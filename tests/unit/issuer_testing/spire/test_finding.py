from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from issuer_testing.spire.binaries import UnusableSpire
from issuer_testing.spire.finding import find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from issuer_testing.spire.settings import SpireSettings


def on_path(settings: SpireSettings, folder: Path) -> SpireSettings:
    return replace(settings, search_path=f"{folder}:{settings.search_path}")


def test_the_order_is_bin_dir_then_path_then_cache(
    tmp_path: Path, settings: SpireSettings, make_spire: Callable[..., Path], said: list[str]
) -> None:
    make_spire(settings.built_spire)
    cached = find_binaries(settings, said.append)
    settings = on_path(settings, make_spire(tmp_path / "on-path"))
    found_on_path = find_binaries(settings, said.append)
    named = find_binaries(replace(settings, bin_dir=make_spire(tmp_path / "named")), said.append)
    origins = [found.origin for found in (cached, found_on_path, named) if found]
    assert [origin.split(maxsplit=1)[0] for origin in origins[:2]] == ["the", "PATH"]
    assert origins[2] == f"SPIRE_BIN_DIR={tmp_path / 'named'}"


def test_a_bin_dir_without_spire_is_an_error_not_the_next_source(
    tmp_path: Path, settings: SpireSettings, make_spire: Callable[..., Path], said: list[str]
) -> None:
    make_spire(settings.built_spire)
    with pytest.raises(UnusableSpire, match="put them there, or unset it"):
        find_binaries(replace(settings, bin_dir=tmp_path), said.append)


def test_an_old_spire_on_path_is_named_and_passed_over(
    tmp_path: Path, settings: SpireSettings, make_spire: Callable[..., Path], said: list[str]
) -> None:
    make_spire(settings.built_spire)
    found = find_binaries(on_path(settings, make_spire(tmp_path / "old", "1.9.6")), said.append)
    assert found is not None
    assert found.server.parent == settings.built_spire
    assert "SPIRE 1.9.6" in said[0]


def test_another_version_on_path_is_used_and_said(
    tmp_path: Path, settings: SpireSettings, make_spire: Callable[..., Path], said: list[str]
) -> None:
    found = find_binaries(on_path(settings, make_spire(tmp_path / "new", "1.16.0")), said.append)
    assert found is not None
    assert "has SPIRE 1.16.0; tested with 1.15.3" in said[0]


def test_a_server_without_its_agent_on_path_is_said(
    tmp_path: Path, settings: SpireSettings, make_spire: Callable[..., Path], said: list[str]
) -> None:
    folder = make_spire(tmp_path / "half")
    (folder / "spire-agent").unlink()
    assert find_binaries(on_path(settings, folder), said.append) is None
    assert "has no spire-agent beside it" in said[0]


def test_nothing_anywhere_is_said_for_each_place(settings: SpireSettings, said: list[str]) -> None:
    assert find_binaries(settings, said.append) is None
    assert [line.partition(":")[0] for line in said] == ["PATH", "cache"]


def test_a_broken_cache_is_said_and_passed_over(
    settings: SpireSettings, make_spire: Callable[..., Path], said: list[str]
) -> None:
    make_spire(settings.built_spire, "nonsense")
    assert find_binaries(settings, said.append) is None
    assert "says no version" in said[1]
