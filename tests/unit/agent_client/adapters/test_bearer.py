from __future__ import annotations

import pytest
from support.numbered_tokens import issued, token_text

from agent_client.adapters.bearer import bearer, require_private
from agent_client.resource_errors import InsecureTransport


def test_a_token_travels_as_rfc_6750_says() -> None:
    assert bearer(issued(1)) == f"Bearer {token_text(1)}"


@pytest.mark.parametrize(
    ("scheme", "host"),
    [
        ("https", "ledger.prod.example"),
        ("HTTPS", "ledger.prod.example"),
        ("wss", "ledger.prod.example"),
        ("http", "localhost"),
        ("http", "LOCALHOST"),
        ("http", "127.0.0.1"),
        ("http", "127.8.9.1"),
        ("http", "::1"),
    ],
)
def test_a_token_goes_over_tls_or_to_this_machine(scheme: str, host: str) -> None:
    require_private(scheme, host, insecure_http=False)


@pytest.mark.parametrize(
    ("scheme", "host"),
    [
        ("http", "ledger.prod.example"),
        ("ws", "ledger.prod.example"),
        ("", "ledger.prod.example"),
        ("ftp", "ledger.prod.example"),
        ("http", ""),
        ("http", None),
        ("http", "0.0.0.0"),
        ("http", "10.0.0.1"),
        ("http", "::"),
        ("http", "fe80::1"),
        ("http", "localhost.prod.example"),
        ("http", "127.0.0.1.prod.example"),
        ("http", "127.1"),
        ("http", "2130706433"),
        ("http", "localhost\x00"),
    ],
)
def test_a_token_goes_nowhere_else(scheme: str, host: str | None) -> None:
    with pytest.raises(InsecureTransport):
        require_private(scheme, host, insecure_http=False)
    require_private(scheme, host, insecure_http=True)
