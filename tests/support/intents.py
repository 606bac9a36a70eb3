"""Intents for tests: what is registered, its steps, and decisions that redeem it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from issuer.core.decision import Grant, LifetimeBound
from issuer.core.instants import microseconds, moment
from issuer.core.intent_redemption import origin_of
from issuer.core.intent_registration import Registration, parameters_digest
from issuer.core.intent_state import Step, StepKind
from issuer.core.intent_steps import registration_text, step_text
from issuer.core.ledger_entries import INTENT, INTENT_CANCELLED, INTENT_EXPIRED, INTENT_REGISTERED, StepTaken
from issuer.core.origin import Origin, origin_text
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType
from issuer.system import RandomIds, SystemClock
from support.ledgers import record

if TYPE_CHECKING:
    from issuer.core.intent_state import RegisteredIntent
    from issuer.core.record import DecisionRecord

SCHEDULER = "spiffe://prod.example/ns/batch/sa/scheduler"
WORKER = "spiffe://prod.example/ns/batch/sa/worker"
MINUTES = 60_000_000


def registration(*, age: int = 0, **changes: Any) -> Registration:
    """Return a registration of now, or of ``age`` microseconds ago, for an hour."""
    now = microseconds(SystemClock().now()) - age
    usual = Registration(
        id=RandomIds().fresh_id(SystemClock().now()),
        registrar=SCHEDULER,
        consumer=WORKER,
        audience="https://ledger.example",
        application="batch",
        scopes=("settle", "read"),
        operation="settle-batch",
        resource="batch/17",
        parameters=parameters_digest(b"{}"),
        transaction="tx-1",
        not_before=now,
        expires_at=now + 60 * MINUTES,
        uses=1,
        ttl=None,
        lifetime=300,
        bind=False,
        rules=("batches",),
        policy="sha256:policy",
        decision="decision",
        created=now,
        request_id="",
        request="sha256:request",
    )
    return replace(usual, **changes)


def registered(asked: Registration) -> StepTaken:
    """Return the step that registers."""
    text = registration_text(asked)
    return StepTaken(INTENT_REGISTERED, INTENT, asked.id, 1, asked.created, asked.registrar, text, asked.over_at)


def cancelled(asked: Registration, by: str = SCHEDULER, number: int = 2) -> StepTaken:
    """Return the step that takes back."""
    said = step_text(Step(StepKind.CANCEL, by))
    return StepTaken(INTENT_CANCELLED, INTENT, asked.id, number, asked.created + 1, by, said, asked.over_at)


def expired(asked: Registration, number: int = 2) -> StepTaken:
    """Return the step that tells that it expired."""
    said = step_text(Step(StepKind.EXPIRE, ""))
    return StepTaken(INTENT_EXPIRED, INTENT, asked.id, number, asked.expires_at, "", said, asked.over_at)


def using(intent: RegisteredIntent, **changes: Any) -> DecisionRecord:
    """Return a decision that redeems an intent, in a moment of its window."""
    could = Grant(
        audience=intent.registration.audience,
        scopes=intent.registration.scopes,
        lifetime=timedelta(seconds=60),
        lifetime_bound=LifetimeBound.GRANT,
        application=intent.registration.application,
        bind_certificate=False,
        rule_ids=("batches",),
        refused_scopes=(),
        policy_digest="sha256:policy",
        lifetime_rule="batches",
        grant_type=GrantType.INTENT,
    )
    time = intent.registration.not_before
    origin = origin_of(intent, could, SpiffeId.parse(intent.registration.consumer), moment(time))
    assert isinstance(origin, Origin)
    usual: dict[str, Any] = {"caller": intent.registration.consumer, "time": time, "origin": origin_text(origin)}
    return record(**usual | changes)
