"""What a refusal tells, and what it must not."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import timedelta

import pytest

from agent_client.verification.errors import (
    ApplicationRejected,
    InsufficientScope,
    KeysUnavailable,
    RejectionReason,
    RevocationsUnavailable,
    TokenRejected,
    VerificationError,
)

ERRORS: list[VerificationError] = [
    *(TokenRejected(reason) for reason in RejectionReason),
    TokenRejected(RejectionReason.CLAIMS_MALFORMED, "exp"),
    InsufficientScope(("ledger.read", "ledger.write")),
    ApplicationRejected(),
    KeysUnavailable("no answer", retry_after=timedelta(seconds=3)),
    RevocationsUnavailable("no answer", retry_after=timedelta(seconds=3)),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_fits_into_an_error_description(error: VerificationError) -> None:
    """RFC 6750 section 3: neither quotes nor backslashes, nothing beyond printable ASCII."""
    assert re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", str(error))
    assert str(error) == f"{error.message}. {error.remedy}"


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_survives_pickle_and_copy(error: VerificationError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (TokenRejected, 401, "invalid_token"),
        (InsufficientScope, 403, "insufficient_scope"),
        (ApplicationRejected, 403, "insufficient_scope"),
        (KeysUnavailable, 503, None),
        (RevocationsUnavailable, 503, None),
    ],
)
def test_has_the_status_and_code_of_rfc_6750(kind: type[VerificationError], status: int, code: str | None) -> None:
    assert (kind.http_status, kind.oauth_error) == (status, code)
