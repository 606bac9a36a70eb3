"""What the environment says about where SPIRE is and where a built one is kept. Read here and nowhere else."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from issuer_testing.spire.binaries import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SpireSettings:
    """Where to look for SPIRE.

    Attributes:
        bin_dir: ``SPIRE_BIN_DIR``: the folder to use, and no other; ``None`` where it is not set.
        search_path: ``PATH``.
        cache: Where what was built is kept, for all checkouts of this user.
        environment: What the compiler and the Docker client get.
    """

    bin_dir: Path | None
    search_path: str
    cache: Path
    environment: Mapping[str, str]

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment of this process."""
        environment = dict(os.environ)  # noqa: TID251 - this is that one place
        cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        bin_dir = environment.get("SPIRE_BIN_DIR")
        return cls(
            bin_dir=Path(bin_dir) if bin_dir else None,
            search_path=environment.get("PATH", os.defpath),
            cache=Path(cache) / "spiffe-issuer",
            environment=environment,
        )

    @property
    def built_spire(self) -> Path:
        """The folder of the SPIRE that was built here; it exists only when it is whole."""
        return self.cache / f"spire-{VERSION}-{platform.system().lower()}-{platform.machine()}"
