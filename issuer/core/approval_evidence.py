"""What proves that a person approves this request, now: an ID token, held to these rules. Pure.

An SVID proves a process. An ID token whose ``nonce`` is the request's own says that somebody signed in for this, and
with a fresh ``auth_time`` that they did so now. The rules, over an assertion whose signature and claims hold:

 1. The configuration lets its issuer vouch for people.
 2. ``nonce`` is :func:`evidence_nonce` of this very request. So it counts for no other, not even for one that asks the
    same; and as a person counts once for each request, it is of use once.
 3. ``auth_time`` is there and fresh.
 4. The configuration says which SPIFFE IDs are the person's. The approver's is one of them; where a gateway brings the
    token, the person's that policy names as an approver is the approver.
 5. None of them is who asked, or owns what is given; nor is the gateway.

That a person counts once, whatever their SVIDs, is for :mod:`issuer.core.approval_state` to see to. Not checked: that
the person saw what they approve. What signs them in shows it; docs/THREAT_MODEL.md says so.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

from issuer.core.approvers import scopes_of, why_not
from issuer.core.errors import AdminRefused, IssuerError, Reason
from issuer.core.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from issuer.core.approval_request import Question
    from issuer.core.assertion import Assertion

_NONCE_VERSION: Final = "spiffe-issuer approval evidence 1"
_PERSON_VERSION: Final = "spiffe-issuer person 1"
MAX_ACR_CHARACTERS: Final = 128
MAX_AMR: Final = 8
"""RFC 8176 registers some twenty methods, of which an issuer names a few; each is a short word."""


class Evidence(NamedTuple):
    """What the ledger keeps of an ID token; never the token.

    Attributes:
        issuer: Its ``iss``.
        person: A hash over the request's id, ``iss`` and ``sub``: equal within a request, and not across requests.
        auth_time: When the person last proved who they are, Unix seconds.
        acr: How well, as the issuer calls it; empty for nothing.
        amr: By which methods (RFC 8176).
        token: The SHA-256 of its text, in hexadecimal.
        gateway: The SPIFFE ID of the gateway that brought it; empty where the approver did.
    """

    issuer: str
    person: str
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    token: str
    gateway: str = ""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Which SPIFFE IDs are those of the people whom an OIDC issuer knows.

    Attributes:
        source: The name that the configuration gives the issuer.
        people: Subjects by SPIFFE ID.
        prefix: With ``claim``: a SPIFFE ID without its last segment.
        claim: The claim that is the last segment; empty for none.
    """

    source: str
    people: Mapping[str, str]
    prefix: str = ""
    claim: str = ""

    def identities(self, assertion: Assertion) -> tuple[SpiffeId, ...]:
        """Return the SPIFFE IDs of the person whom an assertion is about, sorted."""
        texts = [spiffe_id for spiffe_id, subject in self.people.items() if subject == assertion.subject]
        value = assertion.claims.get(self.claim) if self.claim else None
        # One segment: a name with a slash in it must not become a path of somebody else's.
        if isinstance(value, str) and "/" not in value:
            texts.append(f"{self.prefix}/{value}")
        return tuple(found for text in sorted(texts) if (found := _spiffe_id(text)) is not None)


@dataclass(frozen=True, slots=True)
class EvidenceRules:
    """What counts as evidence.

    Attributes:
        anchors: Whose word counts.
        max_age: The greatest age of ``auth_time``, in seconds.
        gateways: The SPIFFE IDs that may bring evidence of others.
    """

    anchors: tuple[Anchor, ...] = ()
    max_age: int = 300
    gateways: frozenset[SpiffeId] = frozenset()

    def take(self, assertion: Assertion, question: Question, bringer: SpiffeId, now: int) -> tuple[str, Evidence]:
        """Return who approves by a verified ID token, and what is kept of it.

        Args:
            assertion: What the token says.
            question: What is to be approved.
            bringer: Who brings it: the approver, or a gateway.
            now: Unix seconds.

        Raises:
            AdminRefused: EVIDENCE_REFUSED or APPROVER_NOT_ALLOWED.
        """
        anchors = [anchor for anchor in self.anchors if anchor.source == assertion.source]  # 1
        if not anchors:
            raise _refused("is of an issuer that does not vouch for people")
        if assertion.nonce != evidence_nonce(question):  # 2
            raise _refused("is not for this request: its nonce is another")
        if assertion.auth_time is None:  # 3
            raise _refused("does not say when the person signed in: auth_time is missing")
        if now - assertion.auth_time > self.max_age:
            raise _refused("is of somebody who signed in too long ago")
        identities = [each for anchor in anchors for each in anchor.identities(assertion)]
        approver = self._approver(identities, question, bringer)  # 4
        for each in (bringer, *identities):  # 5
            if why := why_not(question, each):
                raise AdminRefused(Reason.APPROVER_NOT_ALLOWED, why)
        return str(approver), _evidence(assertion, assertion.auth_time, question, approver, bringer)

    def _approver(self, identities: Iterable[SpiffeId], question: Question, bringer: SpiffeId) -> SpiffeId:
        if bringer not in self.gateways:
            if bringer not in identities:
                raise _refused("is of another person than this approver")
            return bringer
        for each in identities:
            if scopes_of(question.needs, each):
                return each
        text = "policy does not name the person whom the ID token is about among the approvers"
        raise AdminRefused(Reason.APPROVER_NOT_ALLOWED, text)


def evidence_nonce(question: Question) -> str:
    """Return what the ``nonce`` of an ID token must be: ``sha256:`` and hexadecimal.

    It binds the token to this request and all that it asks for. Two requests for the same have different ones.
    """
    text = json.dumps([_NONCE_VERSION, question.id, question.asked.digest], separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _evidence(
    assertion: Assertion, auth_time: int, question: Question, approver: SpiffeId, bringer: SpiffeId
) -> Evidence:
    said = [_PERSON_VERSION, question.id, assertion.issuer, assertion.subject]
    text = json.dumps(said, separators=(",", ":"))
    acr, amr = assertion.claims.get("acr"), assertion.claims.get("amr")
    return Evidence(
        issuer=assertion.issuer,
        person=hashlib.sha256(text.encode()).hexdigest(),
        auth_time=auth_time,
        acr=acr if _is_short(acr) else "",
        amr=tuple(filter(_is_short, amr[:MAX_AMR])) if isinstance(amr, list) else (),
        token=assertion.fingerprint,
        gateway="" if bringer == approver else str(bringer),
    )


def _is_short(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MAX_ACR_CHARACTERS and value.isprintable()


def _spiffe_id(text: str) -> SpiffeId | None:
    try:
        return SpiffeId.parse(text)
    except IssuerError:
        return None


def _refused(what: str) -> AdminRefused:
    return AdminRefused(Reason.EVIDENCE_REFUSED, f"the ID token {what}")
