"""Reads the policy from a folder of ``*.yaml`` files, or from one file, and keeps the last good one in force."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.generations import Generation, PolicyStatus, keep
from issuer.core.policy_faults import FaultList, Position
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.yaml_reader import MAX_FILE_BYTES
from issuer.policy_files.archive import pack_files, unpack_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from issuer.core.policy import Policy
    from issuer.core.spiffe_id import SpiffeId

MAX_FILES: Final = 10_000
MAX_TOTAL_BYTES: Final = 4 * MAX_FILE_BYTES
_SUFFIX: Final = ".yaml"
CASES_SUFFIX: Final = ".test.yaml"
"""Cases of a policy stand beside it, and are no part of it."""
_NEAR_SUFFIXES: Final = (".yml", ".YAML", ".YML")


def load_policy(path: Path, *, legacy_ceiling: timedelta | None = None) -> Policy:
    """Return the policy that the folder (with its subfolders) or the file at ``path`` holds.

    ``legacy_ceiling`` is the longest lifetime that an exception may have; ``None`` allows no exception.

    Raises:
        PolicyInvalid: With every fault found, of files that cannot be read or of their contents. Names of files are
            relative to the folder.
    """
    return parse_policy(read_policy_files(path), legacy_ceiling=legacy_ceiling)


def read_policy_files(path: Path) -> list[PolicyFile]:
    """Return the files of a policy with their contents, sorted by name.

    Hidden files and folders are left alone: editors and Kubernetes' ConfigMap volumes keep their own things there.

    Raises:
        PolicyInvalid: With every file that cannot be read.
    """
    faults = FaultList()
    files = list(_read_all(path, faults))
    faults.raise_if_any()
    if not files:
        faults.add(_whole(str(path)), f"no policy here: put at least one '*{_SUFFIX}' file into this folder")
        faults.raise_if_any()
    return files


def _read_all(path: Path, faults: FaultList) -> Iterator[PolicyFile]:
    total = 0
    for name, file in _names(path, faults):
        try:
            content = _read(file)
        except OSError as error:
            faults.add(_whole(name), f"cannot be read: {error.strerror or error}")
            continue
        total += len(content)
        if total > MAX_TOTAL_BYTES:
            faults.add(_whole(name), f"the policy is larger than {MAX_TOTAL_BYTES // 1024 // 1024} MiB in all")
            return
        yield PolicyFile(name, content)


def _names(path: Path, faults: FaultList) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of each file of policy, sorted by name."""
    if not path.is_dir():
        yield path.name, path
        return
    root = _target(path)
    for position, file in enumerate(sorted(_walk(path, faults))):
        name = str(file.relative_to(path))
        if position >= MAX_FILES:
            faults.add(_whole(name), f"more than {MAX_FILES} files: join some of them")
            return
        if file.suffix in _NEAR_SUFFIXES:
            faults.add(_whole(name), f"is not read, but looks like policy: name it '{file.stem}{_SUFFIX}'")
        elif not _target(file).is_relative_to(root):
            faults.add(_whole(name), "is a link that leaves the folder of the policy")
        else:
            yield name, file


def _target(path: Path) -> Path:
    """Return where links lead. Unlike ``Path.resolve`` it lets links in a circle be; opening them fails."""
    return Path(os.path.realpath(path))


