from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from issuer_testing.deadline import wait_until
from issuer_testing.spire import go_build
from issuer_testing.spire.binaries import UnusableSpire
from issuer_testing.spire.go_build import build_spire

if TYPE_CHECKING:
    from collections.abc import Callable

    from issuer_testing.spire.settings import SpireSettings

# In the place of go: makes what -o names, as programs that say their version.
FAKE_GO = """
if [ "$1" = env ]; then echo go1.26.6; exit; fi
for argument; do case $argument in -o=*) folder=${argument#-o=};; esac; done
[ -f go.mod ] && [ -f go.sum ] || exit 7
echo 'go: downloading github.com/spiffe/spire v1.15.3' >&2
echo github.com/spiffe/spire/cmd/spire-server >&2
for program in spire-server spire-agent; do
  printf '#!/bin/sh\\necho 1.15.3\\n' > "$folder$program"; chmod +x "$folder$program"
done
"""


@pytest.fixture
def go(tmp_path: Path, make_program: Callable[[Path, str], Path]) -> Path:
    make_program(tmp_path / "bin" / "gcc", "exit 0")
    return make_program(tmp_path / "bin" / "go", FAKE_GO)


@pytest.fixture
def build_settings(settings: SpireSettings, go: Path) -> SpireSettings:
    path = f"{go.parent}:/usr/bin:/bin"
    return replace(settings, search_path=path, environment={**settings.environment, "PATH": path})


def unfinished(settings: SpireSettings) -> list[Path]:
    return list(settings.cache.glob("*.unfinished-*"))


def test_a_build_leaves_the_programs_in_the_cache_and_nothing_else(
    build_settings: SpireSettings, said: list[str]
) -> None:
    built = build_spire(build_settings, said.append)
    assert (built.server.parent, built.version) == (build_settings.built_spire, "1.15.3")
    assert sorted(file.name for file in build_settings.built_spire.iterdir()) == ["spire-agent", "spire-server"]
    assert unfinished(build_settings) == []
    assert "about 6 minutes" in said[0]


def test_a_second_build_takes_what_is_there(build_settings: SpireSettings, said: list[str], go: Path) -> None:
    build_spire(build_settings, said.append)
    go.unlink()
    said.clear()
    assert build_spire(build_settings, said.append).version == "1.15.3"
    assert said == []


def test_a_failed_build_says_the_compilers_last_words_and_leaves_nothing(
    build_settings: SpireSettings, said: list[str], make_program: Callable[[Path, str], Path], go: Path
) -> None:
    make_program(go, 'if [ "$1" = env ]; then echo go1.26.6; exit; fi; echo "undefined: x" >&2; exit 1')
    with pytest.raises(UnusableSpire, match=r"last words:\n.*undefined: x"):
        build_spire(build_settings, said.append)
    assert unfinished(build_settings) == []
    assert not build_settings.built_spire.exists()


def test_programs_in_the_cache_that_do_not_run_are_built_anew(
    build_settings: SpireSettings, said: list[str], make_spire: Callable[..., Path]
) -> None:
    make_spire(build_settings.built_spire, "nonsense")
    assert build_spire(build_settings, said.append).version == "1.15.3"
    assert "building anew" in said[0]


def test_without_a_c_compiler_the_remedy_comes_at_once(
    build_settings: SpireSettings, said: list[str], go: Path
) -> None:
    settings = replace(build_settings, search_path=str(go.parent))
    (go.parent / "gcc").unlink()
    with pytest.raises(UnusableSpire, match="apt-get install gcc libc6-dev"):
        build_spire(settings, said.append)


def test_progress_is_said_now_and_then(
    build_settings: SpireSettings, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(go_build, "SAY_EVERY_SECONDS", 0.0)
    build_spire(build_settings, said.append)
    assert any("1 modules fetched, 1 packages compiled" in line for line in said)


def test_what_an_interrupted_build_left_is_removed_and_never_used(
    build_settings: SpireSettings, said: list[str]
) -> None:
    left = build_settings.cache / f"{build_settings.built_spire.name}.unfinished-abc" / "programs"
    left.mkdir(parents=True)
    (left / "spire-server").write_text("half a program")
    assert build_spire(build_settings, said.append).version == "1.15.3"
    assert unfinished(build_settings) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_no_compiler_and_no_spire(
    build_settings: SpireSettings, make_program: Callable[[Path, str], Path], go: Path, number: signal.Signals
) -> None:
    pid_file = go.parent / "pid"
    script = (
        f'if [ "$1" = env ]; then echo go1.26.6; exit; fi; echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; '
    )
    make_program(go, script + "exec sleep 600")
    program = textwrap.dedent(f"""
        from pathlib import Path
        from issuer_testing.spire.go_build import build_spire
        from issuer_testing.spire.settings import SpireSettings
        settings = SpireSettings(None, {build_settings.search_path!r}, Path({str(build_settings.cache)!r}),
                                 {dict(build_settings.environment)!r})
        build_spire(settings, print)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as builder:
        wait_until(pid_file.exists, what="the compiler runs", seconds=30)
        builder.send_signal(number)
    compiler = Path("/proc") / pid_file.read_text().strip()
    wait_until(lambda: not compiler.exists(), what="the compiler is gone", seconds=30)
    assert not build_settings.built_spire.exists()


def test_a_build_that_another_process_makes_is_waited_for_and_used(
    build_settings: SpireSettings, said: list[str], make_spire: Callable[..., Path], go: Path
) -> None:
    build_settings.cache.mkdir(parents=True)
    go.unlink()
    built = []
    waiter = threading.Thread(target=lambda: built.append(build_spire(build_settings, said.append)))
    with (build_settings.cache / "build.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiter.start()
        wait_until(lambda: said, what="it says that it waits", seconds=30)
        make_spire(build_settings.built_spire)
    waiter.join(30)
    assert [spire.version for spire in built] == ["1.15.3"]
    assert "another process" in said[0]
