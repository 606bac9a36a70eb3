"""Rights that nobody uses."""

from __future__ import annotations

from support.policies import policy

from issuer.core.unused_rights import unused_rights

POLICY = """
version: 1
audiences:
  - name: https://a
    application: a
    scopes: [{name: read, risk: low}, {name: write, risk: low}]
grants:
  - {id: both, workloads: ["spiffe://x/1"], audience: "https://a", scopes: [read, write]}
  - {id: one, workloads: ["spiffe://x/2"], audience: "https://a", scopes: [read]}
  - {id: tried, workloads: ["spiffe://x/3"], audience: "https://a", scopes: [read], mode: audit}
"""


def unused(*used: tuple[str, set[str], set[str]]) -> list[tuple[str, tuple[str, ...], bool]]:
    told = ((audience, frozenset(grants), frozenset(scopes)) for audience, grants, scopes in used)
    return [(right.grant, right.scopes, right.whole) for right in unused_rights(policy(audiences=POLICY), told)]


def test_a_grant_that_gave_nothing_is_unused_whole() -> None:
    assert unused() == [("both", ("read", "write"), True), ("one", ("read",), True)]


def test_a_scope_that_nobody_had_is_unused() -> None:
    assert unused(("https://a", {"both"}, {"read"}), ("https://a", {"one"}, {"read"})) == [("both", ("write",), False)]


def test_use_at_another_audience_or_by_another_grant_does_not_count() -> None:
    assert ("one", ("read",), True) in unused(("https://b", {"one"}, {"read"}), ("https://a", {"both"}, {"read"}))


def test_what_is_used_is_not_listed() -> None:
    assert unused(("https://a", {"both", "one"}, {"read", "write"})) == []
