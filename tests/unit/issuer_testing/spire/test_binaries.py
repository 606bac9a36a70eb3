from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from issuer_testing.spire.binaries import UnusableSpire, binaries_in, is_static

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("said", ["1.15.3", "1.15.3-dev-unk", "1.15.0", "1.16.1", "1.100.0"])
def test_a_version_that_the_configuration_fits_is_taken(
    tmp_path: Path, make_spire: Callable[..., Path], said: str
) -> None:
    found = binaries_in(make_spire(tmp_path, said), "here")
    assert found is not None
    assert found.version == said.partition("-")[0]
    assert (found.server, found.agent) == (tmp_path / "spire-server", tmp_path / "spire-agent")


@pytest.mark.parametrize("said", ["1.14.9", "1.9.0", "0.12.3", "2.0.0"])
def test_another_version_is_refused_with_the_remedy(tmp_path: Path, make_spire: Callable[..., Path], said: str) -> None:
    with pytest.raises(UnusableSpire, match=r"needs 1\.15 or a later 1\.x .* install that"):
        binaries_in(make_spire(tmp_path, said), "here")


def test_programs_of_two_versions_are_refused(tmp_path: Path, make_spire: Callable[..., Path]) -> None:
    with pytest.raises(UnusableSpire, match=r"spire-server is 1\.15\.3, spire-agent 1\.16\.0"):
        binaries_in(make_spire(tmp_path, "1.15.3", "1.16.0"), "here")


@pytest.mark.parametrize("script", ["echo nonsense", "exit 1"])
def test_a_program_that_says_no_version_is_refused(
    tmp_path: Path, make_spire: Callable[..., Path], make_program: Callable[[Path, str], Path], script: str
) -> None:
    make_spire(tmp_path)
    make_program(tmp_path / "spire-server", script)
    with pytest.raises(UnusableSpire, match="says no version"):
        binaries_in(tmp_path, "here")


def test_a_file_that_is_no_program_is_refused(tmp_path: Path, make_spire: Callable[..., Path]) -> None:
    make_spire(tmp_path)
    (tmp_path / "spire-server").chmod(0o644)
    with pytest.raises(UnusableSpire, match="cannot be run"):
        binaries_in(tmp_path, "here")


@pytest.mark.parametrize("missing", ["spire-server", "spire-agent"])
def test_half_a_spire_is_none(tmp_path: Path, make_spire: Callable[..., Path], missing: str) -> None:
    (make_spire(tmp_path) / missing).unlink()
    assert binaries_in(tmp_path, "here") is None


def test_a_program_with_an_interpreter_is_not_static() -> None:
    assert not is_static(Path(sys.executable).resolve())


def test_what_is_no_elf_is_not_static(tmp_path: Path, make_program: Callable[[Path, str], Path]) -> None:
    assert not is_static(make_program(tmp_path / "script", "exit 0"))


def test_a_program_without_an_interpreter_is_static(tmp_path: Path) -> None:
    """A header and one PT_LOAD segment: as much of an ELF file as is looked at."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    header[32:40] = (64).to_bytes(8, "little")
    header[54:58] = (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    for kind, static in ((1, True), (3, False)):
        file = tmp_path / f"segment-{kind}"
        file.write_bytes(bytes(header) + kind.to_bytes(4, "little") + bytes(52))
        assert is_static(file) is static
