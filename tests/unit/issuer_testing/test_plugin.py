from __future__ import annotations

import pytest

from issuer_testing.spire.settings import SpireSettings

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile("""
        def test_first(spire): pass
        def test_second(workload): pass
    """)
    return pytester


def test_without_a_spire_the_fixtures_fail_with_the_remedy_and_do_not_skip(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIRE_BIN_DIR", "/nowhere")
    result = suite.runpytest_subprocess("--spire=host")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*this test needs a real SPIRE: SPIRE_BIN_DIR=/nowhere does not hold*"])


def test_an_unknown_way_of_running_spire_is_refused(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("--spire=embedded")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*invalid choice: 'embedded'*"])


def test_a_suite_that_asks_for_no_spire_loads_no_grpc(pytester: pytest.Pytester) -> None:
    """gRPC does not survive a fork, and every pytest run in the environment loads the plugin."""
    pytester.makepyfile("""
        import sys
        def test_nothing_is_loaded(): assert not {"grpc", "docker", "testcontainers"} & set(sys.modules)
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.fixture(scope="session")
def cache_home() -> str:
    """Where SPIRE is kept; asked for before ``pytester`` moves the home folder."""
    return str(SpireSettings.from_environment().cache.parent)


@pytest.mark.spire
def test_an_outside_suite_gets_a_real_identity(
    cache_home: str, pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache_home)
    pytester.makepyfile("""
        from spiffe import WorkloadApiClient
        def test_identity(workload):
            settler = workload("spiffe://prod.example/ns/payments/sa/settler", dns_names=["settler.workload.internal"])
            client = WorkloadApiClient(settler.socket)
            assert str(client.fetch_x509_svid().spiffe_id) == settler.spiffe_id
            client.close()
        def test_the_entry_of_the_test_before_is_gone(spire):
            assert not [e for e in spire.entries() if e.entry.spiffe_id.endswith("settler")]
    """)
    result = pytester.runpytest_subprocess(f"--spire={pytestconfig.getoption('--spire')}")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["SPIRE: from *"])
