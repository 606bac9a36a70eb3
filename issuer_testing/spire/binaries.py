"""The two SPIRE programs, and whether they are ones that the configuration of ``spire-dev/`` was written for."""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "1.15.3"
"""The SPIRE that is built, pulled and tested with."""
OLDEST = (1, 15)
_VERSION_SECONDS = 30.0
_PT_INTERP = struct.pack("<I", 3)


class UnusableSpire(RuntimeError):
    """A SPIRE was found that cannot be used. The message says where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class SpireBinaries:
    """``spire-server`` and ``spire-agent`` of one version.

    Attributes:
        server: The server's file.
        agent: The agent's file.
        version: What the server says of itself, for example ``1.15.3``.
        origin: Where they were found, in words.
    """

    server: Path
    agent: Path
    version: str
    origin: str


def binaries_in(folder: Path, origin: str) -> SpireBinaries | None:
    """Return the programs of a folder; ``None`` where one of them is not there.

    Raises:
        UnusableSpire: They are there and do not run, are of different versions, or older than :data:`OLDEST`.
    """
    server, agent = folder / "spire-server", folder / "spire-agent"
    if not (server.is_file() and agent.is_file()):
        return None
    version = _version(server)
    if _version(agent) != version:
        raise UnusableSpire(
            f"{folder}: spire-server is {version}, spire-agent {_version(agent)}: install both of one version"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST or not version.startswith("1."):
        raise UnusableSpire(
            f"{folder}: SPIRE {version}; the configuration needs {OLDEST[0]}.{OLDEST[1]} or a later 1.x "
            f"(tested with {VERSION}): install that, or take the folder off PATH"
        )
    return SpireBinaries(server=server, agent=agent, version=version, origin=origin)


def is_static(program: Path) -> bool:
    """Return whether an ELF program runs in an empty image: it names no interpreter (no PT_INTERP segment)."""
    with program.open("rb") as file:
        header = file.read(64)
        if header[:6] != b"\x7fELF\x02\x01":  # 64 bit, little endian: amd64 and arm64, which SPIRE is released for
            return False
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        segments = file.read(size * count)
    return all(segments[i * size : i * size + 4] != _PT_INTERP for i in range(count))


def _version(program: Path) -> str:
    """Return ``1.15.3`` of a program that says ``1.15.3`` or, built from its module, ``1.15.3-dev-unk``."""
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnusableSpire(f"{program}: cannot be run: {error}") from error
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    if found is None:
        raise UnusableSpire(f"{program} --version says no version: {(done.stdout + done.stderr).strip()[:200]!r}")
    return found.group()
