from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from agent_client.requests import TokenRequest
from agent_client.subject_token import SubjectToken
from agent_client.token_checks import (
    MAX_TOKEN_BYTES,
    CallerIdentity,
    authorization_details,
    issue_time,
    token_faults,
)
from issuer_api.v1 import issuer_service_pb2 as pb

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
CALLER = CallerIdentity("spiffe://prod.example/settler", bytes(32))
REQUEST = TokenRequest("https://a.test", ["read", "write"], timedelta(seconds=60))
THUMBPRINT = "A" * 43
HEADER = {"alg": "ES256", "typ": "at+jwt"}
CLAIMS = {
    "aud": "https://a.test",
    "sub": CALLER.spiffe_id,
    "client_id": CALLER.spiffe_id,
    "scope": "read write",
    "iat": SECONDS,
    "exp": SECONDS + 60,
    "jti": "id",
}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(claims: object = CLAIMS, header: object = HEADER) -> str:
    return f"{encoded(header)}.{encoded(claims)}.c2ln"


def answer(**changes: Any) -> pb.IssueTokenResponse:
    fields = {"token": token(), "scopes": ["read", "write"], "token_id": "id"}
    return pb.IssueTokenResponse(**({"expire_time": Timestamp(seconds=SECONDS + 60)} | fields | changes))


def faults(
    message: pb.IssueTokenResponse,
    request: TokenRequest = REQUEST,
    caller: CallerIdentity = CALLER,
    now: datetime = NOW,
) -> list[str]:
    return list(token_faults(message, request, caller, now))


def with_claims(**changes: Any) -> pb.IssueTokenResponse:
    return answer(token=token({name: value for name, value in (CLAIMS | changes).items() if value is not ...}))


REGISTRAR = "spiffe://prod.example/scheduler"
DELEGATED = {"sub": REGISTRAR, "act": {"sub": CALLER.spiffe_id, "iss": "spiffe://prod.example"}}


class TestOfAnIntent:
    def faults(self, on_behalf_of: str | None = REGISTRAR, **changes: Any) -> list[str]:
        return list(token_faults(with_claims(**DELEGATED | changes), REQUEST, CALLER, NOW, on_behalf_of))

    def test_the_other_is_the_subject_and_the_caller_acts(self) -> None:
        assert self.faults() == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"sub": CALLER.spiffe_id},
            {"sub": "spiffe://prod.example/other"},
            {"client_id": REGISTRAR},
            {"act": ...},
            {"act": None},
            {"act": {}},
            {"act": {"sub": REGISTRAR}},
            {"act": CALLER.spiffe_id + "x"},
            {"act": {"sub": "spiffe://prod.example/proxy", "act": {"sub": CALLER.spiffe_id}}},
        ],
        ids=str,
    )
    def test_a_token_of_anybody_else_is_not_taken(self, changes: dict[str, Any]) -> None:
        assert self.faults(**changes)

    def test_a_delegated_token_is_not_taken_where_the_caller_asked_for_itself(self) -> None:
        assert self.faults(on_behalf_of=None)
        assert self.faults(on_behalf_of=None, sub=CALLER.spiffe_id) == ["its token says that somebody else acts"]


def test_what_may_be_done_is_read_where_it_can_be() -> None:
    assert authorization_details(token(CLAIMS | {"authorization_details": [{"type": "a"}, 1]})) == [{"type": "a"}]
    assert authorization_details(token(CLAIMS | {"authorization_details": "a"})) == []
    assert authorization_details(token()) == []


