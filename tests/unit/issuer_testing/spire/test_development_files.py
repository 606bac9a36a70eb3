from __future__ import annotations

from issuer_testing.issuer_process import ISSUER_DNS_NAME
from issuer_testing.spire.development_files import CONFIGURATION, development_entries


def test_the_entries_are_found_by_name_and_carry_numbers_in_order() -> None:
    workloads = ["settlement-workload", "reports-workload", "ledger-api", "refunds-workload", "approver"]
    workloads.append("archive-workload")
    assert list(development_entries()) == ["issuer", *workloads]


def test_the_entries_move_to_another_trust_domain() -> None:
    moved = development_entries("dev.test")
    assert moved["settlement-workload"].spiffe_id == "spiffe://dev.test/ns/payments/sa/settler"


def test_the_issuers_entry_has_the_name_that_callers_expect_and_no_power_over_spire() -> None:
    issuer = development_entries()["issuer"]
    assert issuer.dns_names == (ISSUER_DNS_NAME,)
    assert not any(entry.admin for entry in development_entries().values())


def test_the_configuration_listens_where_it_is_told() -> None:
    for name in ("server.conf", "agent.conf"):
        text = (CONFIGURATION / name).read_text()
        assert '"${SPIRE_SERVER_ADDRESS}"' in text
        assert "insecure" not in text
