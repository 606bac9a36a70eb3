"""Build SPIRE from its pinned Go module: the way that needs no download but modules, each checked against go.sum."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from issuer_testing.spire.binaries import VERSION, SpireBinaries, UnusableSpire, binaries_in
from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.guarded_process import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from issuer_testing.spire.settings import SpireSettings

MODULE = Path(__file__).with_name("build")
PROGRAMS = ("github.com/spiffe/spire/cmd/spire-server", "github.com/spiffe/spire/cmd/spire-agent")
# Static, so that the same programs run on this host and in an image that holds nothing else.
FLAGS = (
    "-v",
    "-trimpath",
    "-tags=osusergo,netgo",
    '-ldflags=-s -w -linkmode external -extldflags "-static"',
)
SAY_EVERY_SECONDS = 10.0
_LAST_LINES = 15


def build_spire(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries:
    """Build SPIRE into the cache and return it; where another process is building it already, wait for that one.

    What is unfinished is never seen: it is made under another name, written through to the disk, then renamed.

    Raises:
        UnusableSpire: It cannot be built here. The message says what is missing.
    """
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "build.lock").open("w") as lock:
        _wait_for_lock(lock, say)
        finished = _usable_in_cache(settings, say)
        if finished is None:
            _remove_unfinished(settings)
            _build(settings, say)
            finished = cached_spire(settings)
    if finished is None:
        raise UnusableSpire(f"the build of SPIRE left nothing in {settings.built_spire}")
    return finished


def cached_spire(settings: SpireSettings) -> SpireBinaries | None:
    """Return the SPIRE that was built earlier; ``None`` where there is none.

    Raises:
        UnusableSpire: It is there and does not run.
    """
    return binaries_in(settings.built_spire, f"the cache ({settings.built_spire}, built from the Go module)")


def _usable_in_cache(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries | None:
    """Return what another process built while we waited; what is there and does not run is removed."""
    try:
        return cached_spire(settings)
    except UnusableSpire as unusable:
        say(f"cache: {unusable}; building anew")
        shutil.rmtree(settings.built_spire)
        return None


def _build(settings: SpireSettings, say: Callable[[str], None]) -> None:
    if platform.system() != "Linux":
        raise UnusableSpire("SPIRE is built on Linux only: install it and set SPIRE_BIN_DIR, or start a Docker engine")
    environment = dict(settings.environment) | {"CGO_ENABLED": "1", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    _require_c_compiler(environment, settings.search_path)
    go = find_go(settings, say)
    say(f"SPIRE: building {VERSION} with {go}, once; about 6 minutes on 2 cores (then kept in {settings.cache})")
    with tempfile.TemporaryDirectory(prefix=_unfinished_prefix(settings), dir=settings.cache) as work:
        module, programs = Path(work) / "module", Path(work) / "programs"
        shutil.copytree(MODULE, module)
        programs.mkdir()
        _run_go([str(go), "build", *FLAGS, f"-o={programs}/", *PROGRAMS], module, environment, say)
        _write_through(programs)
        programs.rename(settings.built_spire)


def _run_go(command: list[str], folder: Path, environment: dict[str, str], say: Callable[[str], None]) -> None:
    """Run the compiler, which ends with this process: an orphan would work on for minutes, for nobody."""
    started = time.monotonic()
    last: list[str] = []
    with subprocess.Popen(
        guarded(command, folder.parent),
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as go:
        try:
            for line in _reported(go.stderr, started, say):
                last = [*last, line][-_LAST_LINES:]
        except BaseException:
            if go.stdin:
                go.stdin.close()
            raise
    if go.returncode != 0:
        raise UnusableSpire("SPIRE could not be built; the compiler's last words:\n  " + "\n  ".join(last))
    say(f"SPIRE: built in {time.monotonic() - started:.0f} s")


def _reported(lines: IO[str] | None, started: float, say: Callable[[str], None]) -> Iterator[str]:
    """Yield every line, and say now and then how far the build is."""
    modules = packages = 0
    said = started
    for line in lines or ():
        modules, packages = modules + line.startswith("go: downloading"), packages + (" " not in line)
        if time.monotonic() - said >= SAY_EVERY_SECONDS:
            said = time.monotonic()
            say(f"SPIRE: building, {said - started:.0f} s: {modules} modules fetched, {packages} packages compiled")
        yield line.rstrip()


def _require_c_compiler(environment: dict[str, str], search_path: str) -> None:
    """Refuse early: go would say so after minutes. SPIRE's SQLite is C."""
    wanted = environment.get("CC") or "gcc"
    if shutil.which(wanted, path=search_path) is None and shutil.which("clang", path=search_path) is None:
        raise UnusableSpire(
            f"building SPIRE needs a C compiler, and {wanted} is not on PATH: "
            "on Debian or Ubuntu `apt-get install gcc libc6-dev`, on Fedora `dnf install gcc glibc-static`"
        )


def _wait_for_lock(lock: IO[str], say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("SPIRE: another process is building it; waiting for that")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _unfinished_prefix(settings: SpireSettings) -> str:
    return f"{settings.built_spire.name}.unfinished-"


def _remove_unfinished(settings: SpireSettings) -> None:
    """Remove what interrupted builds left; nobody else builds, for we hold the lock."""
    for folder in settings.cache.glob(f"{_unfinished_prefix(settings)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _write_through(folder: Path) -> None:
    """Write the files to the disk: a rename that survives a power cut must not name files that did not."""
    for file in folder.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
