from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, LEDGER, SETTLER, grant, grants, prohibition, prohibitions
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

AT = "2026-06-01T12:00:00"
RULES = grants(
    grant("b", "[write, read]", application="payments", max_ttl="90s", expires="2026-06-30"),
    grant("a", "[report]", workload="spiffe://prod.example/ns/*/sa/settler"),
    grant("old", "[refund]", expires="2026-01-01"),
) + prohibitions(
    prohibition("freeze", workload="spiffe://prod.example/ns/sandbox/**"),
    prohibition("no-refunds", audiences="['*']", scopes="[refund]"),
)


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(AUDIENCES + RULES)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(policy_app, [*arguments])


class TestWhatCan:
    def test_lists_what_the_workload_may_ask_for(self, policy: str) -> None:
        result = run("what-can", SETTLER, "-p", policy, "--at", AT)
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            f"{SETTLER} may ask for:",
            "  audience                application  scope   risk      at most  bound  until",
            "  https://ledger.example  payments     read    low       1m30s           2026-07-01T00:00:00Z",
            "  https://ledger.example  payments     report  moderate  10m",
            "  https://ledger.example  payments     write   high      1m30s    yes    2026-07-01T00:00:00Z",
        ]

    def test_says_when_that_is_nothing(self, policy: str) -> None:
        result = run("what-can", "spiffe://prod.example/nobody", "-p", policy)
        assert (result.exit_code, result.stdout) == (0, "spiffe://prod.example/nobody may ask for: nothing\n")

    def test_looks_at_another_moment(self, policy: str) -> None:
        result = run("what-can", SETTLER, "-p", policy, "--at", "2026-07-01", "-o", "json")
        document = json.loads(result.stdout)
        scope = {
            "name": "report",
            "risk": "moderate",
            "max_ttl_seconds": 600,
            "binding_required": False,
            "expire_time": None,
        }
        assert document == {
            "spiffe_id": SETTLER,
            "accesses": [{"audience": LEDGER, "application": None, "scopes": [scope]}],
        }

    def test_tells_dates_to_programs(self, policy: str) -> None:
        document = json.loads(run("what-can", SETTLER, "-p", policy, "--at", AT, "-o", "json").stdout)
        assert document["accesses"][0]["scopes"][0]["expire_time"] == "2026-07-01T00:00:00Z"

    def test_what_is_no_spiffe_id_is_a_wrong_use(self, policy: str) -> None:
        result = run("what-can", "settler", "-p", policy)
        assert result.exit_code == 2
        assert "settler: a SPIFFE ID starts with" in result.stderr


class TestWhoCan:
    def test_lists_grants_and_prohibitions(self, policy: str) -> None:
        result = run("who-can", LEDGER, "-p", policy, "--at", AT)
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "grants for https://ledger.example:",
            "  workload                                      application  scopes      grant  in force",
            "  spiffe://prod.example/ns/*/sa/settler                      report      a      yes",
            "  spiffe://prod.example/ns/payments/sa/settler  payments     read write  b      yes",
            "  spiffe://prod.example/ns/payments/sa/settler               refund      old    no",
            "but not:",
            "  workload                                      scopes  prohibition",
            "  spiffe://prod.example/ns/sandbox/**           (all)   freeze",
            "  spiffe://prod.example/ns/payments/sa/settler  refund  no-refunds",
        ]

    def test_looks_at_one_scope_for_programs(self, policy: str) -> None:
        result = run("who-can", LEDGER, "read", "-p", policy, "--at", AT, "-o", "json")
        assert result.exit_code == 0
        assert json.loads(result.stdout) == {
            "audience": LEDGER,
            "grants": [
                {
                    "id": "b",
                    "workloads": [SETTLER],
                    "application": "payments",
                    "scopes": ["read", "write"],
                    "in_force": True,
                    "source": "policy.yaml:15:5",
                }
            ],
            "prohibitions": [
                {
                    "id": "freeze",
                    "workloads": ["spiffe://prod.example/ns/sandbox/**"],
                    "scopes": None,
                    "source": "policy.yaml:19:5",
                }
            ],
        }

    def test_tells_the_scopes_of_prohibitions_to_programs(self, policy: str) -> None:
        document = json.loads(run("who-can", LEDGER, "refund", "-p", policy, "-o", "json").stdout)
        assert [rule["scopes"] for rule in document["prohibitions"]] == [None, ["refund"]]

    def test_says_when_that_is_nobody(self, policy: str) -> None:
        result = run("who-can", "https://mail.example", "-p", policy)
        assert (result.exit_code, result.stdout) == (0, "grants for https://mail.example: nothing\n")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["https://nowhere.example"], "the policy declares no audience 'https://nowhere.example'"),
            ([LEDGER, "nonsense"], "the audience 'https://ledger.example' declares no scope 'nonsense'"),
        ],
    )
    def test_what_is_not_declared_is_told(self, policy: str, arguments: list[str], says: str) -> None:
        result = run("who-can", *arguments, "-p", policy)
        assert result.exit_code == 1
        assert says in result.stderr


def test_a_policy_with_faults_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 2")
    result = run("who-can", LEDGER, "-p", str(tmp_path))
    assert result.exit_code == 1
    assert "p.yaml:1:10: 'version' must be 1" in result.stderr
    assert "issuer policy check" in result.stderr
