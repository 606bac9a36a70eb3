from __future__ import annotations

from issuer_testing.spire.authority import Authority
from issuer_testing.spire.svids import fetch_svids, serial_numbers
from issuer_testing.spire.workload_api import Answer, WorkloadApiServer


def test_the_identities_of_a_socket_are_fetched() -> None:
    prod = Authority("prod.example")
    issued = prod.issue("spiffe://prod.example/a")
    with WorkloadApiServer(Answer.of(prod, issued)) as api:
        svids = fetch_svids(api.socket)
    assert [str(svid.spiffe_id) for svid in svids] == ["spiffe://prod.example/a"]
    assert serial_numbers(svids) == {issued.leaf.serial_number}


def test_a_refusal_and_a_socket_that_is_gone_are_no_identities() -> None:
    prod = Authority("prod.example")
    with WorkloadApiServer(Answer.of(prod, prod.issue("spiffe://prod.example/a"))) as api:
        api.deny()
        assert fetch_svids(api.socket) == ()
        api.stop()
        assert fetch_svids(api.socket) == ()
    assert fetch_svids(api.socket) == ()
