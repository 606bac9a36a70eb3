"""The token of another, as the client handles it: it does not leak, and what comes for it is held to it."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from typing import Any

import pytest
from support.forging import as_json, encoded
from support.kept_tokens import AUDIENCE, Flight, Keeper, fail, fetch, token

from agent_client import exchanges
from agent_client.access_token import AccessToken
from agent_client.errors import InvalidTokenRequest, SubjectTokenNotTaken
from agent_client.requests import TokenRequest, exchange_request_to_proto
from agent_client.subject_token import SubjectToken, SubjectTokenType
from agent_client.tokens.cache import NEVER, TokenCache
from issuer_api.v1 import issuer_service_pb2 as pb

ALICE = "spiffe://prod.example/alice"


def text_of(**claims: Any) -> str:
    return f"e30.{encoded(as_json({'sub': ALICE, 'exp': 2_000_000_000, **claims}))}.c2ln"


def test_reads_whom_it_is_about_and_when_it_ends() -> None:
    subject = SubjectToken(AccessToken(text_of()))
    assert (subject.name, subject.ends_at, subject.type) == (ALICE, 2_000_000_000, SubjectTokenType.ACCESS_TOKEN)
    person = SubjectToken(text_of(iss="https://login.example", sub="auth0|a"), SubjectTokenType.ID_TOKEN)
    assert person.name == "https://login.example#auth0%7Ca"


@pytest.mark.parametrize("text", ["x", "a.b.c", text_of(sub=7, exp="soon"), "ä.ä.ä"])
def test_what_cannot_be_read_is_for_the_issuer_to_refuse(text: str) -> None:
    subject = SubjectToken(text)
    assert (subject.name, subject.ends_at) == (None, None)


@pytest.mark.parametrize("claims", [{"iss": 7}, {"iss": "https://a", "sub": "\ud800"}])
def test_a_person_that_cannot_be_named_has_no_name(claims: dict[str, Any]) -> None:
    assert SubjectToken(text_of(**claims), SubjectTokenType.ID_TOKEN).name is None


def test_two_of_one_text_and_type_are_equal_and_share_a_kept_token() -> None:
    one, same = SubjectToken(text_of()), SubjectToken(text_of())
    others = SubjectToken(text_of(exp=1)), SubjectToken(text_of(), SubjectTokenType.JWT_SVID)
    assert one == same
    assert hash(one) == hash(same)
    assert all(one != other for other in others)
    cache: TokenCache[Flight] = TokenCache()
    entry = cache.entry(TokenRequest(AUDIENCE, ["a"], on_behalf_of=one))
    assert cache.entry(TokenRequest(AUDIENCE, ["a"], on_behalf_of=same)) is entry
    assert cache.entry(TokenRequest(AUDIENCE, ["a"])) is not entry


def test_does_not_leak() -> None:
    subject = SubjectToken(text_of())
    request = TokenRequest(AUDIENCE, ["a"], on_behalf_of=subject)
    assert subject.reveal() not in f"{subject!r} {subject} {request!r}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(request)
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(subject)
    with pytest.raises(ValueError, match="empty"):
        SubjectToken("")


def test_is_sent_with_what_is_asked() -> None:
    subject = SubjectToken(text_of(), SubjectTokenType.JWT_SVID)
    request = TokenRequest(AUDIENCE, ["a"], timedelta(seconds=60), on_behalf_of=subject)
    message = exchange_request_to_proto(request, subject)
    assert (message.subject_token, message.subject_token_type) == (text_of(), pb.SUBJECT_TOKEN_TYPE_JWT_SVID)
    assert (message.request.audience, message.request.ttl.seconds) == (AUDIENCE, 60)
    assert exchanges.issue_token(request).method.endswith("/ExchangeToken")
    with pytest.raises(ValueError, match="exchange_token"):
        exchanges.issue_tokens([request])


def test_a_token_that_is_no_unicode_is_not_sent() -> None:
    subject = SubjectToken("\ud800")
    with pytest.raises(InvalidTokenRequest, match="no Unicode"):
        exchange_request_to_proto(TokenRequest(AUDIENCE, ["a"], on_behalf_of=subject), subject)


class TestKept:
    """A token on behalf of another is renewed as long as the other's token lets it live longer."""

    def entry(self, cache: TokenCache[Flight], ends_at: int | None) -> Any:
        claims = {} if ends_at is None else {"exp": ends_at}
        subject = SubjectToken(text_of(**claims))
        return cache.entry(TokenRequest(AUDIENCE, ["a"], on_behalf_of=subject))

    def test_is_renewed_while_the_subject_token_lives_longer(self) -> None:
        cache: TokenCache[Flight] = TokenCache()
        entry = self.entry(cache, int(token().expires_at.timestamp()) + 3)
        fetch(cache, entry, 0.0)
        assert entry.renewable
        assert cache.next_due() < NEVER

    def test_is_not_renewed_once_it_ends_with_the_subject_token(self) -> None:
        cache: TokenCache[Flight] = TokenCache()
        entry = self.entry(cache, int(token().expires_at.timestamp()) + 2)
        fetch(cache, entry, 0.0)
        assert not entry.renewable
        assert cache.next_due() == NEVER
        assert cache.look(entry, 0.0) is entry.good
        assert cache.next_due() == NEVER

    def test_is_not_asked_for_again_in_the_background_once_the_subject_token_is_not_taken(self) -> None:
        cache: TokenCache[Flight] = TokenCache()
        entry = self.entry(cache, None)
        keeper = Keeper()
        entry.keepers.add(keeper)
        fail(cache, entry, SubjectTokenNotTaken("it was revoked"), 0.0)
        assert cache.due(NEVER) is None
        with pytest.raises(SubjectTokenNotTaken):
            cache.look(entry, 0.1)
        fetch(cache, entry, 100.0)
        assert entry.good is not None
