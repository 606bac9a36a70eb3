from __future__ import annotations

import pytest

from issuer_testing.spire.entry import Entry
from issuer_testing.spire.issuer_name import could_be_kubernetes_service, other_holders
from issuer_testing.spire.server_commands import RegisteredEntry

NAME = "spiffe-issuer.workload.internal"
ISSUER = "spiffe://prod.example/spiffe-issuer"


def holder(spiffe_id: str, *dns_names: str) -> RegisteredEntry:
    return RegisteredEntry("id", Entry(spiffe_id, dns_names=dns_names))


@pytest.mark.parametrize("given", [NAME, NAME.upper(), "*.workload.internal", "*.WORKLOAD.internal"])
def test_another_identity_with_the_name_is_found(given: str) -> None:
    thief = holder("spiffe://prod.example/thief", "harmless.workload.example", given)
    assert other_holders([holder(ISSUER, NAME), thief], NAME, ISSUER) == (thief,)


@pytest.mark.parametrize(
    "given",
    ["workload.internal", "a.spiffe-issuer.workload.internal", "*.internal", "*.spiffe-issuer.workload.internal"],
)
def test_a_name_that_does_not_pass_for_the_issuers_is_no_matter(given: str) -> None:
    assert other_holders([holder("spiffe://prod.example/other", given)], NAME, ISSUER) == ()


def test_the_issuers_own_replicas_may_share_its_name() -> None:
    assert other_holders([holder(ISSUER, NAME), holder(ISSUER, NAME)], NAME, ISSUER) == ()


@pytest.mark.parametrize(
    "name", ["issuer", "spiffe-issuer.internal", "issuer.prod.svc", "Issuer.prod.SVC", "issuer.prod.svc.cluster.local"]
)
def test_names_that_the_controller_manager_hands_out_are_recognised(name: str) -> None:
    assert could_be_kubernetes_service(name)


@pytest.mark.parametrize("name", [NAME, "issuer.prod.example"])
def test_names_of_three_labels_are_nobodys_service(name: str) -> None:
    assert not could_be_kubernetes_service(name)
