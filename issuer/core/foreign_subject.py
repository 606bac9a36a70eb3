"""The subject token of somebody else, once it is verified, as an exchange takes it.

1. It has no ``act``: this issuer vouches for the chains of its own tokens alone. Another is refused, never dropped:
   without it, the token would say less of who did something than was known.
2. Its ``may_act``, if it has one, names one workload: ``sub``, and an ``iss`` that is this issuer or the workload's
   trust domain where it is there. What else it may say is not understood, and so the token is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from issuer.core.errors import IssuerError, Reason
from issuer.core.exchange import ExchangeRefused, Subject
from issuer.core.spiffe_id import SCHEME, SpiffeId
from issuer.core.subjects import foreign_subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.assertion import Assertion
    from issuer.core.jwt_svid import JwtSvid

_APPROVAL_NONCE = "sha256:"
"""How the ``nonce`` of an ID token begins that proves somebody's approval: it is for that, and for nothing else."""


def subject_of_jwt_svid(svid: JwtSvid, issuer: str) -> Subject:
    """Return a JWT-SVID as an exchange takes it.

    Args:
        svid: The JWT-SVID.
        issuer: This issuer's ``iss``.

    Raises:
        ExchangeRefused: ACTOR_CHAIN_ENDS, SUBJECT_TOKEN_NOT_TAKEN.
    """
    name = str(svid.spiffe_id)
    return Subject(name, name, None, svid.expires_at * 1_000_000, may_act=_may_act(svid.claims, issuer))


def subject_of_assertion(assertion: Assertion, issuer: str) -> Subject:
    """Return a token of an OpenID provider as an exchange takes it.

    Args:
        assertion: What it says.
        issuer: This issuer's ``iss``.

    Raises:
        ExchangeRefused: ACTOR_CHAIN_ENDS, SUBJECT_TOKEN_NOT_TAKEN.
    """
    if assertion.nonce.startswith(_APPROVAL_NONCE):
        raise not_taken("it was made to approve something")
    name = foreign_subject(assertion.issuer, assertion.subject)
    return Subject(name, "", None, assertion.expires_at * 1_000_000, may_act=_may_act(assertion.claims, issuer))


def not_taken(why: str) -> ExchangeRefused:
    """Return the refusal of a subject token; ``why`` says nothing that its bearer does not know."""
    return ExchangeRefused(Reason.SUBJECT_TOKEN_NOT_TAKEN, f"the subject token is not taken: {why}")


def _may_act(claims: Mapping[str, Any], issuer: str) -> str | None:
    if "act" in claims:  # 1
        raise ExchangeRefused(Reason.ACTOR_CHAIN_ENDS, "the subject token has a chain of actors that others vouch for")
    if "may_act" not in claims:
        return None
    match claims["may_act"]:  # 2
        case {"sub": str(name), **others} if _is_workload(name) and (
            not others or others in ({"iss": issuer}, {"iss": SCHEME + name.removeprefix(SCHEME).partition("/")[0]})
        ):
            return name
    raise not_taken("its may_act is not understood")


def _is_workload(name: str) -> bool:
    try:
        SpiffeId.parse(name)
    except IssuerError:
        return False
    return True
