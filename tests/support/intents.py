"""Intents for tests: what is registered, its steps, and decisions that redeem it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from issuer.core.instants import microseconds
from issuer.core.intent_registration import Registration, parameters_digest
from issuer.system import RandomIds, SystemClock

SCHEDULER = "spiffe://prod.example/ns/batch/sa/scheduler"
WORKER = "spiffe://prod.example/ns/batch/sa/worker"
MINUTES = 60_000_000


def registration(*, age: int = 0, **changes: Any) -> Registration:
    """Return a registration of now, or of ``age`` microseconds ago, for an hour."""
    now = microseconds(SystemClock().now()) - age
    usual = Registration(
        id=RandomIds().decision_id(SystemClock().now()),
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
