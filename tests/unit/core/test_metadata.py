import json

import pytest

from issuer.core.metadata import ServerMetadata, status_list_uri


def test_says_nothing_that_is_untrue() -> None:
    assert json.loads(ServerMetadata("https://issuer.prod.example").document) == {
        "issuer": "https://issuer.prod.example",
        "jwks_uri": "https://issuer.prod.example/.well-known/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "status_list_aggregation_endpoint": "https://issuer.prod.example/status-lists",
    }


def test_an_issuer_without_a_path_has_each_path_once() -> None:
    metadata = ServerMetadata("https://issuer.prod.example:8443")
    assert metadata.document_paths() == (
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    )
    assert metadata.jwks_paths() == ("/.well-known/jwks.json",)
    assert metadata.status_list_paths() == ("/status-lists",)


def test_an_issuer_with_a_path_is_found_by_either_rule_and_behind_a_proxy_that_strips_it() -> None:
    metadata = ServerMetadata("https://prod.example/sts/eu")
    assert set(metadata.document_paths()) == {
        "/.well-known/oauth-authorization-server/sts/eu",  # RFC 8414 section 3.1
        "/.well-known/openid-configuration/sts/eu",  # RFC 8414 section 5
        "/sts/eu/.well-known/openid-configuration",  # OpenID Connect Discovery section 4
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    }
    assert json.loads(metadata.document)["jwks_uri"] == "https://prod.example/sts/eu/.well-known/jwks.json"
    assert metadata.jwks_paths() == ("/.well-known/jwks.json", "/sts/eu/.well-known/jwks.json")
    assert metadata.status_list_paths() == ("/status-lists", "/sts/eu/status-lists")
    assert status_list_uri(metadata.issuer, 7) == "https://prod.example/sts/eu/status-lists/7"


@pytest.mark.parametrize("algorithms", [("ES256",), ("ES256", "RS256")])
def test_names_the_algorithms_of_its_keys(algorithms: tuple[str, ...]) -> None:
    document = json.loads(ServerMetadata("https://a.example", algorithms).document)
    assert document["id_token_signing_alg_values_supported"] == list(algorithms)


def test_names_introspection_and_revocation_only_where_they_are_served() -> None:
    without = json.loads(ServerMetadata("https://issuer.example").document)
    served = json.loads(ServerMetadata("https://issuer.example", oauth_url="https://in.example:8444").document)
    assert {name: value for name, value in served.items() if name not in without} == {
        "introspection_endpoint": "https://in.example:8444/introspect",
        "introspection_endpoint_auth_methods_supported": ["tls_client_auth"],
        "revocation_endpoint": "https://in.example:8444/revoke",
        "revocation_endpoint_auth_methods_supported": ["tls_client_auth"],
    }
