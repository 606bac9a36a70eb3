"""What is said about two policies; each test writes both sides."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.policies import (
    AUDIENCES,
    LEDGER,
    NOW,
    SETTLER,
    caller,
    grant,
    grants,
    policy,
    prohibition,
    prohibitions,
    request,
)

from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.policy_diff import AccessDifference, Effect, PolicyDifference, diff_policies
from issuer.core.policy_parser import PolicyFile, parse_policy

OTHER = "spiffe://prod.example/ns/payments/sa/other"
TEAM = "spiffe://prod.example/ns/payments/**"
FACTS = "facts: [{name: risk, subject: caller, max_age: 1h, fields: {score: int}}]\n"
RISKY, CALM = "'facts.risk.score >= 80'", "'facts.risk.score < 80'"
NAMED = f"conditions: [{{name: calm, when: {CALM}}}]\n"
GROUPED = (
    f"groups: [{{name: team, workloads: ['{SETTLER}']}}]\n"
    f"grants: [{{id: g, groups: [team], audience: '{LEDGER}', scopes: [read]}}]\n"
)
DAY = "conditions: [{name: day, when: 'now.getHours(\"UTC\") > 6'}]\n"
BASE = grants(grant())


def compare(old: str, new: str, *, audiences: str = AUDIENCES) -> PolicyDifference:
    return diff_policies(policy(old, audiences=audiences), policy(new, audiences=audiences), NOW)


def redeclared(old: str, new: str, rules: str = BASE) -> PolicyDifference:
    """Compare with one part of the audiences replaced."""
    assert old in AUDIENCES
    return diff_policies(policy(rules), policy(rules, audiences=AUDIENCES.replace(old, new)), NOW)


def only(difference: PolicyDifference) -> AccessDifference:
    (access,) = difference.accesses
    return access


def changes(difference: PolicyDifference) -> dict[str, tuple[str | None, str | None]]:
    access = only(difference)
    assert access.effect is Effect.CHANGES
    return {name: (before, after) for name, before, after in access.changes}


class TestNoDifference:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (grants(grant("a"), grant("b", workload=OTHER)), grants(grant("b", workload=OTHER), grant("a"))),
            (BASE, grants(grant("renamed", owner="team", description="why"))),
            (BASE, "# a comment\n" + BASE),
            (
                GROUPED,
                GROUPED.replace("team", "crew"),
            ),
            (grants(grant("a", "[read]"), grant("b", "[write]")), grants(grant("c", "[write, read]"))),
            (
                FACTS + grants(grant(when=CALM)),
                FACTS + NAMED + grants(grant(requires="[calm]")),
            ),
            (FACTS + grants(grant(when=CALM)), FACTS + grants(grant(when="'facts.risk.score  <80 // calm'"))),
            (BASE, BASE + prohibitions(prohibition(workload=OTHER))),
            (BASE, grants(grant(), grant("old", "[write]", expires="2026-01-01"))),
            (
                BASE + prohibitions(prohibition(scopes="[write]")),
                BASE + prohibitions(prohibition("q", scopes="[write, refund]")),
            ),
        ],
    )
    def test_in_what_changes_nobodys_access(self, old: str, new: str) -> None:
        assert not compare(old, new)
        assert not compare(new, old)

    def test_in_a_way_that_another_one_covers(self) -> None:
        wide = grant("wide", max_ttl="5m")
        narrow = grant("narrow", max_ttl="90s", when=CALM, not_before="2026-01-01", expires="2026-12-31")
        assert not compare(FACTS + grants(wide), FACTS + grants(wide, narrow))

    def test_but_a_way_that_only_seems_to_be_covered_counts(self) -> None:
        short = grant("short", max_ttl="90s", not_before="2026-01-01", expires="2027-01-01")
        for more in (
            grant("longer", max_ttl="5m", when=CALM),
            grant("earlier", max_ttl="60s", expires="2026-12-31"),
            grant("later", max_ttl="60s", not_before="2026-02-01"),
        ):
            access = only(compare(FACTS + grants(short), FACTS + grants(short, more)))
            assert [(name, before) for name, before, _ in access.changes] == [("terms", None)]

    def test_where_so_many_ways_give_the_same_that_none_is_held_against_another(self) -> None:
        many = grants(*(grant(f"g{number}", max_ttl=f"{60 + number}s") for number in range(40)))
        assert not compare(many, many.replace("g1", "h1"))


class TestGainsAndLosses:
    def test_a_grant_that_comes_is_a_gain_with_its_terms(self) -> None:
        new = grants(grant(), grant("more", "[write, refund]", workload=OTHER, application="payments", max_ttl="90s"))
        low, high = sorted(compare(BASE, new).accesses, key=lambda access: access.scopes)
        assert (low.effect, low.workload, low.audience, low.application) == (Effect.GAINS, OTHER, LEDGER, "payments")
        assert (low.scopes, low.grant_types, low.grants) == (("refund",), ("client_credentials",), ("more",))
        assert low.changes == (("risk", None, "critical"), ("max_ttl", None, "1m30s"), ("binding", None, "required"))
        assert high.scopes == ("write",)

    def test_a_grant_that_goes_is_a_loss(self) -> None:
        difference = compare(grants(grant("a", "[write, read]"), grant("b", workload=OTHER)), grants(grant("a")))
        assert [(each.effect, each.workload, each.scopes) for each in difference.accesses] == [
            (Effect.LOSES, OTHER, ("read",)),
            (Effect.LOSES, SETTLER, ("write",)),
        ]
        assert difference.workloads(Effect.LOSES) == 2
        assert difference.workloads(Effect.GAINS) == 0

    def test_scopes_and_grant_types_that_differ_alike_are_told_together(self) -> None:
        terms = {"grant_types": "[client_credentials, jit]", "max_ttl": "90s"}
        high = grants(grant("a", "[write]", **terms), grant("b", "[read, report]", **terms))
        (changed,) = (
            each for each in compare(grants(grant("b", "[report, read]")), high).accesses if each.effect == "changes"
        )
        assert (changed.scopes, changed.grant_types) == (("read", "report"), ("client_credentials",))
        gained = compare("", grants(grant("b", "[read]", **terms)))
        assert only(gained).grant_types == ("client_credentials", "jit")

    def test_a_longer_window_is_a_change_of_access_just_in_time(self) -> None:
        one, two = (grants(grant(grant_types="[client_credentials, jit]", window=window)) for window in ("90m", "2h"))
        changed = only(compare(one, two))
        assert (changed.grant_types, changed.changes) == (("jit",), (("window", "1h30m", "2h"),))
        usual = grants(grant("a", grant_types="[jit]"), grant("b", grant_types="[jit]", window="1h"))
        assert not compare(grants(grant("a", grant_types="[jit]", window="1h")), usual), "an hour is what is usual"

    def test_another_application_is_another_access(self) -> None:
        difference = compare(grants(grant(application="a")), grants(grant(application="b")))
        assert [(each.effect, each.application) for each in difference.accesses] == [("gains", "b"), ("loses", "a")]

    def test_several_ways_of_a_gain_are_each_told_whole(self) -> None:
        ways = grants(grant("a", max_ttl="90s"), grant("b", when=CALM))
        access = only(compare(FACTS, FACTS + ways))
        assert access.changes == (
            ("terms", None, "risk low, max_ttl 10m, when facts.risk.score < 80"),
            ("terms", None, "risk low, max_ttl 1m30s"),
        )
        assert access.grants == ("a", "b")

    def test_a_grant_has_gone_when_it_ends_and_not_before_it_begins(self) -> None:
        ending = policy(grants(grant(expires="2026-06-30")))
        nothing = policy()
        assert diff_policies(nothing, ending, NOW)
        assert not diff_policies(nothing, ending, NOW + timedelta(days=60))
        future = only(compare("", grants(grant(not_before="2026-11-02"))))
        assert ("not_before", None, "2026-11-02T00:00:00Z") in future.changes

    def test_a_grant_that_is_enforced_at_last_is_a_gain(self) -> None:
        difference = compare(grants(grant(mode="audit", max_ttl="90s")), BASE)
        assert only(difference).effect is Effect.GAINS
        assert [(name, after) for name, _, after in difference.surroundings] == [("g in audit mode", None)]


class TestChanges:
    def test_of_lifetime_and_dates(self) -> None:
        old = grants(grant(max_ttl="90s", expires="2026-06-30"))
        new = grants(grant(max_ttl="5m", not_before="2026-01-01"))
        assert changes(compare(old, new)) == {
            "max_ttl": ("1m30s", "5m"),
            "not_before": (None, "2026-01-01T00:00:00Z"),
            "expires": ("2026-07-01T00:00:00Z", None),
        }

    def test_of_conditions(self) -> None:
        difference = compare(
            FACTS + grants(grant(when=CALM)),
            FACTS + DAY + grants(grant(when=CALM, requires="[day]")),
        )
        both = '(facts.risk.score < 80) && (now.getHours("UTC") > 6)'
        assert changes(difference) == {"when": ("facts.risk.score < 80", both)}

    def test_of_an_audience_a_scope_and_a_tier(self) -> None:
        assert changes(redeclared("max_ttl: 10m", "max_ttl: 5m")) == {"max_ttl": ("10m", "5m")}
        assert changes(redeclared("name: read, risk: low", "name: read, risk: low, max_ttl: 1m")) == {
            "max_ttl": ("10m", "1m")
        }
        tiers = "risk_tiers: {low: {max_ttl: 4m, proof_binding: required, requires: [day]}}\n" + DAY
        assert changes(compare(BASE, tiers + BASE)) == {
            "max_ttl": ("10m", "4m"),
            "binding": (None, "required"),
            "when": (None, 'now.getHours("UTC") > 6'),
        }
        assert changes(redeclared("name: read, risk: low", "name: read, risk: high"))["risk"] == ("low", "high")
        with_status = redeclared("max_ttl: 10m", "max_ttl: 10m\n    status: required")
        assert changes(with_status) == {"status": (None, "required")}

    def test_of_approval(self) -> None:
        approval = "{approvers: ['spiffe://prod.example/user/*'], quorum: 2, valid_for: 15m, human: true}"
        assert changes(redeclared("name: read, risk: low", f"name: read, risk: low, approval: {approval}")) == {
            "approval": (None, "2 of spiffe://prod.example/user/*, valid for 15m, each proved to be a person")
        }

    def test_of_environments(self) -> None:
        def environment(workloads: str) -> str:
            return f"environments: [{{name: production, workloads: ['{workloads}']}}]\n"

        inside, wider = environment("spiffe://prod.example/ns/**"), environment("spiffe://prod.example/**")
        named = grants(grant(environments="[production]"))
        one, other = "production (spiffe://prod.example/ns/**)", "production (spiffe://prod.example/**)"
        assert changes(compare(inside + BASE, inside + named)) == {"environments": (None, one)}
        difference = compare(inside + named, wider + named)
        assert changes(difference) == {"environments": (one, other)}
        assert difference.surroundings == (("environment production", one, other),)
        own = AUDIENCES.replace("application: ledger", "application: ledger\n    environment: production")
        moved = diff_policies(policy(inside + BASE), policy(inside + BASE, audiences=own), NOW)
        assert changes(moved) == {"environments": (None, one)}

    def test_of_an_exception_for_legacy(self) -> None:
        legacy = "{reason: old, owner: team, expires: 2026-12-31, max_ttl: 2h}"
        text = (AUDIENCES.replace("max_ttl: 10m", "max_ttl: 2h") + grants(grant(legacy=legacy))).encode()
        new = parse_policy([PolicyFile("policy.yaml", text)], legacy_ceiling=timedelta(hours=4))
        old = policy(BASE, audiences=AUDIENCES.replace("max_ttl: 10m", "max_ttl: 2h"))
        told = changes(diff_policies(old, new, NOW))
        assert told["legacy"] == (None, "outlives the SVID")
        assert told["expires"] == (None, "2027-01-01T00:00:00Z")

    def test_of_one_of_several_ways(self) -> None:
        ways = FACTS + grants(grant("a", when=CALM), grant("b", max_ttl="90s"))
        assert changes(compare(ways, ways.replace("90s", "80s"))) == {"max_ttl": ("1m30s", "1m20s")}
        access = only(compare(ways, FACTS + grants(grant("c", max_ttl="1m"))))
        assert [name for name, _, _ in access.changes] == ["terms", "terms"]


class TestProhibitions:
    def test_what_one_takes_whole_is_lost_to_it_and_comes_back(self) -> None:
        frozen = BASE + prohibitions(prohibition("freeze", workload="spiffe://prod.example/**", audiences="['*']"))
        lost, back = only(compare(BASE, frozen)), only(compare(frozen, BASE))
        assert (lost.effect, lost.workload, lost.scopes) == (Effect.LOSES, SETTLER, ("read",))
        assert (lost.prohibitions, lost.grants) == (("freeze",), ("g",))
        assert (back.effect, back.prohibitions) == (Effect.GAINS, ("freeze",))

    def test_one_that_covers_some_takes_from_those(self) -> None:
        team = grants(grant(workload=TEAM))
        difference = compare(team, team + prohibitions(prohibition(workload="spiffe://prod.example/ns/*/sa/x")))
        lost = only(difference)
        assert (lost.effect, lost.workload) == (Effect.LOSES, "spiffe://prod.example/ns/payments/sa/x")
        assert (lost.prohibitions, lost.changes) == (("p",), (("prohibited", None, "always"),))

    def test_one_with_a_condition_says_it_and_what_it_becomes(self) -> None:
        some = FACTS + BASE + prohibitions(prohibition(when=RISKY))
        lost = only(compare(FACTS + BASE, some))
        assert lost.changes == (("prohibited", None, "when facts.risk.score >= 80"),)
        assert only(compare(some, FACTS + BASE)).effect is Effect.GAINS
        stricter = compare(some, some.replace(">= 80", ">= 60"))
        assert changes(stricter) == {"prohibited": ("when facts.risk.score >= 80", "when facts.risk.score >= 60")}
        always = only(compare(some, FACTS + BASE + prohibitions(prohibition())))
        assert (always.effect, always.prohibitions) == (Effect.LOSES, ("p",))

    def test_one_takes_its_scopes_alone(self) -> None:
        both = grants(grant(scopes="[read, write]"))
        assert only(compare(both, both + prohibitions(prohibition(scopes="[write]")))).scopes == ("write",)

    def test_what_is_prohibited_always_is_no_further_lost(self) -> None:
        team = FACTS + grants(grant(workload=TEAM))
        always, sometimes = prohibition("a", workload=OTHER), prohibition("b", workload=OTHER, when=RISKY)
        assert not compare(team + prohibitions(always), team + prohibitions(always, sometimes))

    def test_a_new_grant_of_what_is_prohibited_gains_what_is_left(self) -> None:
        rules = prohibitions(prohibition(workload=OTHER)) + FACTS
        limit = f"limits: [{{id: l, workloads: ['{TEAM}'], audiences: ['*'], when: {RISKY}, max_ttl: 30s}}]\n"
        assert not compare(rules, rules + grants(grant(workload=OTHER)))
        gained = only(compare(rules, rules + grants(grant(workload=TEAM)) + limit))
        assert gained.changes[-2:] == (
            ("prohibited", None, f"{OTHER} always"),
            ("limit", None, f"{TEAM} at most 30s, when facts.risk.score >= 80"),
        )
        assert not compare(rules + grants(grant(workload=OTHER)), rules)

    def test_one_in_audit_mode_takes_nothing_yet(self) -> None:
        difference = compare(BASE, BASE + prohibitions(prohibition(mode="audit", scopes="[read]")))
        assert not difference.accesses
        words = f"workloads {SETTLER}, audiences {LEDGER}, scopes read"
        assert difference.surroundings == (("p in audit mode", None, words),)


def test_limits_change_the_access_that_they_overlap_with() -> None:
    limit = "limits: [{id: l, workloads: ['spiffe://prod.example/ns/payments/sa/*'], audiences: ['*'], TERMS}]\n"
    risky = limit.replace("TERMS", f"scopes: [read], max_ttl: 30s, when: {RISKY}")
    calm = limit.replace("TERMS", f"requires: [calm], when: {RISKY}") + NAMED
    base = FACTS + grants(grant(scopes="[read]", workload=TEAM), grant("m", "[write]", workload=OTHER))
    first = changes(compare(base, base + risky))
    assert first == {"limit": (None, "at most 30s, when facts.risk.score >= 80")}
    difference = compare(base + risky, base + calm)
    assert {(each.workload, each.changes) for each in difference.accesses} == {
        (OTHER, (("limit", None, "requires facts.risk.score < 80, when facts.risk.score >= 80"),)),
        (
            "spiffe://prod.example/ns/payments/sa/*",
            (
                (
                    "limit",
                    "at most 30s, when facts.risk.score >= 80",
                    "requires facts.risk.score < 80, when facts.risk.score >= 80",
                ),
            ),
        ),
    }


def test_what_decisions_depend_on_is_told_apart() -> None:
    calm = "facts.risk.score < 80"
    about = f"id: l, workloads: ['{SETTLER}'], audiences: ['{LEDGER}']"
    limit = f"limits: [{{{about}, max_ttl: 30s, requires: [calm], mode: audit, when: {RISKY}}}]\n"
    difference = compare(FACTS + NAMED, FACTS.replace("1h", "2h") + NAMED + "min_ttl: 15s\n" + limit)
    assert not difference.accesses
    assert difference.surroundings == (
        ("fact risk", "about caller, at most 1h old, score: int", "about caller, at most 2h old, score: int"),
        (
            "l in audit mode",
            None,
            f"workloads {SETTLER}, audiences {LEDGER}, when facts.risk.score >= 80, max_ttl 30s, requires {calm}",
        ),
        ("min_ttl", "10s", "15s"),
    )


RULES = st.lists(
    st.one_of(
        st.builds(
            lambda n, scope, who, ttl: ("grants", grant(f"g{n}", f"[{scope}]", workload=who, max_ttl=ttl)),
            st.integers(0, 99),
            st.sampled_from(["read", "write"]),
            st.sampled_from([SETTLER, OTHER, TEAM]),
            st.sampled_from(["60s", "90s"]),
        ),
        st.builds(
            lambda n, who, scopes: ("prohibitions", prohibition(f"p{n}", workload=who, scopes=scopes)),
            st.integers(0, 99),
            st.sampled_from([SETTLER, TEAM]),
            st.sampled_from(["[read]", "[read, write]"]),
        ),
    ),
    max_size=5,
    unique_by=lambda rule: rule[1].split(",")[0],
)


def written(rules: list[tuple[str, str]]) -> str:
    sections = {name: [text for of, text in rules if of == name] for name in ("grants", "prohibitions")}
    return "".join(f"{name}:\n{''.join(items)}" for name, items in sections.items() if items)


@settings(deadline=None)
@given(RULES, RULES)
def test_where_nothing_differs_every_answer_is_the_same(old: list[tuple[str, str]], new: list[tuple[str, str]]) -> None:
    one, two = policy(written(old)), policy(written(new))
    affected = bool(diff_policies(one, two, NOW))
    assert affected == bool(diff_policies(two, one, NOW))
    for spiffe_id in (SETTLER, OTHER):
        for scope in ("read", "write"):
            answers = [decide(each, caller(spiffe_id), request(scope), {}, NOW) for each in (one, two)]
            assert affected or _gist(answers[0]) == _gist(answers[1])


def _gist(answer: Grant | Denial) -> object:
    return answer.lifetime if isinstance(answer, Grant) else "denied"


def test_large_policies_take_seconds() -> None:
    def large(ttl: int) -> str:
        rules = (
            grant(f"g{n}", workload=f"spiffe://prod.example/ns/n{n % 100}/sa/s{n // 10}", max_ttl=f"{ttl + n % 10}s")
            for n in range(5_000)
        )
        return grants(*rules) + prohibitions(
            *(prohibition(f"p{n}", f"spiffe://prod.example/x/{n}") for n in range(500))
        )

    old, new = policy(large(20)), policy(large(40))
    begun = time.perf_counter()
    assert diff_policies(old, new, NOW).workloads(Effect.CHANGES) == 5_000
    assert time.perf_counter() - begun < 10
