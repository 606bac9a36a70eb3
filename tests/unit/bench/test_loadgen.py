"""The load generator against a Go server whose one method does nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import NULL, Load, LoadFailed, Target, Work, run
from bench.reference_servers import go_null_server
from issuer_testing.spire.authority import Authority
from issuer_testing.spire.go_toolchain import find_go
from issuer_testing.spire.settings import SpireSettings

pytestmark = pytest.mark.interop
SECONDS = 0.4


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with go_null_server(tmp_path_factory.mktemp("null"), Authority("dev.test")) as (target, _):
        yield target


def test_a_closed_loop_counts_its_calls_and_what_they_cost(target: Target) -> None:
    found = run(target, NULL, Load(4, SECONDS, connections=2))
    assert found.codes == {"OK": found.calls}
    assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms <= found.max_ms
    assert found.load_cpu_seconds > 0


def test_an_open_loop_makes_the_calls_that_are_due_and_no_more(target: Target) -> None:
    found = run(target, NULL, Load(20, SECONDS, connections=2, rate=200))
    assert found.calls == 200 * SECONDS


def test_handshakes_are_fresh_or_resumed(target: Target) -> None:
    assert run(target, NULL, Load(1, SECONDS, handshakes="fresh")).resumed == 0
    resumed = run(target, NULL, Load(1, SECONDS, handshakes="resumed"))
    assert resumed.resumed >= resumed.calls > 0
    assert run(target, NULL, Load(1, SECONDS, handshakes="call")).calls > 0


def test_a_population_thinks_between_its_calls(target: Target) -> None:
    found = run(target, NULL, Load(10, SECONDS, think=0.1))
    assert 10 <= found.calls <= 10 * (SECONDS / 0.05 + 1)


def test_a_wrong_answer_ends_the_run(target: Target) -> None:
    with pytest.raises(LoadFailed, match="wrong answer"):
        run(target, Work(NULL.method, b"", lambda _: False), Load(1, SECONDS))


def test_a_method_that_does_not_exist_ends_the_run(target: Target, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadFailed):
        run(target, Work("/bench.NullService/Other", b"", lambda _: True), Load(1, SECONDS))
    assert "Unimplemented" in capfd.readouterr().err


def test_its_own_tests_pass() -> None:
    go = find_go(SpireSettings.from_environment(), print)
    done = subprocess.run([str(go), "test", "./..."], cwd=Path(__file__).parents[3] / "bench", check=False)
    assert done.returncode == 0
