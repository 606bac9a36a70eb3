"""SPIRE's programs where they already are: ``SPIRE_BIN_DIR``, PATH, the cache."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from issuer_testing.spire.binaries import VERSION, SpireBinaries, UnusableSpire, binaries_in
from issuer_testing.spire.go_build import cached_spire

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer_testing.spire.settings import SpireSettings


def find_binaries(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries | None:
    """Return SPIRE's programs from ``SPIRE_BIN_DIR``, else PATH, else the cache; ``None`` where none of them has it.

    Raises:
        UnusableSpire: ``SPIRE_BIN_DIR`` is set and has no SPIRE that can be used.
    """
    if settings.bin_dir:
        found = binaries_in(settings.bin_dir, f"SPIRE_BIN_DIR={settings.bin_dir}")
        if found is None:
            raise UnusableSpire(
                f"SPIRE_BIN_DIR={settings.bin_dir} does not hold spire-server and spire-agent: "
                "put them there, or unset it"
            )
        return found
    return _on_path(settings, say) or _in_cache(settings, say)


def _on_path(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries | None:
    server = shutil.which("spire-server", path=settings.search_path)
    if server is None:
        say("PATH: no spire-server")
        return None
    folder = Path(server).parent
    try:
        found = binaries_in(folder, f"PATH ({folder})")
    except UnusableSpire as unusable:
        say(f"PATH: {unusable}")
        return None
    if found is None:
        say(f"PATH: {server} has no spire-agent beside it")
    elif found.version != VERSION:
        say(f"PATH: {folder} has SPIRE {found.version}; tested with {VERSION}")
    return found


def _in_cache(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries | None:
    try:
        found = cached_spire(settings)
    except UnusableSpire as unusable:
        say(f"cache: {unusable}")
        return None
    if found is None:
        say(f"cache: no SPIRE in {settings.built_spire}")
    return found
