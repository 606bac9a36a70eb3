"""What is taken and what is refused, by what was told and when it was last heard."""

from __future__ import annotations

import threading

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from support.dead_tokens import AUDIENCE, KEY, NOW, beginning, dead, dead_kind, position, token

from agent_client.errors import AnswerRejected
from agent_client.verification import RejectionReason, RevocationsUnavailable, TokenRejected, VerifiedToken
from agent_client.verification.revocations_news import Position, RevocationNews, revocation_news, watch_revocations
from agent_client.verification.revocations_set import LEEWAY_SECONDS, RevokedTokens, TooManyRevoked
from agent_client.verification.revocations_state import BeginAnew, RevocationState
from issuer_api.v1 import issuer_service_pb2 as pb

SILENCE = 10.0
UNKNOWN = "unknown"


def state(*news: RevocationNews, unknown_allowed: tuple[str, ...] = (), most: int = 100) -> RevocationState:
    made = RevocationState(SILENCE, unknown_allowed, most)
    for each in news:
        made.take(each, 0, NOW)
    return made


def outcome(of: RevocationState, of_token: VerifiedToken | None = None, now: float = 0) -> str:
    try:
        of.refuse_revoked(of_token or token(), KEY, now)
    except TokenRejected as error:
        return error.reason
    except RevocationsUnavailable:
        return UNKNOWN
    return "OK"


def test_at_the_start_nothing_is_known() -> None:
    assert outcome(state()) == UNKNOWN
    assert outcome(state(unknown_allowed=("read",))) == "OK"
    assert state().position is None


def test_all_has_to_be_told_before_anything_is_known() -> None:
    told = state(beginning(), dead("t2"))
    assert [outcome(told, token(each)) for each in ("t1", "t2")] == [UNKNOWN, UNKNOWN]
    assert told.take(position(3), 0, NOW)
    assert [outcome(told, token(each)) for each in ("t1", "t2")] == ["OK", RejectionReason.REVOKED]
    assert told.position == Position(3, "ledger-1")


def test_what_dies_later_is_dead_at_once_without_a_position() -> None:
    told = state(beginning(), position(1), dead("t1"))
    assert outcome(told) == RejectionReason.REVOKED


def test_silence_is_borne_until_its_bound() -> None:
    told = state(beginning(), dead("t2"), position(1), unknown_allowed=("read", "list"))
    write = token(scopes=("read", "write"))
    assert outcome(told, write, SILENCE - 0.01) == "OK"
    assert outcome(told, write, SILENCE) == UNKNOWN
    assert outcome(told, token(scopes=("read", "list")), SILENCE) == "OK", "all its scopes are open"
    assert outcome(told, token(scopes=()), SILENCE) == UNKNOWN
    assert outcome(told, token("t2"), SILENCE) == RejectionReason.REVOKED, "known is known"
    assert not told.is_current(SILENCE)
    told.take(position(1), SILENCE + 5, NOW)
    assert outcome(told, write, SILENCE + 5) == "OK"


def test_a_message_without_a_position_does_not_count_as_word_that_all_is_known() -> None:
    told = state(beginning(), position(1))
    assert not told.take(dead("t9"), 9, NOW)
    assert outcome(told, now=SILENCE) == UNKNOWN


def test_another_issuer_or_audience_is_not_covered() -> None:
    told = state(beginning(), dead("t1"), position(1))
    assert outcome(told, token(issuer="https://other.test")) == UNKNOWN, "not even refused: it is another's t1"
    assert outcome(told, token("t2", audience="https://other.test")) == UNKNOWN


def test_a_resumed_stream_adds_and_one_that_is_not_replaces_what_was_known() -> None:
    told = state(beginning(), dead("t1"), position(1))
    for news in (beginning(resumed=True), dead("t2"), position(2)):
        told.take(news, 0, NOW)
    assert [outcome(told, token(each)) for each in ("t1", "t2", "t3")] == [RejectionReason.REVOKED] * 2 + ["OK"]
    for news in (beginning(ledger="ledger-2"), dead("t3")):
        told.take(news, 0, NOW)
    assert outcome(told) == RejectionReason.REVOKED, "in force until all is told"
    told.take(position(1), 0, NOW)
    assert [outcome(told, token(each)) for each in ("t1", "t2", "t3")] == ["OK", "OK", RejectionReason.REVOKED]
    assert told.position == Position(1, "ledger-2")


@pytest.mark.parametrize(
    "changed",
    [{"audiences": frozenset({AUDIENCE, "https://new.test"})}, {"issuer": "https://other.test"}],
    ids=["one more audience", "another issuer"],
)
def test_a_stream_that_goes_on_about_more_than_before_has_left_something_out(changed: dict[str, str]) -> None:
    told = state(beginning(), position(5))
    with pytest.raises(BeginAnew):
        told.take(beginning(resumed=True, **changed), 0, NOW)
    assert told.position is None
    assert outcome(told) == "OK", "of what was covered all is known"


