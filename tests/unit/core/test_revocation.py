"""What a revocation hits, stops and kills; which ones are refused; and that it reads back as it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.errors import InvalidTokenRequest
from issuer.core.patterns import parse_pattern
from issuer.core.revocation import (
    MAX_TTL_MICROSECONDS,
    Issued,
    Lift,
    Revocation,
    Selector,
    check_revocation,
    usually_stops,
)
from issuer.core.revocation_text import revocation_from_text, revocation_members
from issuer.core.revocations import NOTHING_REVOKED, Revocations
from issuer.core.spiffe_id import SpiffeId
from issuer.core.stated_reason import MAX_WHY

SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
TOKEN = Issued(SpiffeId.parse(SETTLER), "https://a", "payments", ("g1", "g2"), "sha256:1", "k1", 1_000, "jti-1")
HITTING = {
    "token": "jti-1",
    "workload": parse_pattern("spiffe://prod.example/ns/*/sa/settler"),
    "application": "payments",
    "audience": "https://a",
    "rule": "g2",
    "policy": "sha256:1",
    "key": "k1",
    "issued_from": 1_000,
    "issued_until": 1_001,
}
MISSING = {
    "token": "jti-2",
    "workload": parse_pattern("spiffe://prod.example/ns/*/sa/reader"),
    "application": "reports",
    "audience": "https://b",
    "rule": "g",
    "policy": "sha256:2",
    "key": "k2",
    "issued_from": 1_001,
    "issued_until": 1_000,
}


def revocation(selector: Selector | None = None, **changes: Any) -> Revocation:
    usual: dict[str, Any] = {
        "id": "1",
        "selector": selector or Selector(everything=True),
        "time": 2_000,
        "actor": "spiffe://prod.example/operator",
        "why": "a leak",
        "stops_issuance": True,
    }
    return Revocation(**(usual | changes))


@pytest.mark.parametrize("name", HITTING)
def test_each_field_of_a_selector_narrows_what_it_hits(name: str) -> None:
    assert Selector(**{name: HITTING[name]}).hits(TOKEN)  # type: ignore[arg-type]
    assert not Selector(**{name: MISSING[name]}).hits(TOKEN)  # type: ignore[arg-type]
    assert not Selector(**HITTING | {name: MISSING[name]}).hits(TOKEN)  # type: ignore[arg-type]


def test_all_fields_together_and_everything_hit() -> None:
    assert Selector(**HITTING).hits(TOKEN)  # type: ignore[arg-type]
    assert Selector(everything=True).hits(TOKEN)


class TestStop:
    def test_holds_until_it_is_lifted_or_ends(self) -> None:
        stop = revocation(until=3_000)
        assert stop.stops(TOKEN._replace(time=2_999))
        assert not stop.stops(TOKEN._replace(time=3_000))
        assert revocation().stops(TOKEN._replace(time=10**18))
        assert not revocation(lifted=Lift(2_500, "x")).stops(TOKEN)
        assert not revocation(stops_issuance=False).stops(TOKEN)
        assert not revocation(Selector(audience="https://b")).stops(TOKEN)

    @pytest.mark.parametrize("name", ["workload", "application", "audience", "rule", "policy", "key"])
    def test_is_usual_for_what_goes_on_being_issued(self, name: str) -> None:
        assert usually_stops(Selector(**{name: HITTING[name]}), 0)  # type: ignore[arg-type]

    def test_is_not_usual_for_a_token_for_everything_or_for_the_past(self) -> None:
        for selector in (Selector(token="x"), Selector(everything=True), Selector(audience="a", issued_until=5)):
            assert not usually_stops(selector, 5)
        assert usually_stops(Selector(audience="a", issued_until=6), 5)


class TestWhatWasBegunBefore:
    def test_is_hit_by_what_was_made_since_lifted_or_not(self) -> None:
        made = revocation(Selector(audience="https://a"), lifted=Lift(2_500, "x"))
        later = revocation(Selector(rule="g2"), id="2", time=3_000, stops_issuance=False)
        known = Revocations([later, made, revocation(Selector(audience="https://b"))])
        assert known.made_since(TOKEN, 2_000) is made
        assert known.made_since(TOKEN, 2_001) is later
        assert known.made_since(TOKEN, 3_001) is None
        assert NOTHING_REVOKED.made_since(TOKEN, 0) is None


class TestDeath:
    def test_is_of_what_was_recorded_before_the_revocation(self) -> None:
        for each in (revocation(decisions=7), revocation(decisions=7, lifted=Lift(3_000, "x"))):
            assert each.kills(TOKEN, 7)
            assert not each.kills(TOKEN, 8)
        assert not revocation(Selector(audience="https://b"), decisions=7).kills(TOKEN, 7)

    def test_is_of_all_that_a_revoked_key_ever_signed(self) -> None:
        assert revocation(Selector(key="k1"), decisions=7).kills(TOKEN, 8)
        assert not revocation(Selector(key="k2"), decisions=7).kills(TOKEN, 8)

    def test_matters_as_long_as_something_can_be_hit(self) -> None:
        end = 2_000 + MAX_TTL_MICROSECONDS
        assert revocation(stops_issuance=False).matters(end - 1)
        assert not revocation(stops_issuance=False).matters(end)
        assert revocation().matters(end)
        assert not revocation(lifted=Lift(3_000, "x")).matters(end)
        assert revocation(Selector(key="k"), lifted=Lift(3_000, "x")).matters(end)
        token = revocation(Selector(token="x"), stops_issuance=False, expires_at=9)
        assert token.matters(8_999_999)
        assert not token.matters(9_000_000)

    def test_only_a_stop_can_be_lifted_and_never_that_of_a_key(self) -> None:
        assert revocation().can_be_lifted
        assert not revocation(stops_issuance=False).can_be_lifted
        assert not revocation(Selector(key="k")).can_be_lifted


class TestRefused:
    @pytest.mark.parametrize(
        ("selector", "field"),
        [
            (Selector(), "selector"),
            (Selector(everything=True, audience="a"), "selector"),
            (Selector(token="x", audience="a"), "selector.token"),
            (Selector(token="x", issued_from=1), "selector.token"),
            (Selector(token="x", issued_until=1), "selector.token"),
            (Selector(audience=""), "selector.audience"),
            (Selector(key="x", issued_from=1), "selector.key"),
            (Selector(key="x", issued_until=10**9), "selector.key"),
            (Selector(audience="a", issued_from=9_000, issued_until=9_000), "selector.issued_until"),
            (Selector(token="x"), "stops_issuance"),
            (Selector(audience="a", issued_until=2_000), "stops_issuance"),
        ],
    )
    def test_what_means_nothing_or_something_else(self, selector: Selector, field: str) -> None:
        with pytest.raises(InvalidTokenRequest) as refused:
            check_revocation(revocation(selector))
        assert field in {violation.field for violation in refused.value.violations}

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"why": " "}, "reason"),
            ({"why": "x" * (MAX_WHY + 1)}, "reason"),
            ({"why": "a\nb"}, "reason"),
            ({"until": 2_000}, "until"),
            ({"until": 3_000, "stops_issuance": False}, "until"),
            ({"until": 3_000, "selector": Selector(key="k")}, "until"),
            ({"stops_issuance": False, "selector": Selector(key="k")}, "stops_issuance"),
        ],
    )
    def test_texts_and_times_that_do_not_fit(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidTokenRequest) as refused:
            check_revocation(revocation(**changes))
        assert [violation.field for violation in refused.value.violations] == [field]

    def test_nothing_else_is(self) -> None:
        check_revocation(revocation())
        check_revocation(revocation(until=2_001))
        check_revocation(revocation(Selector(token="x"), stops_issuance=False))
        check_revocation(revocation(Selector(key="k")))
        check_revocation(revocation(Selector(audience="a", issued_from=1, issued_until=2_001)))


names = st.sampled_from(["a", "b", "c"])
segments = st.lists(names, min_size=1, max_size=3)
workloads = st.builds(
    lambda parts, end: parse_pattern("spiffe://prod.example/" + "/".join([*parts, *end])),
    st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=2),
    st.sampled_from([[], ["**"]]),
)
times = st.integers(0, 20)
selectors = st.builds(
    Selector,
    workload=st.none() | workloads,
    application=st.none() | names,
    audience=st.none() | names,
    rule=st.none() | names,
    policy=st.none() | names,
    key=st.none() | names,
    issued_from=st.none() | times,
    issued_until=st.none() | times,
)
tokens = st.builds(
    Issued,
    caller=segments.map(lambda parts: SpiffeId.parse("spiffe://prod.example/" + "/".join(parts))),
    audience=names,
    application=st.just("") | names,
    rules=st.lists(names, max_size=2, unique=True).map(tuple),
    policy=names,
    key=st.just("") | names,
    time=times,
)
several = st.lists(
    st.builds(
        revocation,
        selectors,
        stops_issuance=st.booleans(),
        until=st.none() | times,
        decisions=times,
        lifted=st.none() | st.just(Lift(1, "x")),
    ),
    max_size=6,
).map(lambda made: [replace(each, id=str(number)) for number, each in enumerate(made)])


@given(several, tokens, times)
def test_the_index_finds_what_going_through_all_finds(made: list[Revocation], token: Issued, seq: int) -> None:
    index = Revocations(made)
    assert index.is_empty is not bool(made)
    assert index.stopping(token) == next((each for each in made if each.stops(token)), None)
    assert index.killing(token, seq) == next((each for each in made if each.kills(token, seq)), None)


def test_nothing_is_revoked_to_begin_with() -> None:
    assert NOTHING_REVOKED.is_empty
    assert NOTHING_REVOKED.stopping(TOKEN) is None


@given(selectors | st.builds(Selector, token=names) | st.just(Selector(everything=True)), st.none() | times)
def test_what_is_chained_reads_back_as_it_was(selector: Selector, number: int | None) -> None:
    made = revocation(selector, until=number, expires_at=number, tokens_hit=3, request="r", decisions=4, version=5)
    text = json.dumps(revocation_members(made))
    lifted = Lift(9, "y")
    back = revocation_from_text(text, time=made.time, actor=made.actor, version=6, lifted=lifted)
    assert back == replace(made, version=6, lifted=lifted)
