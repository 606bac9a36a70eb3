"""Who may exchange a token, and what comes of its chain; every rule from both sides."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import LEDGER, NOW, SETTLER, caller, grant, grants, policy, request

from issuer.core.assertion import Assertion
from issuer.core.base64url import base64url
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.errors import Reason
from issuer.core.exchange import (
    MAX_ACT_BYTES,
    ExchangeRefused,
    ExchangeRules,
    Subject,
    act_text,
    origin_of,
    origin_of_other,
)
from issuer.core.explain import explain_decision
from issuer.core.foreign_subject import subject_of_assertion, subject_of_jwt_svid
from issuer.core.instants import microseconds
from issuer.core.jwt_svid import JwtSvid
from issuer.core.origin import Actor, Origin, OriginKind
from issuer.core.policy_cases import read_cases, run_case
from issuer.core.policy_faults import PolicyInvalid
from issuer.core.revocation import Issued
from issuer.core.spiffe_id import SpiffeId
from issuer.core.subjects import foreign_subject
from issuer.core.token_request import GrantType

ISSUER, DOMAIN = "https://issuer.example", "spiffe://prod.example"
RULES = ExchangeRules(ISSUER, max_depth=3)
ALICE = "spiffe://prod.example/alice"
ACTOR = caller(SETTLER)
ABOVE = Issued(SpiffeId.parse(ALICE), LEDGER, "", ("g",), "sha256:0", "kid", 7, "jti-1")
UNTIL = microseconds(NOW) + 600_000_000
OWN = Subject(ALICE, ALICE, ("read", "write"), UNTIL, ancestors=(ABOVE,))
FOREIGN = Subject(ALICE, ALICE, None, UNTIL)


def origin(subject: Subject, *, by: str = SETTLER, serves: bool = True, asked: tuple[str, ...] = ("read",)) -> Origin:
    return origin_of(subject, caller(by), asked, RULES, serves=serves)


def refusal(subject: Subject, **how: Any) -> Reason:
    with pytest.raises(ExchangeRefused) as refused:
        origin(subject, **how)
    return refused.value.reason


class TestWho:
    def test_its_holder_goes_on_where_the_chain_stands(self) -> None:
        assert origin(OWN, by=ALICE, serves=False).actors == ()
        held = replace(OWN, holder=SETTLER, actors=(Actor(SETTLER, DOMAIN),))
        assert origin(held, serves=False).actors == held.actors

    def test_a_server_of_its_audience_acts_for_the_subject(self) -> None:
        assert origin(OWN).actors == (Actor(SETTLER, DOMAIN),)

    def test_nobody_else_does(self) -> None:
        assert refusal(OWN, serves=False) is Reason.SUBJECT_TOKEN_NOT_YOURS

    def test_of_a_token_of_others_policy_says_who(self) -> None:
        assert origin(FOREIGN, serves=False).actors == (Actor(SETTLER, DOMAIN),)

    @pytest.mark.parametrize("subject", [OWN, FOREIGN])
    def test_may_act_shuts_out_all_but_whom_it_names_and_its_holder(self, subject: Subject) -> None:
        for_settler, for_another = replace(subject, may_act=SETTLER), replace(subject, may_act=f"{SETTLER}/x")
        assert origin(for_settler, serves=False).actors == (Actor(SETTLER, DOMAIN),)
        assert origin(for_another, by=ALICE, serves=False).actors == ()
        assert refusal(for_another) is Reason.SUBJECT_TOKEN_NOT_YOURS

    def test_a_person_holds_no_certificate_and_so_is_never_the_caller(self) -> None:
        assert origin(Subject("https://a#b", "", None, UNTIL), serves=False).actors == (Actor(SETTLER, DOMAIN),)

    def test_a_holder_of_a_bound_token_shows_its_certificate(self) -> None:
        fits = replace(OWN, holder=SETTLER, thumbprint=base64url(ACTOR.certificate_sha256))
        assert origin(fits, serves=False).bind
        assert refusal(replace(fits, thumbprint="A" * 42 + "B")) is Reason.SUBJECT_TOKEN_NOT_YOURS
        assert origin(replace(OWN, thumbprint="A" * 42 + "B")).bind, "its server cannot, and has looked"


class TestChain:
    def test_is_copied_as_it_is_behind_the_caller(self) -> None:
        before = (Actor("spiffe://prod.example/b", ISSUER), Actor("who?", "where?"))
        assert origin(replace(OWN, actors=before)).actors == (Actor(SETTLER, DOMAIN), *before)

    @pytest.mark.parametrize("subject", [replace(OWN, name=SETTLER), replace(OWN, actors=(Actor(SETTLER, "another"),))])
    def test_has_nobody_twice_whoever_vouches_for_it(self, subject: Subject) -> None:
        assert refusal(subject) is Reason.ACTOR_CHAIN_ENDS

    def test_has_a_greatest_depth(self) -> None:
        two = tuple(Actor(f"spiffe://prod.example/{number}", ISSUER) for number in range(2))
        assert len(origin(replace(OWN, actors=two)).actors) == 3
        assert refusal(replace(OWN, actors=(*two, Actor("spiffe://prod.example/2", ISSUER)))) is Reason.ACTOR_CHAIN_ENDS

    def test_has_a_greatest_size(self) -> None:
        empty = len(act_text((Actor(SETTLER, DOMAIN), Actor("", DOMAIN))))
        fits = (Actor("x" * (MAX_ACT_BYTES - empty), DOMAIN),)
        assert len(act_text(origin(replace(OWN, actors=fits)).actors)) == MAX_ACT_BYTES
        longer = (Actor(fits[0].subject + "x", DOMAIN),)
        assert refusal(replace(OWN, actors=longer)) is Reason.ACTOR_CHAIN_ENDS

    def test_reads_as_rfc_8693_has_it(self) -> None:
        assert act_text(()) == ""
        assert json.loads(act_text((Actor("a", "i"), Actor("b", "j")))) == {
            "sub": "a", "iss": "i", "act": {"sub": "b", "iss": "j"},
        }  # fmt: skip


class TestOrigin:
    def test_is_no_wider_and_no_longer_than_the_subject_token(self) -> None:
        found = origin(replace(OWN, transaction="tx", details="[]"))
        assert (found.kind, found.id, found.number, found.subject) == (OriginKind.EXCHANGE, "", 0, ALICE)
        assert (found.scopes, found.until, found.bind) == (("read", "write"), UNTIL, False)
        assert (found.ancestors, found.transaction, found.details) == ((ABOVE,), "tx", "[]")

    def test_of_a_token_of_others_the_scopes_are_for_policy(self) -> None:
        assert origin(FOREIGN, asked=("read", "refund")).scopes == ("read", "refund")

    @given(st.sets(st.sampled_from(["read", "report", "write"]), min_size=1), st.integers(1, 3_000))
    def test_a_grant_on_it_never_goes_beyond_it(self, held: set[str], seconds: int) -> None:
        rests_on = origin(replace(OWN, scopes=tuple(held), until=microseconds(NOW) + seconds * 1_000_000))
        rule = grant(scopes="[read, report, write]", grant_types="[token_exchange]")
        asked = replace(request("read", "report", "write"), grant_type=GrantType.TOKEN_EXCHANGE, allow_partial=True)
        answer = decide(policy(grants(rule)), ACTOR, asked, {}, NOW, origin=rests_on)
        if isinstance(answer, Grant):
            assert set(answer.scopes) <= held
            assert answer.lifetime.total_seconds() <= seconds
        else:
            assert answer.reason is Reason.ORIGIN_EXPIRES_SOON


class TestPolicy:
    """Rule 16 of decide."""

    ASKED = replace(request(), grant_type=GrantType.TOKEN_EXCHANGE)
    PLAIN = grant("plain", grant_types="[token_exchange]")
    NAMED = grant("named", grant_types="[token_exchange]", subjects=f"['{ALICE}']")

    def decided(self, rule: str, rests_on: Origin | None) -> Grant | Denial:
        return decide(policy(grants(rule)), ACTOR, self.ASKED, {}, NOW, origin=rests_on)

    def test_a_token_of_others_counts_only_where_a_grant_names_its_subject(self) -> None:
        foreign = origin(FOREIGN)
        assert isinstance(self.decided(self.NAMED, foreign), Grant)
        answer = self.decided(self.PLAIN, foreign)
        assert isinstance(answer, Denial)
        assert answer.reason is Reason.GRANT_TYPE_NOT_ALLOWED
        assert isinstance(self.decided(self.NAMED, replace(foreign, subject=f"{ALICE}/x")), Denial)

    def test_a_token_of_ours_needs_no_name_and_is_held_to_those_that_are_there(self) -> None:
        own = origin(OWN)
        assert isinstance(self.decided(self.PLAIN, own), Grant)
        assert isinstance(self.decided(self.NAMED, own), Grant)
        assert isinstance(self.decided(self.NAMED, replace(own, subject="spiffe://prod.example/bob")), Denial)

    def test_a_grant_with_subjects_gives_nothing_to_who_has_none(self) -> None:
        assert isinstance(self.decided(self.NAMED, None), Denial)
        assert isinstance(self.decided(self.NAMED, replace(origin(OWN), kind=OriginKind.INTENT)), Denial)


class TestTokensOfOthers:
    def svid(self, **claims: object) -> Subject:
        return subject_of_jwt_svid(JwtSvid(SpiffeId.parse(ALICE), 9, claims), ISSUER)

    def assertion(self, nonce: str = "", **claims: object) -> Subject:
        said = Assertion("login", "https://login.example", "a|b", "aud", 1, 9, None, nonce, "f", claims)
        return subject_of_assertion(said, ISSUER)

    def test_are_known_by_names_that_cannot_be_mistaken(self) -> None:
        assert (self.svid().name, self.svid().holder, self.svid().until) == (ALICE, ALICE, 9_000_000)
        person = self.assertion()
        assert (person.name, person.holder, person.until) == ("https://login.example#a%7Cb", "", 9_000_000)
        assert not person.is_own
        assert foreign_subject("https://login.example", ALICE).startswith("https://")

    @pytest.mark.parametrize("act", [None, {}, "x", {"sub": ALICE, "iss": ISSUER}, []])
    def test_a_chain_that_others_vouch_for_is_refused_and_not_dropped(self, act: object) -> None:
        for read in (self.svid, self.assertion):
            with pytest.raises(ExchangeRefused) as refused:
                read(act=act)
            assert refused.value.reason is Reason.ACTOR_CHAIN_ENDS

    @pytest.mark.parametrize("more", [{}, {"iss": ISSUER}, {"iss": "spiffe://prod.example"}])
    def test_obey_their_may_act(self, more: dict[str, str]) -> None:
        assert self.svid(may_act={"sub": SETTLER, **more}).may_act == SETTLER
        assert self.assertion(may_act={"sub": SETTLER, **more}).may_act == SETTLER
        assert self.svid().may_act is None

    @pytest.mark.parametrize(
        "may_act",
        [
            None,
            SETTLER,
            [{"sub": SETTLER}],
            {},
            {"sub": ""},
            {"sub": "alice"},
            {"sub": [SETTLER]},
            {"sub": SETTLER, "iss": "https://login.example"},
            {"sub": SETTLER, "iss": "spiffe://another.example"},
            {"sub": SETTLER, "iss": ISSUER, "client_id": "x"},
            {"sub": SETTLER, "role": "admin"},
        ],
    )
    def test_a_may_act_that_is_not_understood_is_not_taken_for_none(self, may_act: object) -> None:
        for read in (self.svid, self.assertion):
            with pytest.raises(ExchangeRefused) as refused:
                read(may_act=may_act)
            assert refused.value.reason is Reason.SUBJECT_TOKEN_NOT_TAKEN

    def test_what_proves_an_approval_is_for_that_alone(self) -> None:
        with pytest.raises(ExchangeRefused, match="approve"):
            self.assertion(nonce="sha256:00")
        assert self.assertion(nonce="n-0S6_WzA2Mj").name


class TestTriedOut:
    """What operators see of it without a token: cases of a policy, and explain."""

    CASES = """\
