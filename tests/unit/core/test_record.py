from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from issuer.core.caller import Caller
from issuer.core.decision import Denial, Grant, LifetimeBound, Shadow
from issuer.core.errors import Reason
from issuer.core.fact_text import facts_from_text
from issuer.core.facts import Fact
from issuer.core.instants import microseconds, moment
from issuer.core.record import Flag, Minted, Outcome, record_decision, record_failure
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent, TokenRequest

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
CALLER = Caller(SpiffeId.parse("spiffe://prod.example/a"), b"\xaa" * 32, 255, NOW + timedelta(hours=1))
REQUEST = TokenRequest("https://ledger.example", ("read", "write"))
ID = "0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"
FACT = Fact("posture", "s", {"ok": True}, "file:a", NOW, NOW + timedelta(hours=1))
GRANT = Grant(
    audience=REQUEST.audience,
    scopes=("read",),
    lifetime=timedelta(minutes=5),
    lifetime_bound=LifetimeBound.SCOPE,
    application="ledger",
    bind_certificate=False,
    rule_ids=("a", "b"),
    refused_scopes=("write",),
    policy_digest="sha256:1",
    lifetime_rule="read",
    grant_type=GrantType.CLIENT_CREDENTIALS,
    missing=("facts.x.y",),
)
DENIAL = Denial(Reason.SCOPE_NOT_ALLOWED, ("write",), ("c",), "sha256:1")


def recorded(decision: Grant | Denial, request: TokenRequest = REQUEST, **other: Any) -> dict[str, object]:
    record = record_decision(
        decision,
        decision_id=ID,
        caller=CALLER,
        peer="ipv4:10.0.0.7",
        request=request,
        now=NOW,
        **{"facts": {}, **other},
    )
    return record._asdict()


def test_a_grant_tells_what_was_asked_and_what_was_given() -> None:
    record = recorded(GRANT, minted=Minted("jti", 1_800_000_000, b"\xbb" * 32), facts={FACT.key: FACT})
    assert record["decision_id"] == bytes.fromhex(ID.replace("-", ""))
    assert moment(int(str(record["time"]))) == NOW
    assert record["svid"] == f"{'aa' * 32} ff {microseconds(CALLER.not_after)}"
    assert (record["caller"], record["peer"]) == ("spiffe://prod.example/a", "ipv4:10.0.0.7")
    assert (record["scopes_asked"], record["scopes"], record["scopes_refused"]) == ("read write", "read", "write")
    assert (record["outcome"], record["reason"], record["application"]) == (Outcome.GRANTED, "", "ledger")
    assert (record["lifetime"], record["lifetime_bound"], record["lifetime_rule"]) == (300, "scope", "read")
    assert (record["rules"], record["missing"], record["policy"]) == ("a b", "facts.x.y", "sha256:1")
    assert (record["token_id"], record["expires_at"], record["token_sha256"]) == ("jti", 1_800_000_000, b"\xbb" * 32)
    assert facts_from_text(str(record["facts"])) == {FACT.key: FACT}
    assert (record["flags"], record["intent"], record["audit"], record["ttl_asked"]) == (0, "", "", None)


def test_a_denial_tells_why_and_has_no_token() -> None:
    record = recorded(DENIAL)
    assert (record["outcome"], record["reason"]) == (Outcome.DENIED, "SCOPE_NOT_ALLOWED")
    assert (record["scopes"], record["scopes_refused"], record["rules"]) == ("", "write", "c")
    assert (record["token_id"], record["lifetime"], record["application"]) == ("", None, "")


def test_a_grant_without_its_token_is_an_error_and_one_only_asked_about_is_not() -> None:
    assert recorded(GRANT, failed=Reason.SIGNER_UNAVAILABLE)["outcome"] == Outcome.ERROR
    asked = recorded(GRANT, validate_only=True)
    assert (asked["outcome"], asked["flags"], asked["token_id"]) == (Outcome.GRANTED, Flag.VALIDATE_ONLY, "")


def test_flags_and_optional_parts_of_the_request_are_kept() -> None:
    intent = Intent(operation="settle", ticket="CHG-1")
    request = replace(
        REQUEST,
        bind_certificate=True,
        allow_partial=True,
        ttl=timedelta(seconds=90),
        application="x",
        intent=intent,
        grant_type=GrantType.JIT,
    )
    record = recorded(replace(GRANT, bind_certificate=True, legacy=True, application=None), request)
    assert record["flags"] == Flag.BIND_ASKED | Flag.ALLOW_PARTIAL | Flag.BOUND | Flag.LEGACY
    assert (record["ttl_asked"], record["application_asked"], record["application"]) == (90_000_000, "x", "")
    assert (record["grant_type"], json.loads(str(record["intent"]))) == (
        "jit",
        {"operation": "settle", "ticket": "CHG-1"},
    )


def test_what_audit_rules_would_change_is_kept() -> None:
    refusing = replace(GRANT, shadow=Shadow(Reason.FACT_MISSING, ("read",), None, ("z",)))
    assert recorded(refusing)["audit"] == '["FACT_MISSING",["read"],null,["z"]]'
    giving = replace(DENIAL, shadow=Shadow(None, ("write",), timedelta(seconds=60), ("z",)))
    assert recorded(giving)["audit"] == '[null,["write"],60,["z"]]'


def test_a_failure_keeps_what_could_be_read_of_the_request() -> None:
    kept: dict[str, Any] = {"decision_id": ID, "caller": CALLER, "peer": "p", "now": NOW}
    record = record_failure(
        Reason.POLICY_NOT_LOADED,
        request=replace(REQUEST, application="x", intent=Intent(resource="r")),
        **kept,
    )
    assert (record.outcome, record.reason, record.audience) == (Outcome.ERROR, "POLICY_NOT_LOADED", REQUEST.audience)
    assert (record.scopes_asked, record.application_asked, record.intent) == ("read write", "x", '{"resource":"r"}')
    unread = record_failure(Reason.REQUEST_INVALID, request=None, **kept)
    assert (unread.audience, unread.scopes_asked, unread.grant_type, unread.intent) == ("", "", "", "")
