"""TokenVerifier with status lists, against a real HTTP side that is good, bad or away."""

from __future__ import annotations

import asyncio
import os
import zlib
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from support.eventually import eventually
from support.forging import OMIT, Forge, encoded
from support.key_server import answer_status
from support.minting import AUDIENCE
from support.status_lists import PATH, ListServer, list_server

from agent_client.clock import utc_now
from agent_client.verification import (
    RejectionReason,
    RevocationsUnavailable,
    StatusLists,
    TokenRejected,
    TokenVerifier,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def issuer() -> Iterator[ListServer]:
    with list_server(4, 6) as running:
        yield running


def verifier(issuer: ListServer, status: StatusLists | None = None) -> TokenVerifier:
    return TokenVerifier(issuer.issuer, AUDIENCE, status=status or StatusLists())


def reason(verifier: TokenVerifier, token: str) -> RejectionReason:
    with pytest.raises(TokenRejected) as refused:
        verifier.verify(token)
    return refused.value.reason


def entry(issuer: ListServer, idx: object) -> str:
    return issuer.token(status={"status_list": {"idx": idx, "uri": issuer.uri}})


def test_takes_a_valid_token_and_asks_once(issuer: ListServer) -> None:
    with verifier(issuer) as ours:
        assert ours.verify(issuer.token()).token_id == "token-1"
        assert ours.verify(entry(issuer, 0)).token_id == "token-1"
    assert issuer.fetches == 1


@pytest.mark.parametrize("idx", [4, 6])
def test_refuses_a_revoked_token(issuer: ListServer, idx: int) -> None:
    with verifier(issuer) as ours:
        assert reason(ours, entry(issuer, idx)) is RejectionReason.REVOKED


async def test_does_so_in_an_event_loop_which_goes_on_meanwhile(issuer: ListServer) -> None:
    async with verifier(issuer) as ours:
        wanted = (issuer.token(), entry(issuer, 4), issuer.token(status=OMIT))
        good, revoked, plain = await asyncio.gather(*map(ours.verify_async, wanted), return_exceptions=True)
        assert not isinstance(good, BaseException)
        assert isinstance(revoked, TokenRejected)
        assert not isinstance(plain, BaseException)
    assert issuer.fetches == 1


def test_a_suspended_token_or_one_of_an_unknown_status_is_not_taken(issuer: ListServer) -> None:
    lists = {"bits": 4, "lst": encoded(zlib.compress(bytes([0x20, 0x0F])))}
    issuer.show(issuer.listed(status_list=lists))
    with verifier(issuer) as ours:
        assert ours.verify(entry(issuer, 0))
        assert reason(ours, entry(issuer, 1)) is RejectionReason.REVOKED
        assert reason(ours, entry(issuer, 2)) is RejectionReason.REVOKED


def test_a_token_without_a_status_needs_no_list(issuer: ListServer) -> None:
    with verifier(issuer) as ours:
        assert ours.verify(issuer.token(status=OMIT))
    assert issuer.fetches == 0


def test_a_token_that_breaks_another_rule_needs_no_list(issuer: ListServer) -> None:
    now = int(utc_now().timestamp())
    with verifier(issuer) as ours:
        assert reason(ours, issuer.token(iat=now - 100, nbf=now - 100, exp=now - 50)) is RejectionReason.EXPIRED
    assert issuer.fetches == 0


@pytest.mark.parametrize("idx", [16, 2**31, 2**70])
def test_an_index_out_of_range_is_refused(issuer: ListServer, idx: int) -> None:
    with verifier(issuer) as ours:
        assert reason(ours, entry(issuer, idx)) is RejectionReason.STATUS_UNKNOWN


def attack(issuer: ListServer, name: str) -> str:
    """Return what an attacker between issuer and verifier may answer."""
    now = int(utc_now().timestamp())
    attacks: dict[str, Callable[[], str]] = {
        "list for another address": lambda: issuer.listed(sub=issuer.uri + "1"),
        "another issuer's list": lambda: issuer.listed(iss="https://other.example"),
        "another key with our kid": lambda: issuer.listed(forge=Forge(kid=issuer.forge.key_id)),
        "a key that nobody knows": lambda: issuer.listed(forge=Forge()),
        "an access token": issuer.token,
        "a list that has expired": lambda: issuer.listed(iat=now - 900, exp=now - 300),
        "a list from the future": lambda: issuer.listed(iat=now + 100),
        "a truncated stream": lambda: issuer.listed(
            status_list={"bits": 1, "lst": encoded(zlib.compress(bytes(500))[:-3])}
        ),
        "a bomb": lambda: issuer.listed(status_list={"bits": 1, "lst": encoded(zlib.compress(bytes(10**8), 9))}),
        "garbage": lambda: "<html>",
    }
    return attacks[name]()


@pytest.mark.parametrize(
    "name",
    [
        "list for another address",
        "another issuer's list",
        "another key with our kid",
        "a key that nobody knows",
        "an access token",
        "a list that has expired",
        "a list from the future",
        "a truncated stream",
        "a bomb",
        "garbage",
    ],
)
def test_what_is_no_list_of_the_issuers_lets_nobody_in(issuer: ListServer, name: str) -> None:
    issuer.show(attack(issuer, name))
    with verifier(issuer) as ours, pytest.raises(RevocationsUnavailable) as refused:
        ours.verify(issuer.token())
    assert refused.value.http_status == 503


def test_another_media_type_is_no_list(issuer: ListServer) -> None:
    issuer.media_type = "text/html"
    with verifier(issuer) as ours, pytest.raises(RevocationsUnavailable, match="statuslist"):
        ours.verify(issuer.token())


def test_a_list_from_an_older_time_brings_no_token_back_to_life(issuer: ListServer) -> None:
    """Who holds the line replays what the issuer signed before the revocation."""
    now = int(utc_now().timestamp())
    before = issuer.listed(iat=now - 10, ttl=1)
    issuer.show(issuer.listed(5, iat=now - 2, ttl=1))
    with verifier(issuer) as ours:
        assert reason(ours, issuer.token()) is RejectionReason.REVOKED
        issuer.show(before)
        asked = issuer.fetches

        def replayed() -> bool:
            assert reason(ours, issuer.token()) is RejectionReason.REVOKED
            return issuer.fetches > asked + 1

        eventually(replayed)
        assert reason(ours, issuer.token()) is RejectionReason.REVOKED


def test_a_revocation_is_learned_when_the_list_is_due(issuer: ListServer) -> None:
    issuer.show(issuer.listed(ttl=1))
    with verifier(issuer) as ours:
        assert ours.verify(issuer.token())
        issuer.show(issuer.listed(5, ttl=1))

        def refused() -> bool:
            try:
                ours.verify(issuer.token())
            except TokenRejected as rejected:
                return rejected.reason is RejectionReason.REVOKED
            return False

        eventually(refused)


def test_while_the_issuer_is_away_a_list_is_used_until_its_exp(issuer: ListServer) -> None:
    issuer.show(issuer.listed(4, ttl=1))
    with verifier(issuer) as ours:
        assert ours.verify(issuer.token())
        issuer.http.answers[PATH] = answer_status(500)
        asked = issuer.fetches
        eventually(lambda: bool(ours.verify(issuer.token())) and issuer.fetches > asked)
        assert ours.verify(issuer.token())
        assert reason(ours, entry(issuer, 4)) is RejectionReason.REVOKED


def test_and_not_longer_than_the_verifier_allows(issuer: ListServer) -> None:
    with verifier(issuer, StatusLists(max_stale=timedelta(milliseconds=1))) as ours:
        eventually(lambda: issuer.fetches > 0 or not _taken(ours, issuer.token()))
        issuer.http.answers[PATH] = answer_status(500)
        eventually(lambda: not _taken(ours, issuer.token()))


def _taken(ours: TokenVerifier, token: str) -> bool:
    try:
        ours.verify(token)
    except RevocationsUnavailable:
        return False
    return True


def test_an_unknown_status_lets_only_those_in_that_harm_little(issuer: ListServer) -> None:
    issuer.http.answers[PATH] = answer_status(500)
    with verifier(issuer, StatusLists(unknown_allowed=["ledger.read"])) as ours:
        assert ours.verify(issuer.token(scope="ledger.read"))
        for scope in ("ledger.read ledger.write", "ledger.write", OMIT):
            with pytest.raises(RevocationsUnavailable):
                ours.verify(issuer.token(scope=scope))


def test_one_that_is_known_to_be_revoked_is_refused_whatever_its_scopes(issuer: ListServer) -> None:
    with verifier(issuer, StatusLists(unknown_allowed=["ledger.read"])) as ours:
        revoked = issuer.token(scope="ledger.read", status={"status_list": {"idx": 4, "uri": issuer.uri}})
        assert reason(ours, revoked) is RejectionReason.REVOKED


def test_many_who_look_at_once_fetch_once(issuer: ListServer) -> None:
    with verifier(issuer) as ours:
        ours.warm_up()
        threads = [Thread(target=ours.verify, args=(issuer.token(),)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert issuer.fetches == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_looks_with_the_lists_of_its_parent(issuer: ListServer) -> None:
    with verifier(issuer) as ours:
        ours.verify(issuer.token())
        child = os.fork()
        if child == 0:
            try:
                fine = bool(ours.verify(issuer.token())) and reason(ours, entry(issuer, 4)) is RejectionReason.REVOKED
            except BaseException:  # noqa: BLE001 - the parent reads the exit code
                fine = False
            os._exit(0 if fine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_refuses_arguments_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="max_stale"):
        StatusLists(max_stale=timedelta())
    with pytest.raises(TypeError, match="several names"):
        StatusLists(unknown_allowed="ledger.read")
