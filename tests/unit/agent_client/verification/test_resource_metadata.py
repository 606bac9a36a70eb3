from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent_client.verification.resource_metadata import ResourceMetadata

if TYPE_CHECKING:
    from support.guarded_api import Api

ISSUERS = ["https://issuer.prod.example"]


@pytest.mark.parametrize(
    ("resource", "path", "url"),
    [
        (
            "https://ledger.prod.example",
            "/.well-known/oauth-protected-resource",
            "https://ledger.prod.example/.well-known/oauth-protected-resource",
        ),
        (
            "https://ledger.prod.example/",
            "/.well-known/oauth-protected-resource",
            "https://ledger.prod.example/.well-known/oauth-protected-resource",
        ),
        (
            "https://prod.example:8443/ledger/v1",
            "/.well-known/oauth-protected-resource/ledger/v1",
            "https://prod.example:8443/.well-known/oauth-protected-resource/ledger/v1",
        ),
        (
            "http://127.0.0.1:8000/ledger/",
            "/.well-known/oauth-protected-resource/ledger/",
            "http://127.0.0.1:8000/.well-known/oauth-protected-resource/ledger/",
        ),
    ],
)
def test_the_well_known_path_goes_between_host_and_path(resource: str, path: str, url: str) -> None:
    metadata = ResourceMetadata(resource, ISSUERS)
    assert (metadata.path, metadata.url) == (path, url)


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "ledger",
        "http://ledger.prod.example",
        "https://",
        "https:///ledger",
        "https://ledger.prod.example?a",
        "https://ledger.prod.example#a",
        "https://ledger.prod.example#",
        "https://user@ledger.prod.example",
        "https://ledger.prod.example/a/../b",
        "https://ledger.prod.example/a%2fb",
        "https://ledger.prod.example//a",
        "spiffe://prod.example/ledger",
    ],
)
def test_a_resource_that_clients_could_not_compare_is_refused(resource: str) -> None:
    with pytest.raises(ValueError):
        ResourceMetadata(resource, ISSUERS)


def test_the_document_has_what_is_known_and_nothing_empty() -> None:
    metadata = ResourceMetadata(
        "https://ledger.prod.example", ISSUERS, ["ledger.read", "ledger.write"], resource_name="The ledger"
    )
    assert json.loads(metadata.document()) == {
        "resource": "https://ledger.prod.example",
        "authorization_servers": ["https://issuer.prod.example"],
        "scopes_supported": ["ledger.read", "ledger.write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "The ledger",
        "tls_client_certificate_bound_access_tokens": True,
    }
    bare = ResourceMetadata("https://a.example", ISSUERS, tls_client_certificate_bound_access_tokens=False)
    assert set(json.loads(bare.document())) == {"resource", "authorization_servers", "bearer_methods_supported"}


def test_a_verifier_knows_resource_and_issuer(ledger: Api) -> None:
    metadata = ResourceMetadata.of(ledger.verifier, scopes_supported=["ledger.read"])
    assert (metadata.resource, tuple(metadata.authorization_servers)) == (
        ledger.verifier.audience,
        (ledger.verifier.issuer,),
    )


def test_there_is_an_authorization_server_and_lists_are_lists() -> None:
    with pytest.raises(ValueError, match="authorization server"):
        ResourceMetadata("https://ledger.prod.example", [])
    with pytest.raises(TypeError):
        ResourceMetadata("https://ledger.prod.example", "https://issuer.prod.example")
    with pytest.raises(TypeError):
        ResourceMetadata("https://ledger.prod.example", ISSUERS, "ledger.read")
