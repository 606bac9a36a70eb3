"""What a token says (RFC 9068 section 2.2): the claims, built from what policy granted and what the caller proved."""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from typing import TYPE_CHECKING, Any, NamedTuple

from issuer.core.base64url import base64url
from issuer.core.metadata import status_list_uri
from issuer.core.origin import OriginKind
from issuer.core.status_index import StatusIndex

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.decision import Grant
    from issuer.core.origin import Actor, Origin

NBF_LEEWAY_SECONDS = 5
"""``nbf`` lies this far before ``iat``, for verifiers whose clocks are behind ours and that allow no leeway."""


@dataclass(frozen=True, slots=True)
class TokenProfile:
    """What is the same in every token of this issuer.

    Attributes:
        issuer: The ``iss``, exactly as its metadata spells it.
        development: Callers are identified by the embedded development authority, which attests nobody: every token
            says so with ``dev: true``.
    """

    issuer: str
    development: bool = False


class Claims(NamedTuple):
    """The claims of one token. Times are whole Unix seconds; ``client`` is ``None`` where it is the subject.

    ``status`` is a :attr:`~issuer.core.status_index.StatusIndex.number`, ``None`` for a token without one.

    A named tuple because one is made for every token and a frozen dataclass of this width costs three times as much.
    """

    issuer: str
    subject: str
    audience: str
    expires_at: int
    issued_at: int
    not_before: int
    token_id: str
    scopes: tuple[str, ...]
    application: str | None
    certificate_thumbprint: str | None
    development: bool
    client: str | None = None
    actors: tuple[Actor, ...] = ()
    details: str = ""
    transaction: str = ""
    grant_id: str = ""
    status: int | None = None

    def payload(self) -> bytes:
        """Return the claims as compact UTF-8 JSON.

        Written out by hand over the standard library's string quoting (a third of the time of its encoder); what comes
        out is parsed and checked again before it is signed.
        """
        subject = _quoted(self.subject)
        client = subject if self.client is None else _quoted(self.client)
        return (
            f'{{"iss":{_quoted(self.issuer)},"sub":{subject},"client_id":{client},"aud":{_quoted(self.audience)},'
            f'"exp":{self.expires_at},"iat":{self.issued_at},"nbf":{self.not_before},"jti":{_quoted(self.token_id)},'
            f'"scope":{_quoted(" ".join(self.scopes))}{self._optional_members()}}}'
        ).encode("ascii")

    def _optional_members(self) -> str:
        members = ""
        if self.application is not None:
            members += f',"application":{_quoted(self.application)}'
        if self.certificate_thumbprint is not None:
            members += f',"cnf":{{"x5t#S256":{_quoted(self.certificate_thumbprint)}}}'
        if self.development:
            members += ',"dev":true'
        if self.status is not None:  # draft-ietf-oauth-status-list-20 section 6.1
            entry = StatusIndex.of_number(self.status)
            uri = _quoted(status_list_uri(self.issuer, entry.list_number))
            members += f',"status":{{"status_list":{{"idx":{entry.index},"uri":{uri}}}}}'
        return members + self._members_of_origin()

    def _members_of_origin(self) -> str:
        members = f',"act":{_act(self.actors)}' if self.actors else ""
        if self.details:
            members += f',"authorization_details":{self.details}'
        if self.transaction:
            members += f',"txn":{_quoted(self.transaction)}'
        return members + (f',"grant_id":{_quoted(self.grant_id)}' if self.grant_id else "")


def _act(actors: tuple[Actor, ...]) -> str:
    """Return the ``act`` claim: the current actor, and in it who acted before (RFC 8693 section 4.1)."""
    (subject, issuer), before = actors[0], actors[1:]
    inner = f',"act":{_act(before)}' if before else ""
    return f'{{"sub":{_quoted(subject)},"iss":{_quoted(issuer)}{inner}}}'


def build_claims(
    grant: Grant, caller: Caller, profile: TokenProfile, token_id: str, now: datetime, *, status: int | None = None
) -> Claims:
    """Build the claims of the token that ``grant`` allows.

    ``iat`` is ``now`` rounded down, since several verifiers refuse one that lies in their future. ``exp`` is ``iat``
    plus the granted lifetime rounded down, so it passes no bound, neither as a moment nor as a lifetime.

    Args:
        grant: What policy allowed.
        caller: Who asked, verified; becomes ``client_id`` and, unless what the token rests on says otherwise, ``sub``
            (RFC 9068 section 2.2).
        profile: What every token of this issuer says.
        token_id: The ``jti``.
        now: The time of the decision, UTC.
        status: Where its status is kept; ``None`` for nowhere.
    """
    issued_at = int(now.timestamp())
    return Claims(
        issuer=profile.issuer,
        subject=str(caller.spiffe_id) if grant.origin is None else grant.origin.subject,
        audience=grant.audience,
        expires_at=issued_at + int(grant.lifetime.total_seconds()),
        issued_at=issued_at,
        not_before=issued_at - NBF_LEEWAY_SECONDS,
        token_id=token_id,
        scopes=grant.scopes,
        application=grant.application,
        certificate_thumbprint=base64url(caller.certificate_sha256) if grant.bind_certificate else None,
        development=profile.development,
        status=status,
        **({} if grant.origin is None else _of_origin(grant.origin, str(caller.spiffe_id))),
    )


def _of_origin(origin: Origin, client: str) -> dict[str, Any]:
    return {
        "client": client,
        "actors": origin.actors,
        "details": origin.details,
        "transaction": origin.transaction,
        "grant_id": origin.id if origin.kind is OriginKind.ACCESS else "",
    }
