from __future__ import annotations

from datetime import UTC, datetime, timedelta

from support.policies import LEDGER, NOW, caller, grant, grants, policy, prohibition, prohibitions

from issuer.core.access import Access, AccessScope, list_access
from issuer.core.policy import Policy, RiskTier


def names(rules: Policy) -> list[tuple[str, str | None, list[str]]]:
    return [
        (each.audience, each.application, [scope.name for scope in each.scopes])
        for each in list_access(rules, caller(), {}, NOW)
    ]


def available(name: str, risk: RiskTier, max_ttl: timedelta, expires: datetime | None) -> AccessScope:
    bound = risk is RiskTier.HIGH
    return AccessScope(name, risk, max_ttl, bound, expires, True, (), (), False)  # noqa: FBT003 - by position, as listed


def test_lists_what_may_be_asked_for_with_its_terms() -> None:
    rules = policy(
        grants(
            grant("a", "[write, read]", application="payments", max_ttl="90s", expires="2026-07-01"),
            grant("b", "[read]", max_ttl="3m", expires="2026-06-30T00:00:00Z"),
            grant("c", "[send]", audience="https://mail.example"),
        )
    )
    july = datetime(2026, 7, 2, tzinfo=UTC)
    read = available("read", RiskTier.LOW, timedelta(minutes=3), july)
    write = available("write", RiskTier.HIGH, timedelta(seconds=90), july)
    send = available("send", RiskTier.LOW, timedelta(hours=1), None)
    assert list_access(rules, caller(), {}, NOW) == (
        Access(LEDGER, "payments", (read, write)),
        Access("https://mail.example", None, (send,)),
    )


def test_lists_each_application_by_itself_with_the_grants_of_none() -> None:
    rules = policy(
        grants(grant("a", "[read]"), grant("b", "[write]", application="y"), grant("c", "[report]", application="x"))
    )
    assert names(rules) == [(LEDGER, "x", ["read", "report"]), (LEDGER, "y", ["read", "write"])]


def test_lists_audiences_in_the_order_of_their_names() -> None:
    names_of_audiences = [f"https://{letter}.example" for letter in "hgfedcba"]
    declared = [
        f"  - {{name: {name}, application: a, scopes: [{{name: s, risk: low}}]}}\n" for name in names_of_audiences
    ]
    granted = [grant(f"g{number}", "[s]", audience=name) for number, name in enumerate(names_of_audiences)]
    rules = policy(grants(*granted), audiences="version: 1\naudiences:\n" + "".join(declared))
    assert [each.audience for each in list_access(rules, caller(), {}, NOW)] == sorted(names_of_audiences)


def test_lists_applications_in_the_order_of_their_names() -> None:
    rules = policy(grants(*(grant(f"g{letter}", application=letter) for letter in "hgfedcba")))
    assert [each.application for each in list_access(rules, caller(), {}, NOW)] == list("abcdefgh")


def test_a_scope_with_one_grant_without_end_has_no_end() -> None:
    rules = policy(grants(grant("a", expires="2026-07-01"), grant("b", max_ttl="20s")))
    assert list_access(rules, caller(), {}, NOW)[0].scopes[0].expire_time is None


def test_lists_nothing_that_is_not_in_force_prohibited_or_for_others() -> None:
    assert names(policy()) == []
    assert names(policy(grants(grant(expires="2026-01-01")))) == []
    assert names(policy(grants(grant(not_before="2026-07-01")))) == []
    assert names(policy(grants(grant(workload="spiffe://prod.example/other")))) == []
    assert names(policy(grants(grant(grant_types="[jit]")))) == []
    assert names(policy(grants(grant()), prohibitions(prohibition()))) == []
    assert names(policy(grants(grant()), prohibitions(prohibition(scopes="[read]")))) == []


def test_leaves_out_prohibited_scopes() -> None:
    rules = policy(grants(grant(scopes="[read, write]")), prohibitions(prohibition(scopes="[write]")))
    assert names(rules) == [(LEDGER, None, ["read"])]