def test_the_token_that_was_asked_for_has_no_faults() -> None:
    assert faults(answer()) == []


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_every_claim_is_needed(name: str) -> None:
    assert faults(with_claims(**{name: ...}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aud", "https://a.test/"),
        ("aud", ["https://a.test"]),
        ("sub", "spiffe://prod.example/Settler"),
        ("client_id", None),
        ("scope", "write read"),
        ("scope", ["read", "write"]),
        ("exp", str(SECONDS + 60)),
        ("exp", SECONDS + 61),
        ("iat", True),
        ("iat", SECONDS + 60),
        ("iat", -1),
        ("iat", -(2**70)),
        ("iat", float(SECONDS)),
        ("jti", ""),
        ("application", "payroll"),
    ],
)
def test_a_claim_with_another_value_is_a_fault(name: str, value: object) -> None:
    assert faults(with_claims(**{name: value}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        token().rpartition(".")[0] + ".",
        token(header=HEADER | {"typ": "JWT"}),
        token(header=HEADER | {"alg": "none"}),
        token(header={"typ": "at+jwt"}),
        token(claims=[]),
        token(header=[]),
        token(claims={"a": "b" * MAX_TOKEN_BYTES}),
        f"{encoded(HEADER)}.{base64.urlsafe_b64encode(b'[' * 9000).decode()}.c2ln",
        f"{encoded(HEADER)}.\xff\xff.c2ln",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_what_is_no_access_token_is_a_fault(text: str) -> None:
    assert faults(answer(token=text)) == ["its token is no signed access token (RFC 9068)"]


def test_no_fault_shows_the_token() -> None:
    odd = with_claims(aud="https://secret.test")
    assert odd.token not in " ".join(faults(odd))
    assert "secret" not in " ".join(faults(odd))


@pytest.mark.parametrize(
    ("granted", "refused", "partial", "fine"),
    [
        (["read", "write"], [], False, True),
        (["read", "write"], [], True, True),
        (["read"], ["write"], True, True),
        (["read"], ["write"], False, False),
        (["read"], [], True, False),
        (["write", "read"], [], False, False),
        (["read", "read", "write"], [], False, False),
        (["read", "admin"], [], False, False),
        (["read", "write", "admin"], [], True, False),
        ([], ["read", "write"], True, False),
        (["read", "write"], ["write"], True, False),
    ],
)
def test_scopes_are_those_asked_for(granted: list[str], refused: list[str], partial: bool, fine: bool) -> None:  # noqa: FBT001
    message = answer(token=token(CLAIMS | {"scope": " ".join(granted)}), scopes=granted, refused_scopes=refused)
    assert (faults(message, replace(REQUEST, allow_partial=partial)) == []) is fine


@pytest.mark.parametrize(("ahead", "fine"), [(60, True), (64, True), (65, False), (66, False)])
def test_a_token_may_have_expired_by_the_leeway_at_most(ahead: int, fine: bool) -> None:  # noqa: FBT001
    assert (faults(answer(), now=NOW + timedelta(seconds=ahead)) == []) is fine


def test_a_clock_that_is_behind_is_no_fault() -> None:
    assert faults(answer(), now=NOW - timedelta(hours=1)) == []


def test_the_time_of_issue_is_read_from_the_token() -> None:
    assert issue_time(token()) == NOW
    with pytest.raises(ValueError, match="issued"):
        issue_time("")


@pytest.mark.parametrize(("asked", "fine"), [(None, True), (61, True), (60, True), (59.5, True), (59, False)])
def test_a_token_lives_no_longer_than_asked(asked: float | None, fine: bool) -> None:  # noqa: FBT001
    ttl = None if asked is None else timedelta(seconds=asked)
    assert (faults(answer(), replace(REQUEST, ttl=ttl)) == []) is fine


@pytest.mark.parametrize(
    ("asked", "confirmation", "fine"),
    [
        (False, ..., True),
        (True, ..., False),
        (True, {"x5t#S256": THUMBPRINT}, True),
        (False, {"x5t#S256": THUMBPRINT}, True),
        (False, {"x5t#S256": "B" * 43}, False),
        (True, {"x5t#S256": "B" * 43}, False),
        (False, {"jkt": THUMBPRINT}, False),
        (False, THUMBPRINT, False),
    ],
)
def test_a_binding_is_to_the_callers_certificate(asked: bool, confirmation: object, fine: bool) -> None:  # noqa: FBT001
    message = with_claims(cnf=confirmation)
    assert (faults(message, replace(REQUEST, bind_certificate=asked)) == []) is fine


@pytest.mark.parametrize(
    ("asked", "said", "claimed", "fine"),
    [
        (None, "", ..., True),
        (None, "payments", "payments", True),
        ("payments", "payments", "payments", True),
        ("payments", "", ..., False),
        ("payments", "payroll", "payroll", False),
        (None, "payments", ..., False),
        (None, "", "payments", False),
    ],
)
def test_the_application_is_the_same_everywhere(asked: str | None, said: str, claimed: object, fine: bool) -> None:  # noqa: FBT001
    message = with_claims(application=claimed)
    message.application = said
    assert (faults(message, replace(REQUEST, application=asked)) == []) is fine


def test_a_validation_has_no_token() -> None:
    request = replace(REQUEST, validate_only=True)
    assert faults(answer(token="", token_id=""), request) == []
    assert faults(answer(), request) == ["it has a token although none was to be issued"]


class TestOnBehalfOfASubjectToken:
    SUBJECT = "spiffe://prod.example/alice"
    SUBJECT_TOKEN = SubjectToken(token({"sub": SUBJECT, "exp": SECONDS + 60}))
    REQUEST = replace(REQUEST, on_behalf_of=SUBJECT_TOKEN)
    ACT = {"sub": CALLER.spiffe_id, "iss": "https://issuer.test"}  # noqa: RUF012 - not changed

    def test_the_token_names_whom_it_is_for_and_who_acts(self) -> None:
        assert faults(with_claims(sub=self.SUBJECT, act=self.ACT), self.REQUEST) == []

    def test_ones_own_token_that_is_narrowed_needs_no_actor(self) -> None:
        own = replace(REQUEST, on_behalf_of=SubjectToken(token({"sub": CALLER.spiffe_id})))
        assert faults(answer(), own) == []

    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"sub": SUBJECT},
            {"sub": "spiffe://prod.example/mallory", "act": ACT},
            {"sub": SUBJECT, "act": {**ACT, "sub": "spiffe://prod.example/mallory"}},
            {"sub": SUBJECT, "act": "spiffe://prod.example/settler"},
            {"sub": SUBJECT, "act": ACT, "client_id": SUBJECT},
        ],
    )
    def test_another_subject_or_actor_is_a_fault(self, claims: dict[str, Any]) -> None:
        assert faults(with_claims(**claims), self.REQUEST)

    def test_who_acts_for_itself_gets_no_token_of_another(self) -> None:
        assert faults(with_claims(sub=self.SUBJECT, act=self.ACT))
