from __future__ import annotations

from typing import TYPE_CHECKING

from support.policies import LEDGER, NOW, grant, grants, policy, prohibition, prohibitions

from issuer.core.reach import who_can

if TYPE_CHECKING:
    from issuer.core.policy import Policy

MAIL = "https://mail.example"


def ids(rules: Policy, audience: str, scope: str | None = None) -> tuple[list[str], list[str]]:
    found = who_can(rules, audience, scope, NOW)
    return [rule.id for rule, _ in found.grants], [rule.id for rule in found.prohibitions]


RULES = policy(
    grants(grant("b", "[read, write]"), grant("a", "[write]"), grant("m", "[send]", audience=MAIL)),
    prohibitions(
        prohibition("z"),
        prohibition("y", scopes="[read]"),
        prohibition("x", audiences="['*']", scopes="[write, send]"),
        prohibition("w", audiences=f"['{MAIL}']"),
    ),
)


def test_finds_the_rules_of_an_audience_sorted() -> None:
    assert ids(RULES, LEDGER) == (["a", "b"], ["x", "y", "z"])
    assert ids(RULES, MAIL) == (["m"], ["w", "x"])


def test_finds_the_rules_of_one_scope() -> None:
    assert ids(RULES, LEDGER, "read") == (["b"], ["y", "z"])
    assert ids(RULES, LEDGER, "write") == (["a", "b"], ["x", "z"])


def test_finds_nothing_where_nothing_is_granted() -> None:
    assert ids(RULES, "https://nowhere.example") == ([], [])
    assert ids(RULES, LEDGER, "refund") == ([], [])


def test_says_which_grants_are_in_force() -> None:
    rules = policy(grants(grant("a", expires="2026-01-01"), grant("b", expires="2027-01-01")))
    assert [in_force for _, in_force in who_can(rules, LEDGER, None, NOW).grants] == [False, True]
