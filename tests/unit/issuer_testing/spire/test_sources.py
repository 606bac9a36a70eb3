from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from issuer_testing.spire import sources
from issuer_testing.spire.environment import SpireEnded
from issuer_testing.spire.sources import Kind, SpireNotFound, get_binaries, start_spire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from issuer_testing.spire.settings import SpireSettings


def test_where_nothing_is_found_every_source_and_the_remedy_are_named(settings: SpireSettings, said: list[str]) -> None:
    with pytest.raises(SpireNotFound, match=r"(?s)PATH: no spire-server.*cache: no SPIRE.*remedy: install SPIRE"):
        start_spire("prod.example", kind=Kind.HOST, say=said.append, may_build=False, settings=settings)
    assert said[0] == "PATH: no spire-server"


def test_a_build_that_cannot_be_is_one_of_the_reasons(
    tmp_path: Path, settings: SpireSettings, said: list[str], make_program: Callable[[Path, str], Path]
) -> None:
    make_program(tmp_path / "bin" / "go", "echo go1.26.6")
    nothing = replace(settings, search_path=str(tmp_path / "bin"))
    with pytest.raises(SpireNotFound, match="build: building SPIRE needs a C compiler"):
        start_spire("prod.example", kind=Kind.HOST, say=said.append, settings=nothing)


def test_without_an_engine_containers_are_refused_with_what_was_tried(
    settings: SpireSettings, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(SpireNotFound, match="Docker: no engine answers"):
        start_spire("prod.example", kind=Kind.CONTAINERS, say=said.append, may_build=False, settings=settings)


def test_an_engine_of_another_host_is_not_used(
    settings: SpireSettings, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(SpireNotFound, match=r"Docker: the engine at .* may be another host"):
        start_spire("prod.example", kind=Kind.CONTAINERS, say=said.append, may_build=False, settings=settings)


def test_a_server_that_ends_is_an_error_with_its_log_and_leaves_nothing(
    tmp_path: Path, settings: SpireSettings, said: list[str], make_program: Callable[[Path, str], Path]
) -> None:
    """A SPIRE that was found and does not work is no reason to try the next source."""
    script = 'if [ "$1" = --version ]; then echo 1.15.3; exit; fi; echo "$0: no luck"; exit 4'
    for program in ("spire-server", "spire-agent"):
        make_program(tmp_path / "spire" / program, script)
    with pytest.raises(SpireEnded, match=r"(?s)spire-server ended with exit code 4.*no luck"):
        start_spire(
            "prod.example", kind=Kind.HOST, say=said.append, settings=replace(settings, bin_dir=tmp_path / "spire")
        )


def test_binaries_at_hand_are_not_built(
    settings: SpireSettings, said: list[str], make_spire: Callable[..., Path]
) -> None:
    make_spire(settings.built_spire)
    assert get_binaries(settings, said.append).version == "1.15.3"


def test_the_command_says_what_it_found_or_what_is_wrong(
    tmp_path: Path, make_spire: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPIRE_BIN_DIR", str(make_spire(tmp_path)))
    assert sources.main() == 0
    monkeypatch.setenv("SPIRE_BIN_DIR", "/nowhere")
    assert sources.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"SPIRE: 1.15.3 from SPIRE_BIN_DIR={tmp_path}",
        "error: SPIRE_BIN_DIR=/nowhere does not hold spire-server and spire-agent: put them there, or unset it",
    ]
