from __future__ import annotations

from pathlib import Path

import pytest

from issuer_testing.spire.settings import SpireSettings


def test_the_environment_names_the_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIRE_BIN_DIR", "/opt/spire")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    monkeypatch.setenv("PATH", "/bin")
    settings = SpireSettings.from_environment()
    assert (settings.bin_dir, settings.search_path) == (Path("/opt/spire"), "/bin")
    assert settings.built_spire.parent == Path("/var/cache/me/spiffe-issuer")


@pytest.mark.parametrize("unset", ["", None])
def test_without_settings_the_home_folder_holds_the_cache(monkeypatch: pytest.MonkeyPatch, unset: str | None) -> None:
    for name in ("SPIRE_BIN_DIR", "XDG_CACHE_HOME"):
        if unset is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, unset)
    monkeypatch.setenv("HOME", "/home/me")
    settings = SpireSettings.from_environment()
    assert settings.bin_dir is None
    assert settings.cache == Path("/home/me/.cache/spiffe-issuer")


def test_the_built_spire_is_kept_by_version_system_and_machine(settings: SpireSettings) -> None:
    assert settings.built_spire.name.startswith("spire-1.15.3-linux-")
