"""Where SPIRE comes from: the first source that works, in a fixed order, and a line that says which one it was.

1. ``SPIRE_BIN_DIR``: that folder or nothing.
2. PATH.
3. The cache: what an earlier run built.
4. A Docker engine, with SPIRE's official images where they can be pulled.
5. Building the pinned Go module (minutes, once); with ``containers``, images are then made of what was built.

Nothing here falls back to the embedded development authority: it is no SPIRE.

``python -m issuer_testing.spire.sources`` gets SPIRE by this order, builds it where it must, and says what it found.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from issuer_testing.spire.binaries import VERSION, SpireBinaries, UnusableSpire
from issuer_testing.spire.environment import Spire
from issuer_testing.spire.finding import find_binaries
from issuer_testing.spire.go_build import build_spire
from issuer_testing.spire.host import HostPrograms
from issuer_testing.spire.settings import SpireSettings

if TYPE_CHECKING:
    from collections.abc import Callable

REMEDY = (
    f"install SPIRE {VERSION} and put spire-server and spire-agent on PATH (or name their folder in SPIRE_BIN_DIR), "
    "start a Docker engine, or let `python -m issuer_testing.spire.sources` build it once (about 6 minutes)"
)


class Kind(StrEnum):
    """How SPIRE's programs are to be run."""

    AUTO = "auto"
    HOST = "host"
    CONTAINERS = "containers"


class SpireNotFound(RuntimeError):
    """No source gave a SPIRE. The message holds what each one said, and the remedy."""


def start_spire(
    trust_domain: str,
    *,
    kind: Kind = Kind.AUTO,
    say: Callable[[str], None],
    may_build: bool = True,
    settings: SpireSettings | None = None,
) -> Spire:
    """Find SPIRE, start it, and return when its agent serves the Workload API.

    Args:
        trust_domain: The name without scheme.
        kind: Host processes, containers, or whatever comes first in the order above.
        say: Called with one line of progress at a time.
        may_build: Whether to take minutes for building it where nothing else gives one.
        settings: Default: what the environment says.

    Raises:
        SpireNotFound: No source gave one.
        UnusableSpire: ``SPIRE_BIN_DIR`` names a SPIRE that cannot be used.
        SpireEnded: It was found and did not run.
        DeadlineExceeded: It was found and took longer than a minute to start.
    """
    said: list[str] = []

    def note(line: str) -> None:
        said.append(line)
        say(line)

    search = _Search(trust_domain, settings or SpireSettings.from_environment(), note, may_build)
    for source in _ORDER[kind]:
        started = source(search)
        if started:
            return started
    raise SpireNotFound("\n  ".join(["no SPIRE here:", *said, f"remedy: {REMEDY}"]))


@dataclass(frozen=True, slots=True)
class _Search:
    """What every source is asked with; each returns a running SPIRE, or says why it has none and returns ``None``."""

    trust_domain: str
    settings: SpireSettings
    say: Callable[[str], None]
    may_build: bool

    def start_on_host(self, binaries: SpireBinaries) -> Spire:
        return Spire.start(HostPrograms(binaries, self.trust_domain), self.trust_domain, binaries.origin, self.say)


def _from_programs(search: _Search) -> Spire | None:
    found = find_binaries(search.settings, search.say)
    return search.start_on_host(found) if found else None


def _from_official_images(search: _Search) -> Spire | None:
    return _in_containers(search, may_make_images=False)


def _from_any_images(search: _Search) -> Spire | None:
    return _in_containers(search, may_make_images=search.may_build)


def _in_containers(search: _Search, *, may_make_images: bool) -> Spire | None:
    try:
        from issuer_testing.spire.containers import start_containers  # noqa: PLC0415 - its packages are an extra
    except ImportError as error:
        search.say(f"Docker: {error}; install spiffe-issuer[testing]")
        return None
    return start_containers(search.trust_domain, search.settings, search.say, may_build=may_make_images)


def _from_build(search: _Search) -> Spire | None:
    if not search.may_build:
        return None
    try:
        return search.start_on_host(build_spire(search.settings, search.say))
    except UnusableSpire as unusable:
        search.say(f"build: {unusable}")
        return None


_ORDER = {
    Kind.AUTO: (_from_programs, _from_official_images, _from_build),
    Kind.HOST: (_from_programs, _from_build),
    Kind.CONTAINERS: (_from_any_images,),
}


def get_binaries(settings: SpireSettings, say: Callable[[str], None]) -> SpireBinaries:
    """Return SPIRE's programs, built where they are nowhere.

    Raises:
        UnusableSpire: They can be had from nowhere.
    """
    return find_binaries(settings, say) or build_spire(settings, say)


def main() -> int:
    """Get SPIRE, building it where it must be; say where it is."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is what the command is for

    try:
        found = get_binaries(SpireSettings.from_environment(), say)
    except UnusableSpire as unusable:
        say(f"error: {unusable}")
        return 1
    say(f"SPIRE: {found.version} from {found.origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
