"""What is said when the library that an adapter is for is not there."""

from __future__ import annotations


def not_installed(adapter: str, library: str, requirement: str, error: ImportError) -> ImportError:
    """Return the error to raise from ``error``, which importing ``library`` for ``adapter`` raised."""
    if error.name is not None and error.name.partition(".")[0] != library:
        return error  # the library is there, and something that it needs is not
    return ImportError(
        f"{adapter} is for {requirement}, which is not installed: pip install '{requirement}'", name=library
    )