def _walk(path: Path, faults: FaultList) -> Iterator[Path]:
    def report(error: OSError) -> None:
        faults.add(_whole(str(error.filename)), f"cannot be read: {error.strerror}")

    for folder, folders, files in os.walk(path, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                faults.add(
                    _whole(str((Path(folder) / name).relative_to(path))), "is a link to a folder: link files only"
                )
        for name in files:
            if (
                not name.startswith(".")
                and name.endswith((_SUFFIX, *_NEAR_SUFFIXES))
                and not name.endswith(CASES_SUFFIX)
            ):
                yield Path(folder) / name


def _read(file: Path) -> bytes:
    """Return the contents of a regular file; not blocking, so that a named pipe cannot hold up the start."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return opened.read(MAX_FILE_BYTES + 1)  # one byte more, so that the parser sees that it is too large


def _whole(name: str) -> Position:
    return Position(name, 0, 0)


class KeptGenerations(NamedTuple):
    """A book's policies as they pass to another process.

    Attributes:
        generations: The packed files of each, and when it was loaded, the newest first.
        digest: Which is in force.
        pinned: Whether a rollback holds it.
    """

    generations: Sequence[tuple[bytes, datetime]]
    digest: str
    pinned: bool


class DirectoryPolicyBook:
    """A :class:`~issuer.ports.PolicyBook` over a folder or a file, which is never without a policy.

    Safe to use from any thread.

    Args:
        path: The folder, or the file.
        now: When it is loaded first, UTC.
        legacy_ceiling: The longest lifetime that an exception may have; ``None`` allows no exception.
        feeders: Who tells facts; they may not approve.
        gateways: Who brings evidence of approvers; they may not approve themselves.
        generations: How many policies are kept to go back to, the one in force included.
        begin_with: What is in force, and kept, elsewhere and so here as well; ``None`` begins with the files.

    Raises:
        PolicyInvalid: When the policy has faults at construction.
    """

    def __init__(
        self,
        path: Path,
        now: datetime,
        *,
        legacy_ceiling: timedelta | None = None,
        feeders: frozenset[SpiffeId] = frozenset(),
        gateways: frozenset[SpiffeId] = frozenset(),
        generations: int = 5,
        begin_with: KeptGenerations | None = None,
    ) -> None:
        self.path = path
        self._legacy_ceiling = legacy_ceiling
        self._feeders = feeders
        self._gateways = gateways
        self._at_most = generations
        self._changing = Lock()
        self._status = self._begun(now) if begin_with is None else self._begun_with(begin_with)
        self._current = self._status.current

    def current(self) -> Policy:
        """Return the policy in force; the same object until another is put in force whole."""
        return self._current.policy

    def status(self) -> PolicyStatus:
        """Return which policy is in force, and which are kept."""
        return self._status

    def load(self, now: datetime) -> Generation:
        """Return what the files hold; nothing is put in force. Blocks for as long as that takes.

        Raises:
            PolicyInvalid: When it has faults; the one in force stays.
        """
        files = read_policy_files(self.path)
        policy = parse_policy(
            files, legacy_ceiling=self._legacy_ceiling, feeders=self._feeders, gateways=self._gateways
        )
        return Generation(policy, now, pack_files(files))

    def read(self, packed: bytes, loaded_at: datetime) -> Generation:
        """Return what packed files hold, as :meth:`load` does for those of the folder.

        Raises:
            PolicyInvalid: When it has faults.
        """
        policy = parse_policy(unpack_files(packed), legacy_ceiling=self._legacy_ceiling, feeders=self._feeders)
        return Generation(policy, loaded_at, packed)

    def to_begin_with(self) -> KeptGenerations:
        """Return what another book has to begin with to be as this one."""
        status = self._status
        kept = tuple((each.files, each.loaded_at) for each in status.generations)
        return KeptGenerations(kept, status.current.policy.digest, status.pinned)

    def put_in_force(self, generation: Generation) -> None:
        """Put a loaded policy in force, and follow the files again after a rollback."""
        with self._changing:
            self._put_in_force(generation, keep(self._status.generations, generation, self._at_most), pinned=False)

    def refuse(self, fault: str, now: datetime) -> None:
        """Keep why a policy was not put in force, for the status."""
        with self._changing:
            self._status = replace(self._status, last_fault=fault, last_fault_at=now)

    def kept(self, digest: str) -> Generation:
        """Return a kept policy.

        Raises:
            KeyError: No kept policy has this digest.
        """
        return {each.policy.digest: each for each in self._status.generations}[digest]

    def roll_back(self, digest: str) -> Generation:
        """Put a kept policy in force and hold it, until :meth:`put_in_force`.

        Raises:
            KeyError: No kept policy has this digest.
        """
        with self._changing:
            kept = self.kept(digest)
            self._put_in_force(kept, self._status.generations, pinned=True)
            return kept

    def _begun(self, now: datetime) -> PolicyStatus:
        loaded = self.load(now)
        return PolicyStatus(loaded, (loaded,), pinned=False, last_fault=None, last_fault_at=None)

    def _begun_with(self, given: KeptGenerations) -> PolicyStatus:
        kept = tuple(self.read(files, loaded_at) for files, loaded_at in given.generations)
        current = next(each for each in kept if each.policy.digest == given.digest)
        return PolicyStatus(current, kept, pinned=given.pinned, last_fault=None, last_fault_at=None)

    def _put_in_force(self, generation: Generation, generations: tuple[Generation, ...], *, pinned: bool) -> None:
        self._status = PolicyStatus(generation, generations, pinned=pinned, last_fault=None, last_fault_at=None)
        self._current = generation