version: 1
cases:
  - name: c
    at: 2026-06-01T12:00:00Z
    caller: spiffe://prod.example/ns/payments/sa/settler
    request: {audience: https://ledger.example, scopes: [read], grant_type: token_exchange%s}
    expect: {outcome: %s}
"""

    @pytest.mark.parametrize(
        ("subject", "outcome"),
        [("", "refused"), (f", subject: {ALICE}", "granted"), (f", subject: {ALICE}/x", "refused")],
    )
    def test_a_case_says_whose_token_it_is(self, subject: str, outcome: str) -> None:
        [case] = read_cases("a.test.yaml", (self.CASES % (subject, outcome)).encode(), {})
        assert run_case(policy(grants(TestPolicy.NAMED)), case).differences == ()

    @pytest.mark.parametrize(
        ("subject", "fault"),
        [
            (", subject: alice", "a subject is a workload"),
            (", subject: 'https://login.example#*'", "is one, and has no '*'"),
            (", subject: 'spiffe://prod.example/**'", "is one, and has no '*'"),
        ],
    )
    def test_a_case_names_one_subject(self, subject: str, fault: str) -> None:
        with pytest.raises(PolicyInvalid, match=re.escape(fault)):
            read_cases("a.test.yaml", (self.CASES % (subject, "refused")).encode(), {})

    @pytest.mark.parametrize("grant_type", ["", ", grant_type: jit"])
    def test_only_an_exchange_has_a_subject(self, grant_type: str) -> None:
        text = self.CASES.replace(", grant_type: token_exchange", grant_type) % (f", subject: {ALICE}", "refused")
        with pytest.raises(PolicyInvalid, match="grant type token_exchange"):
            read_cases("a.test.yaml", text.encode(), {})

    def test_explain_says_that_a_grant_is_for_other_subjects(self) -> None:
        rests_on = origin_of_other(f"{ALICE}/x", ACTOR, ("read",), NOW)
        explained = explain_decision(
            policy(grants(TestPolicy.NAMED)), ACTOR, TestPolicy.ASKED, {}, NOW, origin=rests_on
        )
        assert [rule.why for rule in explained.rules if rule.kind == "grant"] == ["for tokens of other subjects"]

    def test_explain_says_what_makes_a_token_too_short(self) -> None:
        short = replace(origin(OWN), until=microseconds(NOW) + 5_000_000)
        explained = explain_decision(policy(grants(TestPolicy.PLAIN)), ACTOR, TestPolicy.ASKED, {}, NOW, origin=short)
        assert any("which origin sets" in change for change in explained.changes)
