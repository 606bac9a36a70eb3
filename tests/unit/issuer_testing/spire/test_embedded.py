from __future__ import annotations

import queue
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from spiffe import WorkloadApiClient, X509Source

from issuer_testing.spire.authority import Authority
from issuer_testing.spire.embedded import DevelopmentAuthority, EmbeddedWorkload
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spiffe.workloadapi.x509_context import X509Context

DEADLINE = 10.0
ISSUER = Entry("spiffe://dev.test/spiffe-issuer", dns_names=("spiffe-issuer.workload.internal",), hint="issuer")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def authority(said: list[str]) -> Iterator[DevelopmentAuthority]:
    with DevelopmentAuthority(announce=said.append) as running:
        yield running


def context_of(workload: EmbeddedWorkload) -> X509Context:
    client = WorkloadApiClient(workload.socket)
    try:
        return client.fetch_x509_context(timeout=DEADLINE)
    finally:
        client.close()


def serial_numbers(source: X509Source) -> queue.Queue[int]:
    seen: queue.Queue[int] = queue.Queue()
    source.subscribe_for_updates(lambda: seen.put(source.get_x509_context().default_svid.leaf.serial_number))
    return seen


def test_it_says_that_it_attests_nobody(authority: DevelopmentAuthority, said: list[str]) -> None:
    assert "attests nobody" in said[0]
    assert authority.trust_domain in said[0]


@pytest.mark.parametrize("name", ["prod.example", "test", "dev.test.example", "devtest"])
def test_a_trust_domain_that_is_not_below_test_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\.test"):
        DevelopmentAuthority(name, announce=print)


def test_every_workload_has_its_own_socket_and_identity(authority: DevelopmentAuthority) -> None:
    settler = authority.workload("spiffe://dev.test/settler")
    reader = authority.workload("spiffe://dev.test/reader")
    assert settler.socket != reader.socket
    assert str(context_of(settler).default_svid.spiffe_id) == "spiffe://dev.test/settler"
    assert str(context_of(reader).default_svid.spiffe_id) == "spiffe://dev.test/reader"


def test_one_workload_may_have_several_identities(authority: DevelopmentAuthority) -> None:
    workload = authority.workload(ISSUER, "spiffe://dev.test/second")
    ids = [str(svid.spiffe_id) for svid in context_of(workload).x509_svids]
    assert ids == ["spiffe://dev.test/spiffe-issuer", "spiffe://dev.test/second"]


def test_an_entrys_dns_name_and_lifetime_are_in_the_svid(authority: DevelopmentAuthority) -> None:
    leaf = authority.workload(Entry(ISSUER.spiffe_id, dns_names=ISSUER.dns_names, x509_svid_ttl=300)).svid.leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["spiffe-issuer.workload.internal"]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(seconds=311)


@pytest.mark.parametrize("identity", ["spiffe://other.test/a", "spiffe://dev.test", "dev.test/a"])
def test_an_identity_of_another_trust_domain_is_refused(authority: DevelopmentAuthority, identity: str) -> None:
    with pytest.raises(ValueError, match="not of the trust domain"):
        authority.workload(identity)


def test_a_workload_without_an_identity_is_refused(authority: DevelopmentAuthority) -> None:
    with pytest.raises(ValueError, match="at least one"):
        authority.workload()


def test_svids_rotate_at_half_of_their_life(authority: DevelopmentAuthority) -> None:
    workload = authority.workload(Entry("spiffe://dev.test/short", x509_svid_ttl=2))
    with X509Source(socket_path=workload.socket, timeout_in_seconds=DEADLINE) as source:
        first = source.get_x509_context().default_svid.leaf
        replaced = serial_numbers(source).get(timeout=DEADLINE)
    assert replaced != first.serial_number


def test_rotation_can_be_asked_for(authority: DevelopmentAuthority) -> None:
    workload = authority.workload("spiffe://dev.test/settler")
    before = workload.svid
    after = authority.rotate(workload)
    assert after.leaf.serial_number != before.leaf.serial_number
    assert workload.svid is after


def test_svids_that_a_test_pushed_are_not_rotated_away(authority: DevelopmentAuthority) -> None:
    workload = authority.workload("spiffe://dev.test/settler")
    assert workload.due is not None
    workload.api.change(svids=(Authority("evil.test").issue("spiffe://dev.test/settler"),))
    assert workload.due is None


def test_federation_reaches_present_and_future_workloads(authority: DevelopmentAuthority) -> None:
    partner = Authority("partner.test")
    present = authority.workload("spiffe://dev.test/present")
    authority.federate(partner)
    future = authority.workload("spiffe://dev.test/future")
    for workload in (present, future):
        bundles = {bundle.trust_domain.name: bundle for bundle in context_of(workload).x509_bundle_set.bundles}
        assert bundles["partner.test"].x509_authorities == {partner.root}


def test_stop_closes_every_socket(said: list[str]) -> None:
    with DevelopmentAuthority(announce=said.append) as running:
        workload = running.workload("spiffe://dev.test/settler")
    with pytest.raises(Exception, match=r"(?i)socket|exist|invalid"):
        WorkloadApiClient(workload.socket)
