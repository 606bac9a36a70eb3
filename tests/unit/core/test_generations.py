from __future__ import annotations

from datetime import timedelta

from support.policies import NOW, grant, grants, policy, prohibition, prohibitions

from issuer.core.generations import Generation, PolicyStatus, keep

FIRST = Generation(policy(grants(grant("b", mode="audit")), prohibitions(prohibition("a", mode="audit"))), NOW)
SECOND = Generation(policy(grants(grant())), NOW + timedelta(hours=1))


def test_the_newest_comes_first_and_the_oldest_goes() -> None:
    assert keep((FIRST,), SECOND, 2) == (SECOND, FIRST)
    assert keep((FIRST,), SECOND, 1) == (SECOND,)


def test_a_policy_loaded_again_is_kept_once() -> None:
    again = Generation(FIRST.policy, NOW + timedelta(hours=2))
    assert keep((SECOND, FIRST), again, 5) == (again, SECOND)


def test_rules_in_audit_mode_are_listed() -> None:
    status = PolicyStatus(FIRST, (FIRST,), pinned=False, last_fault=None, last_fault_at=None)
    assert status.audit_rules == ["a", "b"]
