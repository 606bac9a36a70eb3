"""What a token of an intent rests on: never wider than the registrar could have had then, nor could have now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.intents import MINUTES, SCHEDULER, WORKER, registration
from support.policies import LEDGER, NOW, caller, grant, grants, policy

from issuer.core.approval_state import Refusal
from issuer.core.decide import decide
from issuer.core.decision import Denial, Grant
from issuer.core.errors import Reason
from issuer.core.instants import microseconds
from issuer.core.intent_redemption import RedemptionWanted, origin_of, request_of_registrar, stand_in
from issuer.core.intent_state import begin
from issuer.core.origin import Actor, Origin, OriginKind, origin_from_text, origin_text
from issuer.core.patterns import parse_pattern
from issuer.core.record import Minted, record_decision
from issuer.core.replay import differing_fields, recorded
from issuer.core.revocation import Revocation, Selector
from issuer.core.revocations import Revocations
from issuer.core.token_request import GrantType, Intent

TIME = microseconds(NOW)
CONSUMER = caller(WORKER)
REGISTERED = registration(
    audience=LEDGER, scopes=("read", "write"), created=TIME, not_before=TIME, expires_at=TIME + 60 * MINUTES
)
COULD = Grant(
    audience=LEDGER,
    scopes=("read", "write"),
    lifetime=timedelta(seconds=120),
    lifetime_bound="grant",  # type: ignore[arg-type]
    application="batch",
    bind_certificate=False,
    rule_ids=("now",),
    refused_scopes=(),
    policy_digest="sha256:now",
    lifetime_rule="now",
    grant_type=GrantType.INTENT,
)


def origin(registered: object = REGISTERED, could: Grant = COULD) -> Origin:
    found = origin_of(begin(registered), could, CONSUMER.spiffe_id, NOW)  # type: ignore[arg-type]
    assert isinstance(found, Origin)
    return found


def test_it_names_who_acts_for_whom_and_to_do_what() -> None:
    found = origin()
    assert (found.kind, found.id, found.number) == (OriginKind.INTENT, REGISTERED.id, 2)
    assert found.subject == SCHEDULER
    assert found.actors == (Actor(WORKER, "spiffe://prod.example"),)
    assert (found.transaction, found.details) == ("tx-1", REGISTERED.details)
    assert found.over_at == REGISTERED.over_at
    assert origin_from_text(origin_text(found)) == found


def test_it_has_the_scopes_that_the_registrar_could_have_now() -> None:
    assert origin().scopes == ("read", "write")
    assert origin(could=replace(COULD, scopes=("read",))).scopes == ("read",)


@pytest.mark.parametrize(
    ("then", "now", "window", "expected"), [(300, 120, 3600, 120), (60, 120, 3600, 60), (300, 120, 30, 30)]
)
def test_it_lives_for_the_shortest_of_then_now_and_the_window(then: int, now: int, window: int, expected: int) -> None:
    registered = replace(REGISTERED, lifetime=then, expires_at=TIME + window * 1_000_000)
    found = origin(registered, replace(COULD, lifetime=timedelta(seconds=now)))
    assert found.until == TIME + expected * 1_000_000


@pytest.mark.parametrize(("then", "now"), [(False, False), (True, False), (False, True)])
def test_it_is_bound_if_it_had_to_be_then_or_has_to_be_now(*, then: bool, now: bool) -> None:
    found = origin(replace(REGISTERED, bind=then), replace(COULD, bind_certificate=now))
    assert found.bind is (then or now)


@pytest.mark.parametrize(("then", "now"), [("batch", "other"), ("batch", None), ("", "batch")])
def test_another_application_is_another_right(then: str, now: str | None) -> None:
    found = origin_of(
        begin(replace(REGISTERED, application=then)), replace(COULD, application=now), CONSUMER.spiffe_id, NOW
    )
    assert isinstance(found, Refusal)
    assert found.reason is Reason.REGISTRAR_NOT_ALLOWED


def test_who_has_no_application_has_none_now() -> None:
    assert origin(replace(REGISTERED, application=""), replace(COULD, application=None)).subject == SCHEDULER


def test_the_registrar_is_decided_about_for_what_the_consumer_wants_of_it() -> None:
    whole = RedemptionWanted().request(REGISTERED)
    assert (whole.scopes, whole.audience, whole.application) == (("read", "write"), LEDGER, "batch")
    assert (whole.intent, whole.grant_type) == (REGISTERED.intent, GrantType.INTENT)
    asked = request_of_registrar(replace(REGISTERED, ttl=60_000_000, bind=True), whole)
    assert (asked.scopes, asked.ttl, asked.bind_certificate) == (("read", "write"), timedelta(minutes=1), True)
    assert (asked.allow_partial, asked.grant_type, asked.intent) == (True, GrantType.INTENT, REGISTERED.intent)
    narrow = RedemptionWanted(("write", "refund"), timedelta(seconds=30), True, True).request(REGISTERED)  # noqa: FBT003
    assert request_of_registrar(REGISTERED, narrow).scopes == ("write",)
    foreign = RedemptionWanted(("refund",)).request(replace(REGISTERED, application=""))
    assert request_of_registrar(replace(REGISTERED, application=""), foreign).scopes == ("read", "write")


def test_the_registrar_is_not_there_and_has_the_rest_of_the_consumers_svid() -> None:
    absent = stand_in(REGISTERED, CONSUMER)
    assert (str(absent.spiffe_id), absent.not_after) == (SCHEDULER, CONSUMER.not_after)
    assert (absent.certificate_sha256, absent.serial_number) == (bytes(32), 0)


BOTH = policy(
    grants(
        grant("registering", "[read, write]", SCHEDULER, grant_types="[intent]", application="batch"),
        grant("redeeming", "[read, write, report]", WORKER, grant_types="[intent]", application="batch"),
    )
)


@pytest.mark.parametrize(
    "selector",
    [
        {"workload": parse_pattern(SCHEDULER)},
        {"workload": parse_pattern(WORKER)},
        {"rule": "now"},
        {"rule": "batches"},
        {"rule": "redeeming"},
        {"policy": "sha256:now"},
        {"policy": "sha256:policy"},
        {"basis": f"intent/{REGISTERED.id}"},
        {"basis": f"subject/{SCHEDULER}"},
        {"basis": f"actor/{WORKER}"},
    ],
    ids=["A", "B", "rule now", "rule then", "rule of B", "policy now", "policy then", "intent", "subject", "actor"],
)
def test_whatever_hits_one_of_the_three_rights_stops_it(selector: dict[str, object]) -> None:
    stops = Revocation("1", Selector(**selector), TIME, "op", "why", stops_issuance=True)  # type: ignore[arg-type]
    wanted = RedemptionWanted().request(REGISTERED)
    granted = decide(BOTH, CONSUMER, wanted, {}, NOW, origin=origin())
    assert isinstance(granted, Grant)
    refused = decide(BOTH, CONSUMER, wanted, {}, NOW, origin=origin(), revocations=Revocations([stops]))
    assert isinstance(refused, Denial)
    assert refused.reason is Reason.REVOKED


@given(
    then=st.lists(st.sampled_from(["read", "write", "report"]), min_size=1, unique=True),
    now=st.lists(st.sampled_from(["read", "write", "report"]), min_size=1, unique=True),
    consumer=st.lists(st.sampled_from(["read", "write", "report"]), min_size=1, unique=True),
    asked=st.lists(st.sampled_from(["read", "write", "report"]), min_size=1, unique=True),
    lifetimes=st.tuples(*(st.integers(10, 600) for _ in range(4))),
)
def test_no_token_is_wider_or_lives_longer_than_any_of_the_three(
    then: list[str], now: list[str], consumer: list[str], asked: list[str], lifetimes: tuple[int, int, int, int]
) -> None:
    registered = replace(REGISTERED, scopes=tuple(then), lifetime=lifetimes[0])
    in_force = policy(
        grants(
            grant("a", f"[{', '.join(now)}]", SCHEDULER, grant_types="[intent]", application="batch",
                  max_ttl=f"{lifetimes[1]}s"),
            grant("b", f"[{', '.join(consumer)}]", WORKER, grant_types="[intent]", application="batch",
                  max_ttl=f"{lifetimes[2]}s"),
        )
    )  # fmt: skip
    wanted = RedemptionWanted(
        tuple(asked), timedelta(seconds=lifetimes[3]), bind_certificate=False, allow_partial=True
    ).request(registered)
    could = decide(in_force, stand_in(registered, CONSUMER), request_of_registrar(registered, wanted), {}, NOW)
    if isinstance(could, Denial):
        return
    found = origin_of(begin(registered), could, CONSUMER.spiffe_id, NOW)
    assert isinstance(found, Origin)
    granted = decide(in_force, CONSUMER, wanted, {}, NOW, origin=found)
    if isinstance(granted, Grant):
        assert set(granted.scopes) <= set(then) & set(now) & set(consumer) & set(asked)
        assert granted.lifetime.total_seconds() <= min(lifetimes)


def test_a_redemption_replays() -> None:
    wanted = RedemptionWanted().request(REGISTERED)
    granted = decide(BOTH, CONSUMER, wanted, {}, NOW, origin=origin())
    record = record_decision(
        granted,
        decision_id="0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55",
        caller=CONSUMER,
        peer="",
        request=wanted,
        facts={},
        now=NOW,
        minted=Minted("jti", 1, bytes(32)),
    )
    inputs = recorded(record)
    assert inputs.origin == origin()
    assert differing_fields(record, inputs, BOTH) == ()


def test_a_grant_of_another_type_redeems_nothing() -> None:
    other = policy(grants(grant("g", "[read, write]", WORKER, application="batch")))
    refused = decide(other, CONSUMER, RedemptionWanted().request(REGISTERED), {}, NOW, origin=origin())
    assert isinstance(refused, Denial)
    assert refused.reason is Reason.GRANT_TYPE_NOT_ALLOWED


def test_conditions_see_the_intent_that_was_registered() -> None:
    assert RedemptionWanted().request(REGISTERED).intent == Intent("settle-batch", "batch/17", transaction="tx-1")
