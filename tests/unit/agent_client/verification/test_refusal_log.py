from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent_client.verification import KeysUnavailable, RejectionReason, TokenRejected
from agent_client.verification.refusal_log import LOGGER, log_refusal
from agent_client.verification.request_errors import TokenMissing

if TYPE_CHECKING:
    import pytest
    from support.guarded_api import Api


def test_a_line_says_what_was_asked_by_whom_and_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER.name):
        log_refusal(TokenRejected(RejectionReason.EXPIRED), asked="GET /accounts", peer="192.0.2.7")
    assert caplog.messages == ["refused GET /accounts from 192.0.2.7: EXPIRED, the token has expired"]
    assert caplog.records[0].levelno == logging.INFO, "a caller's fault"


def test_whose_token_it_is_is_said_once_that_is_known(caplog: pytest.LogCaptureFixture, ledger: Api) -> None:
    token = ledger.verifier.verify(ledger.token(token_id="jti-7"))
    with caplog.at_level(logging.INFO, LOGGER.name):
        log_refusal(TokenMissing(), asked="GET /", peer="192.0.2.7", token=token)
    assert caplog.messages[0].endswith("sub=spiffe://prod.example/ns/payments/sa/settler jti=jti-7")


def test_our_own_fault_is_a_warning_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    log_refusal(KeysUnavailable("10.9.8.7 is not there"), asked="GET /", peer="192.0.2.7")
    assert caplog.records[0].levelno == logging.WARNING
    assert "10.9.8.7 is not there" in caplog.messages[0]


def test_nobody_writes_a_second_line_or_a_long_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER.name):
        log_refusal(
            TokenMissing(), asked="GET /\r\nrefused \x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}'\"" + "x" * 9000, peer="\n"
        )
    line = caplog.messages[0]
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1000