def test_a_stream_that_goes_on_from_nothing_is_refused() -> None:
    with pytest.raises(BeginAnew):
        state(beginning(resumed=True))


def test_a_stream_that_does_not_say_what_it_is_about_is_refused() -> None:
    with pytest.raises(BeginAnew):
        state(position(1))


def test_a_position_of_before_is_taken_for_what_it_says() -> None:
    """A replica that is behind, or one that replays: what is known stays, and is asked for again."""
    told = state(beginning(), dead("t1"), position(5))
    told.take(position(3), 1, NOW)
    assert outcome(told) == RejectionReason.REVOKED
    assert told.position == Position(3, "ledger-1")


@pytest.mark.parametrize("news", [dead("t3", "t4"), dead_kind("r1")], ids=["ids", "kind"])
def test_with_more_than_it_may_keep_nothing_is_known_and_the_known_stays_dead(news: RevocationNews) -> None:
    told = state(beginning(), dead("t1", "t2"), position(1), most=2)
    with pytest.raises(TooManyRevoked):
        told.take(news, 0, NOW)
    assert [outcome(told, token(each)) for each in ("t1", "t5")] == [RejectionReason.REVOKED, UNKNOWN]
    assert told.position is None
    assert told.kept == 2


def test_tokens_are_forgotten_when_no_verifier_takes_them_any_more() -> None:
    known = RevokedTokens(10)
    known.learn(dead("t1", end=NOW))
    known.learn(dead("t1", end=NOW))
    known.learn(dead("t2", end=NOW + 600))
    known.forget(NOW + LEEWAY_SECONDS - 1)
    assert len(known) == 2
    known.forget(NOW + LEEWAY_SECONDS + 60)
    assert (len(known), known.has(token("t1"), KEY), known.has(token("t2"), KEY)) == (1, False, True)
    known.forget(NOW + 10**6)
    assert len(known) == 0


def test_many_are_forgotten_in_steps() -> None:
    known = RevokedTokens(10_000)
    known.learn(dead(*(f"t{number}" for number in range(2_500)), end=NOW))
    known.forget(NOW + 1_000)
    assert len(known) == 0


def test_those_who_look_see_one_state_while_it_changes() -> None:
    """Never is a token that was dead before and after taken in between."""
    told = state(beginning(), dead("t1"), dead_kind("r1", audience="none"), position(1))
    stop, taken = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if outcome(told) != RejectionReason.REVOKED:
                taken.append(1)

    looking = threading.Thread(target=look)
    looking.start()
    for version in range(300):
        for news in (beginning(), dead("t1"), dead_kind("r1", audience="none"), position(version)):
            told.take(news, 0, NOW)
    stop.set()
    looking.join()
    assert not taken


CONTRADICTIONS = {
    "no issuer": pb.WatchRevocationsResponse(beginning=pb.WatchBeginning(ledger="l")),
    "no ledger": pb.WatchRevocationsResponse(beginning=pb.WatchBeginning(issuer="i")),
    "no ends": pb.WatchRevocationsResponse(dead=[pb.DeadTokens(token_ids=["a", "b"], token_expire_seconds=[1])]),
    "everything, by nobody": pb.WatchRevocationsResponse(dead=[pb.DeadTokens()]),
}


@pytest.mark.parametrize("message", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_messages_that_contradict_themselves_are_refused(message: pb.WatchRevocationsResponse) -> None:
    with pytest.raises(AnswerRejected):
        revocation_news(message)


def test_a_message_is_read_whole() -> None:
    message = pb.WatchRevocationsResponse(
        dead=[
            pb.DeadTokens(token_ids=["a"], token_expire_seconds=[7]),
            pb.DeadTokens(revocation_id="r", workload="w", application="x", audience="u", key_id="k"),
            pb.DeadTokens(
                revocation_id="s",
                issued_from=Timestamp(seconds=1),
                issued_until=Timestamp(seconds=2),
                forget_time=Timestamp(seconds=3),
            ),
        ],
        position=4,
    )
    news = revocation_news(message)
    assert [(each.token_ids, each.ends) for each in news.ids] == [(("a",), (7,))]
    one, two = news.kinds
    assert (one.workload, one.application, one.audience, one.key_id, one.issued_from) == ("w", "x", "u", "k", None)
    assert (two.issued_from, two.issued_until, two.forget_at, news.version) == (1, 2, 3, 4)


def test_what_is_asked_for() -> None:
    assert watch_revocations(None).message == pb.WatchRevocationsRequest()
    assert watch_revocations(Position(7, "l")).message == pb.WatchRevocationsRequest(after=7, ledger="l")
