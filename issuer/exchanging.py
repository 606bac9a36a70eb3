"""The exchange of tokens: a subject token in, a token for the caller on behalf of its subject out (RFC 8693)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from issuer.core.assertion import AssertionRefused
from issuer.core.errors import IssuerError
from issuer.core.exchange import Subject, check_may_exchange, origin_of
from issuer.core.foreign_subject import not_taken, subject_of_assertion, subject_of_jwt_svid
from issuer.core.jwt_svid import NotTaken, verified_jwt_svid
from issuer.introspection import is_valid_at
from issuer.issuance import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from issuer.core.errors import InvalidTokenRequest
    from issuer.core.exchange import ExchangeRules
    from issuer.core.foreign_keys import ForeignKey
    from issuer.core.origin import Origin
    from issuer.core.own_token import OwnToken
    from issuer.core.revocation import Issued
    from issuer.core.spiffe_id import TrustDomain
    from issuer.core.token_request import TokenRequest
    from issuer.introspection import Introspection
    from issuer.issuance import Asked, Issuance, IssuedToken, LogFields
    from issuer.ports import AssertionVerifier, RevocationBook, TokenBook


class SubjectKind(Enum):
    """What a subject token is. Each is read by its own rules alone, so that none is taken for another."""

    ACCESS_TOKEN = auto()
    JWT_SVID = auto()
    ID_TOKEN = auto()


@dataclass(frozen=True, slots=True)
class Presented:
    """A subject token, and what is asked for it.

    Attributes:
        text: The token.
        kind: What it is.
        request: What is asked for, or why that cannot be read.
        validate_only: Decide, but mint nothing.
    """

    text: str
    kind: SubjectKind
    request: TokenRequest | InvalidTokenRequest
    validate_only: bool = False

    def __repr__(self) -> str:
        return f"Presented(kind={self.kind.name})"


@dataclass(frozen=True, slots=True)
class _Found:
    """A subject token that was verified.

    Attributes:
        subject: What it says.
        serves: Whether the caller is a server of its audience.
        is_dead: Says whether it was revoked, as far as is known at the moment.
    """

    subject: Subject
    serves: bool
    is_dead: Callable[[], bool]


class Exchanging:
    """Exchanges tokens. Keeps no state of its own.

    Args:
        rules: What this issuer sets.
        introspection: Reads tokens of this issuer, and knows whether they are alive.
        issuance: Decides and issues.
        revocations: Those that hold.
        tokens: What the ledger knows of tokens.
        authorities: Returns the keys of a trust domain's JWT-SVIDs; ``None`` where it is not heard.
        assertions: Verifies ID tokens of the OpenID providers that are configured.
    """

    def __init__(
        self,
        *,
        rules: ExchangeRules,
        introspection: Introspection,
        issuance: Issuance,
        revocations: RevocationBook,
        tokens: TokenBook,
        authorities: Callable[[TrustDomain], Mapping[str, ForeignKey] | None],
        assertions: AssertionVerifier,
    ) -> None:
        self._rules = rules
        self._introspection = introspection
        self._issuance = issuance
        self._revocations = revocations
        self._tokens = tokens
        self._authorities = authorities
        self._assertions = assertions

    async def exchange(self, asked: Asked, presented: Presented, log_fields: LogFields) -> tuple[IssuedToken, str]:
        """Decide, and issue what was decided; return that with its subject.

        1. Verify the subject token, by the rules of its kind.
        2. Look whether this caller may exchange it, and where in the ``act`` chain it comes.
        3. Decide, mint, sign and record as for any other token; it rests on the subject token. As often as that is
           decided, it is looked again whether the subject token is alive.
        4. Once the record is durable, look a last time, in the ledger itself, whether the subject token or one above it
           was revoked meanwhile, by whichever issuer: what was signed is thrown away then. A revocation that comes
           later finds the record.

        Raises:
            ExchangeRefused: SUBJECT_TOKEN_NOT_TAKEN, SUBJECT_TOKEN_NOT_YOURS, ACTOR_CHAIN_ENDS.
            PolicyDenied, InvalidTokenRequest, RateLimited, TemporarilyUnavailable: As for any other token.
        """
        log_fields["subject_token"] = presented.kind.name
        found = await self._found(presented, asked)  # 1

        def origin() -> Origin:
            if isinstance(found, IssuerError):
                raise found
            if found.is_dead():
                raise _revoked()
            scopes = presented.request.scopes if not isinstance(presented.request, Exception) else ()
            return origin_of(found.subject, asked.caller, scopes, self._rules, serves=found.serves)  # 2

        wanted = Wanted(presented.request, presented.validate_only, origin)
        [outcome] = await self._issuance.issue_tokens(asked, [wanted], log_fields)  # 3
        if isinstance(outcome, Exception):
            raise outcome
        rests_on = outcome.grant.origin
        assert rests_on is not None  # noqa: S101 - it was given one
        log_fields |= {"subject": rests_on.subject, "actors": [actor.subject for actor in rests_on.actors]}
        if await self._was_revoked(rests_on):  # 4
            raise _revoked()
        return outcome, rests_on.subject

    async def _found(self, presented: Presented, asked: Asked) -> _Found | IssuerError:
        try:
            match presented.kind:
                case SubjectKind.ACCESS_TOKEN:
                    return await self._own(presented.text, asked)
                case SubjectKind.JWT_SVID:
                    return self._jwt_svid(presented.text, asked)
                case SubjectKind.ID_TOKEN:
                    return await self._id_token(presented.text, asked)
        except IssuerError as error:
            return error  # to be raised where it is recorded

    async def _own(self, text: str, asked: Asked) -> _Found:
        token = self._introspection.read(text)
        if token is None:
            raise not_taken("it is no access token of this issuer")
        if not is_valid_at(token, asked.now.timestamp()):
            raise not_taken("it is not valid now")
        serves = self._introspection.serves(asked, token.audience)
        # Before the record is asked: a stranger does not learn whether a token is alive.
        check_may_exchange(_subject_of(token), asked.caller, serves=serves)
        recorded = await self._introspection.recorded(token)
        if recorded is None:
            raise _revoked()
        issued = recorded.issued._replace(key=token.key_id)
        ancestors = (issued._replace(ancestors=()), *issued.ancestors)
        subject = _subject_of(token, ancestors)
        return _Found(subject, serves, lambda: self._introspection.is_dead(token, recorded))

    def _jwt_svid(self, text: str, asked: Asked) -> _Found:
        try:
            svid = verified_jwt_svid(text, self._authorities, self._rules.issuer, asked.now.timestamp())
        except NotTaken as error:
            raise not_taken(f"it {error}") from None
        return _Found(subject_of_jwt_svid(svid, self._rules.issuer), serves=False, is_dead=lambda: False)

    async def _id_token(self, text: str, asked: Asked) -> _Found:
        try:
            assertion = await self._assertions.verify(text, asked.now)
        except AssertionRefused as error:
            raise not_taken(f"it {error.fault}") from None
        subject = subject_of_assertion(assertion, self._rules.issuer)
        return _Found(subject, serves=False, is_dead=lambda: False)

    async def _was_revoked(self, origin: Origin) -> bool:
        ids = {each.token_id for each in origin.ancestors}
        if not ids:
            return False
        known = self._revocations.version
        return any(map(self._revocations.is_token_revoked, ids)) or not ids.isdisjoint(
            await self._tokens.revoked_after(known)
        )


def _subject_of(token: OwnToken, ancestors: tuple[Issued, ...] = ()) -> Subject:
    return Subject(
        name=token.subject,
        holder=token.client_id,
        scopes=token.scopes,
        until=token.expires_at * 1_000_000,
        actors=token.actors,
        thumbprint=token.certificate_thumbprint,
        ancestors=ancestors,
        transaction=token.transaction,
        details=token.details,
    )


def _revoked() -> IssuerError:
    return not_taken("it was revoked, or is not in the record")
