from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

from issuer.core.caller import Caller
from issuer.core.decide import decide
from issuer.core.decision import Grant
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import TokenRequest
from issuer.policy_files.directory import load_policy

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_the_policy_to_start_from_is_good_and_does_what_it_says() -> None:
    policy = load_policy(Path(str(files("issuer.policy_files") / "starter.yaml")))

    def may(workload: str, scope: str) -> bool:
        caller = Caller(SpiffeId.parse(f"spiffe://example.org/{workload}"), bytes(32), 1, NOW + timedelta(hours=1))
        return isinstance(decide(policy, caller, TokenRequest("https://ledger.example.org", (scope,)), {}, NOW), Grant)

    assert may("ns/payments/sa/settler", "ledger.write")
    assert may("ns/reports/sa/weekly", "ledger.read")
    assert not may("ns/reports/sa/weekly", "ledger.write")
    assert not may("ns/sandbox/sa/settler", "ledger.read")
