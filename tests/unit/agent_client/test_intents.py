"""Intents as messages and answers: what is sent, and which answers are not taken."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agent_client import intents
from agent_client.errors import AnswerRejected, InvalidTokenRequest
from agent_client.exchanges import Circumstances
from agent_client.intent_calls import MAX_PAGES, IntentCalls, SyncIntentCalls
from agent_client.intents import IntentRequest, IntentState, Redemption, parameters_digest, registered_intent
from agent_client.requests import TokenRequest
from agent_client.token_checks import CallerIdentity
from issuer_api.v1 import intent_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2 as issuer_pb

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
WORKER, SCHEDULER = "spiffe://prod.example/worker", "spiffe://prod.example/scheduler"
CALL = Circumstances(CallerIdentity(WORKER, bytes(32)), 0.0, NOW)
TOKEN = TokenRequest("https://a.test", ["settle"], timedelta(seconds=60), "batch", bind_certificate=True)
REQUEST = IntentRequest(TOKEN, "settle-batch", WORKER)
INTENT = pb.RegisteredIntent(
    name="intents/1",
    state=pb.RegisteredIntent.STATE_REGISTERED,
    registrar=SCHEDULER,
    consumer=WORKER,
    audience="https://a.test",
    scopes=["settle"],
    application="batch",
    operation="settle-batch",
    not_before=Timestamp(seconds=SECONDS),
    expire_time=Timestamp(seconds=SECONDS + 3600),
    uses=1,
    uses_left=1,
    max_ttl=Duration(seconds=60),
    decision_id="d",
)


def sent(**changes: Any) -> pb.RegisterIntentRequest:
    fields = {name: getattr(REQUEST, name) for name in REQUEST.__slots__} | changes
    message = intents.register_intent(IntentRequest(**fields)).message
    assert isinstance(message, pb.RegisterIntentRequest)
    return message


class TestRegistering:
    def test_all_that_is_said_is_sent(self) -> None:
        message = sent(
            resource="batch/17",
            parameters=b"{}",
            transaction="tx-1",
            not_before=NOW,
            expires_at=NOW + timedelta(hours=1),
            uses=3,
            request_id="job-7",
        )
        assert (message.audience, list(message.scopes), message.application) == ("https://a.test", ["settle"], "batch")
        assert (message.operation, message.resource, message.consumer) == ("settle-batch", "batch/17", WORKER)
        assert (message.parameters, message.transaction, message.uses) == (b"{}", "tx-1", 3)
        assert (message.not_before.seconds, message.expire_time.seconds) == (SECONDS, SECONDS + 3600)
        assert (message.ttl.seconds, message.request_id) == (60, "job-7")
        assert message.proof_binding == issuer_pb.PROOF_BINDING_TLS_CERTIFICATE

    def test_what_is_not_said_is_not_sent(self) -> None:
        message = sent(token=TokenRequest("https://a.test", ["settle"]))
        for field in ("ttl", "not_before", "expire_time", "proof_binding", "parameters", "parameters_digest"):
            assert not message.HasField(field)

    def test_a_request_that_is_not_named_has_a_name_of_its_own_which_its_retries_share(self) -> None:
        exchange = intents.register_intent(REQUEST)
        assert exchange.message == exchange.message
        assert len(sent().request_id) > 20
        assert sent().request_id != sent().request_id

    def test_the_digest_stands_for_parameters_that_are_not_sent(self) -> None:
        assert sent(parameters_digest=parameters_digest(b"{}")).parameters_digest.startswith("sha256:44136f")
        with pytest.raises(InvalidTokenRequest):
            sent(parameters=b"{}", parameters_digest=parameters_digest(b"{}"))

    def test_a_time_without_its_zone_is_a_mistake_of_the_program(self) -> None:
        with pytest.raises(TypeError, match="time zone"):
            sent(expires_at=datetime(2026, 11, 24, 12, 0))  # noqa: DTZ001 - what is attacked

    def test_a_text_that_is_no_unicode_cannot_be_sent(self) -> None:
        with pytest.raises(InvalidTokenRequest):
            sent(operation="\ud800")


def told(**changes: Any) -> pb.RegisteredIntent:
    message = pb.RegisteredIntent()
    message.CopyFrom(INTENT)
    for name, value in changes.items():
        if hasattr(value, "DESCRIPTOR"):
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


class TestAnswers:
    def test_an_intent_reads_as_it_was_told(self) -> None:
        known = registered_intent(INTENT)
        assert (known.name, known.state, known.registrar, known.consumer) == (
            "intents/1", IntentState.REGISTERED, SCHEDULER, WORKER,
        )  # fmt: skip
        assert (known.not_before, known.expires_at) == (NOW, NOW + timedelta(hours=1))
        assert (known.resource, known.parameters_digest, known.transaction) == (None, None, None)
        assert known.max_ttl == timedelta(seconds=60)

    def test_a_state_that_this_client_does_not_know_is_unknown(self) -> None:
        states = [registered_intent(told(state=number)).state for number in (*range(1, 6), 0, 99)]
        assert states == [*list(IntentState)[:5], IntentState.UNKNOWN, IntentState.UNKNOWN]

    def test_what_cannot_be_read_is_not_taken(self) -> None:
        with pytest.raises(AnswerRejected):
            registered_intent(told(expire_time=Timestamp(seconds=1 << 60)))

    def test_each_exchange_names_its_method(self) -> None:
        for exchange, method in (
            (intents.register_intent(REQUEST), "RegisterIntent"),
            (intents.get_intent("intents/1"), "GetIntent"),
            (intents.list_intents("intents/1"), "ListIntents"),
            (intents.cancel_intent("intents/1", "why"), "CancelIntent"),
            (intents.redeem_intent(Redemption("intents/1")), "RedeemIntent"),
        ):
            assert exchange.method == f"/issuer_api.v1.IntentService/{method}"


def redeemed(redemption: Redemption, intent: pb.RegisteredIntent = INTENT, **claims: Any) -> Any:
    said = {
        "aud": "https://a.test", "sub": SCHEDULER, "client_id": WORKER, "act": {"sub": WORKER, "iss": "x"},
        "scope": "settle", "iat": SECONDS, "exp": SECONDS + 60, "jti": "id", "application": "batch",
        "authorization_details": [{"type": "spiffe-issuer-intent", "parameters_digest": parameters_digest(b"{}")}],
    } | claims  # fmt: skip
    parts = ({"alg": "ES256", "typ": "at+jwt"}, said)
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    token = issuer_pb.IssueTokenResponse(
        token=f"{text}.c2ln",
        scopes=["settle"],
        token_id="id",
        application="batch",
        expire_time=Timestamp(seconds=SECONDS + 60),
    )
    return intents.redeem_intent(redemption).read(pb.RedeemIntentResponse(token=token, intent=intent), CALL)


class TestRedeeming:
    def test_what_is_asked_is_sent(self) -> None:
        redemption = Redemption("intents/1", "sha256:x", ("settle",), timedelta(seconds=5), True, True)  # noqa: FBT003
        message = intents.redeem_intent(redemption).message
        assert isinstance(message, pb.RedeemIntentRequest)
        assert (message.name, message.parameters_digest, list(message.scopes)) == ("intents/1", "sha256:x", ["settle"])
        assert (message.ttl.seconds, message.allow_partial) == (5, True)
        assert message.proof_binding == issuer_pb.PROOF_BINDING_TLS_CERTIFICATE
        plain = intents.redeem_intent(Redemption("intents/1")).message
        assert isinstance(plain, pb.RedeemIntentRequest)
        assert not plain.HasField("ttl")
        assert not plain.HasField("proof_binding")

    def test_a_token_on_behalf_of_the_registrar_is_taken(self) -> None:
        issued = redeemed(Redemption("intents/1", parameters_digest(b"{}")))
        assert (issued.scopes, issued.subject) == (("settle",), SCHEDULER)
        assert redeemed(Redemption("intents/1"), authorization_details=[]).token_id == "id"

    @pytest.mark.parametrize(
        "claims",
        [
            {"sub": WORKER},
            {"act": {"sub": SCHEDULER}},
            {"client_id": SCHEDULER},
            {"aud": "https://b.test"},
            {"authorization_details": []},
            {"authorization_details": [{"parameters_digest": parameters_digest(b"other")}]},
        ],
        ids=str,
    )
    def test_another_token_is_not(self, claims: dict[str, Any]) -> None:
        with pytest.raises(AnswerRejected):
            redeemed(Redemption("intents/1", parameters_digest(b"{}")), **claims)

    @pytest.mark.parametrize("changes", [{"name": "intents/2"}, {"consumer": SCHEDULER}])
    def test_the_answer_for_another_intent_is_not(self, changes: dict[str, Any]) -> None:
        with pytest.raises(AnswerRejected):
            redeemed(Redemption("intents/1"), told(**changes))


class _Endless(SyncIntentCalls):
    def __init__(self) -> None:
        self.pages = 0

    def _call(self, exchange: Any, timeout: float | None) -> Any:
        self.pages += 1
        return [registered_intent(INTENT)], f"more {timeout}"


class _EndlessToo(IntentCalls):
    async def _call(self, exchange: Any, timeout: float | None) -> Any:  # noqa: ASYNC109 - as the client
        return [registered_intent(INTENT)], f"more {timeout}"


async def test_a_list_without_end_is_given_up() -> None:
    endless = _Endless()
    with pytest.raises(AnswerRejected):
        endless.list_intents()
    assert endless.pages == MAX_PAGES + 1
    with pytest.raises(AnswerRejected):
        await _EndlessToo().list_intents()


def test_a_client_brings_its_own_way_to_call() -> None:
    with pytest.raises(NotImplementedError):
        SyncIntentCalls().get_intent("intents/1")


async def test_so_does_one_for_asyncio() -> None:
    with pytest.raises(NotImplementedError):
        await IntentCalls().get_intent("intents/1")
