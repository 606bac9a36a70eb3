from __future__ import annotations

import pytest
from support.policies import AUDIENCES, grant, grants, policy, prohibition, prohibitions

from issuer.core.policy_parser import PolicyFile, parse_policy

RULES = (
    grants(grant("a", "[read, write]", not_before="2026-01-01", expires="2027-01-01", application="x", max_ttl="90s")),
    prohibitions(prohibition("p", scopes="[write, read]")),
)
BASE = policy(*RULES).digest


def digest(*texts: str) -> str:
    return parse_policy([PolicyFile(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)]).digest


def test_is_a_sha256() -> None:
    kind, _, value = BASE.partition(":")
    assert kind == "sha256"
    assert len(bytes.fromhex(value)) == 32


def test_is_pinned_for_this_version_of_the_engine() -> None:
    """When this fails the canonical form has changed: raise ENGINE_VERSION, and say so in the changelog."""
    assert policy().digest == "sha256:d45cca4e81fe29024e639275aa44d36beda29afd612279e82a553291d7285dbc"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    max_ttl: 10m\n", "    max_ttl: 10m\n    servers: ['spiffe://prod.example/ledger']\n"),
        ("    max_ttl: 10m\n", "    max_ttl: 10m\n    status: required\n"),
        ("version: 1", "version: 1\nrisk_tiers: {low: {status: required}}"),
        ("id: a", "id: b"),
        ("[read, write]", "[read]"),
        ("application: x", "application: y"),
        ("'spiffe://prod.example/ns/payments/sa/settler'", "'spiffe://prod.example/ns/payments/sa/*'"),
        ("not_before: 2026-01-01", "not_before: 2026-01-02"),
        ("expires: 2027-01-01", "expires: 2027-01-02"),
        ("max_ttl: 90s", "max_ttl: 91s"),
        (", max_ttl: 90s", ""),
        ("max_ttl: 90s", "max_ttl: 90s, grant_types: [jit, client_credentials]"),
        ("max_ttl: 90s", "max_ttl: 90s, grant_types: [jit, client_credentials], window: 2h"),
        ("id: p", "id: q"),
        ("[write, read]", "[write]"),
        (", scopes: [write, read]", ""),
        ("audiences: ['https://ledger.example']", "audiences: ['*']"),
        ("max_ttl: 10m", "max_ttl: 9m"),
        ("    max_ttl: 10m\n", ""),
        ("risk: low", "risk: moderate"),
        ("max_ttl: 2m", "max_ttl: 1m"),
        ("{name: refund, risk: critical}", "{name: refunds, risk: critical}"),
        ("https://mail.example", "https://mail2.example"),
        ("version: 1", "version: 1\nmin_ttl: 11s"),
        ("version: 1", "version: 1\nrisk_tiers: {low: {max_ttl: 2h}}"),
        ("version: 1", "version: 1\nrisk_tiers: {low: {proof_binding: required}}"),
    ],
)
def test_changes_with_everything_that_decides(old: str, new: str) -> None:
    text = AUDIENCES + "\n".join(RULES)
    assert old in text
    assert digest(text.replace(old, new)) != BASE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "# a comment\nversion: 1"),
        ("[read, write]", "[write, read]"),
        ("[write, read]", "[read, write]"),
        ("max_ttl: 90s", "max_ttl: 1m30s"),
        ("max_ttl: 90s", "max_ttl: 90s, owner: somebody, description: why"),
        ("max_ttl: 90s", "max_ttl: 90s, grant_types: [client_credentials]"),
        ("expires: 2027-01-01", "expires: 2027-01-02T00:00:00Z"),
        ("    max_ttl: 10m\n", "    max_ttl: 10m\n    status: none\n"),
        ("version: 1", "version: 1\nrisk_tiers: {low: {status: none}}"),
        ("{name: refund, risk: critical}", "{risk: critical, name: refund}"),
        ("application: mail", "application: post"),
        ("version: 1", "version: 1\nmin_ttl: 10s"),
        ("version: 1", "version: 1\nrisk_tiers: {low: {max_ttl: 60m}}"),
    ],
)
def test_stays_with_everything_that_does_not(old: str, new: str) -> None:
    text = AUDIENCES + "\n".join(RULES)
    assert old in text
    assert digest(text.replace(old, new)) == BASE


def test_wanting_persons_changes_it_and_saying_that_none_is_needed_does_not() -> None:
    approval = "{name: refund, risk: critical, approval: {approvers: ['spiffe://people.example/*'], valid_for: 1h%s}}"
    wanted = [
        digest((AUDIENCES + "\n".join(RULES)).replace("{name: refund, risk: critical}", approval % more))
        for more in ("", ", human: false", ", human: true")
    ]
    assert wanted[0] == wanted[1] != wanted[2]


def test_stays_when_rules_are_split_over_files_in_any_order() -> None:
    parts = [AUDIENCES, *(f"version: 1\n{rules}" for rules in RULES)]
    assert digest(*parts) == digest(*reversed(parts)) == BASE


def test_another_window_is_another_policy() -> None:
    windows = [
        AUDIENCES + "\n".join(RULES).replace("max_ttl: 90s", f"max_ttl: 90s, grant_types: [jit]{window}")
        for window in ("", ", window: 1h", ", window: 2h")
    ]
    assert len({digest(text) for text in windows}) == 3
