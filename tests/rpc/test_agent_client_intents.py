"""Both clients register and redeem intents at a real issuer; what one does, the other does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.clients import Clients, InItsLoop, claims_of
from support.deployment import LEDGER
from support.intending import OTHER, SCHEDULER, WORKER, Intending

from agent_client import (
    AccessDenied,
    IntentNotOpen,
    IntentState,
    InvalidTokenRequest,
    NotFound,
    PreconditionFailed,
    SyncIssuerClient,
)
from agent_client.verification import TokenVerifier
from agent_client.verification.key_sources import IssuerKeys
from issuer_testing.spire.authority import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def intending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intending]:
    with Intending(tmp_path_factory.mktemp("issuer")) as deployment:
        yield deployment


@pytest.fixture(params=[SyncIssuerClient, InItsLoop], ids=["sync", "asyncio"])
def clients(request: pytest.FixtureRequest) -> Clients:
    return Clients(request.param)


def test_one_registers_and_the_other_redeems_once(intending: Intending, clients: Clients) -> None:
    workload = intending.authority.workload
    with (
        clients.of(intending, workload(SCHEDULER)) as scheduler,
        clients.of(intending, workload(WORKER)) as worker,
        clients.of(intending, workload(OTHER)) as other,
    ):
        registered = scheduler.register_intent(
            LEDGER,
            ["ledger.settle"],
            operation="settle-batch",
            consumer=WORKER,
            resource="batch/17",
            parameters=b'{"batch":17}',
            transaction="tx-1",
            expires_at=utc_now() + timedelta(minutes=5),
            ttl=timedelta(seconds=60),
            bind_certificate=True,
        )
        assert (registered.state, registered.uses_left) == (IntentState.REGISTERED, 1)
        assert worker.get_intent(registered.name) == registered
        assert registered in worker.list_intents()
        with pytest.raises(NotFound):
            other.redeem_intent(registered.name)
        with pytest.raises(AccessDenied):
            scheduler.redeem_intent(registered.name)
        with pytest.raises(PreconditionFailed):
            worker.redeem_intent(registered.name, parameters=b'{"batch":18}')
        with pytest.raises(InvalidTokenRequest):
            worker.redeem_intent(registered.name, parameters=b"", parameters_digest="sha256:")
        issued = worker.redeem_intent(registered.name, parameters=b'{"batch":17}', ttl=timedelta(seconds=30))
        said = claims_of(issued)
        assert (said["sub"], said["client_id"], issued.certificate_bound) == (SCHEDULER, WORKER, True)
        assert issued.expires_at - issued.issued_at <= timedelta(seconds=30)
        with pytest.raises(IntentNotOpen) as refused:
            worker.redeem_intent(registered.name)
        assert refused.value.reason == "INTENT_NOT_OPEN"
        assert scheduler.get_intent(registered.name).state is IntentState.REDEEMED


def test_what_was_taken_back_is_not_redeemed(intending: Intending, clients: Clients) -> None:
    workload = intending.authority.workload
    with (
        clients.of(intending, workload(SCHEDULER)) as scheduler,
        clients.of(intending, workload(WORKER)) as worker,
    ):
        registered = scheduler.register_intent(LEDGER, ["ledger.read"], operation="report", consumer=WORKER)
        with pytest.raises(AccessDenied):
            worker.cancel_intent(registered.name)
        assert scheduler.cancel_intent(registered.name, reason="not today").state is IntentState.CANCELLED
        with pytest.raises(IntentNotOpen):
            worker.redeem_intent(registered.name)


def test_an_api_verifies_the_token_and_sees_who_acts_for_whom_and_to_do_what(intending: Intending) -> None:
    name = intending.register().name
    token = intending.redeem(name).token.token
    worker = intending.authority.workload(WORKER)
    with (
        SyncIssuerClient(intending.issuer.address, workload_api=worker.socket) as client,
        TokenVerifier(intending.issuer.url, LEDGER, keys=IssuerKeys(client), insecure_dev=True) as verifier,
    ):
        verified = verifier.verify(token, scopes=["ledger.settle"])
    assert (verified.subject, verified.client_id, verified.application) == (SCHEDULER, WORKER, "batch")
    assert verified.claims["act"]["sub"] == WORKER
    assert verified.claims["authorization_details"][0]["operation"] == "settle-batch"
