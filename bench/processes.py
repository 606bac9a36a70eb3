"""What the processes of a tree hold, from the operating system's accounting (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.process_cpu import descendants

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """A process: its id, the Python module that it runs (or its program), when it began, and what it holds."""

    pid: int
    name: str
    began: int
    resident_bytes: int
    descriptors: int


def processes(pid: int) -> list[Process]:
    """Return a process and all its descendants; those that end meanwhile are left out."""
    found = (_process(each) for each in [pid, *descendants(pid)])
    return [each for each in found if each is not None]


def _process(pid: int) -> Process | None:
    folder = Path(f"/proc/{pid}")
    try:
        command = (folder / "cmdline").read_bytes().decode().split("\0")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return Process(pid, _module(command), int(fields[19]), resident, descriptors)


def _module(command: list[str]) -> str:
    return command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name
