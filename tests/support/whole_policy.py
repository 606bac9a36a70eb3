"""A policy with every key that there is, as values of JSON."""

from __future__ import annotations

from typing import Any

WHOLE: dict[str, Any] = {
    "version": 1,
    "min_ttl": "10s",
    "risk_tiers": {
        "low": {"max_ttl": "2h", "proof_binding": "required", "status": "none", "requires": ["calm"]},
        "critical": {"approval": {"approvers": ["spiffe://people/*"], "quorum": 2, "valid_for": "1h", "uses": 3}},
    },
    "audiences": [
        {
            "name": "https://ledger.example",
            "application": "ledger",
            "environment": "production",
            "status": "required",
            "max_ttl": "10m",
            "scopes": [
                {"name": "read", "risk": "low", "max_ttl": "1m"},
                {"name": "pay", "risk": "high", "approval": {"approvers": ["spiffe://people/a"], "valid_for": "1h"}},
            ],
        }
    ],
    "grants": [
        {
            "id": "g",
            "workloads": ["spiffe://td/ns/*/sa/settler", "spiffe://td/**"],
            "groups": ["workers"],
            "environments": ["production"],
            "application": "payments",
            "audience": "https://ledger.example",
            "scopes": ["read"],
            "grant_types": ["client_credentials", "jit"],
            "requires": ["calm"],
            "when": "caller.path == '/x'",
            "max_ttl": "1m30s",
            "not_before": "2026-01-01",
            "expires": "2027-01-01T12:00:00+01:00",
            "legacy": {"reason": "old", "owner": "team", "expires": "2026-12-31", "max_ttl": "4h"},
            "mode": "audit",
            "owner": "team",
            "description": "why",
        },
        {
            "id": "x",
            "workloads": ["spiffe://td/gateway"],
            "audience": "https://ledger.example",
            "scopes": ["read"],
            "grant_types": ["token_exchange"],
            "subjects": ["spiffe://td/ns/*/sa/settler", "https://login.example#*", "https://login.example/t#a%7Cb"],
        },
    ],
    "prohibitions": [
        {
            "id": "p",
            "workloads": ["spiffe://td/a"],
            "groups": ["workers"],
            "audiences": ["*"],
            "scopes": ["read"],
            "requires": ["calm"],
            "when": "caller.path == '/x'",
            "mode": "enforce",
            "owner": "team",
            "description": "why",
        }
    ],
    "limits": [
        {
            "id": "l",
            "workloads": ["spiffe://td/a"],
            "groups": ["workers"],
            "audiences": ["https://ledger.example"],
            "scopes": ["read"],
            "when": "facts.risk.score > 1",
            "max_ttl": "30s",
            "requires": ["calm"],
            "mode": "enforce",
            "owner": "team",
            "description": "why",
        }
    ],
    "groups": [{"name": "workers", "workloads": ["spiffe://td/a"], "owner": "team", "description": "why"}],
    "conditions": [{"name": "calm", "when": "facts.risk.score < 80", "owner": "team", "description": "why"}],
    "facts": [{"name": "risk", "subject": "caller", "max_age": "1h", "fields": {"score": "int"}, "description": "why"}],
    "environments": [{"name": "production", "workloads": ["spiffe://td/**"]}],
    "folders": [{"path": "teams/a", "audiences": ["https://ledger.example"]}],
}
