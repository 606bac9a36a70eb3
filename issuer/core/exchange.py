"""Who may exchange a token of another, and what the new one rests on (RFC 8693). Pure.

The subject token was verified, each kind by its own rules, and is alive. Then, in order:

1. Whoever its ``may_act`` names may exchange it, and nobody else but its holder.
2. Without ``may_act``, a token of this issuer is exchanged by its holder (``client_id``) or a server of its audience.
   Of a token of others it is policy that says, by the ``subjects`` of a grant: :mod:`issuer.core.decide`, rule 16.
3. A holder whose token is bound shows the very certificate (RFC 8705 section 3). Whoever else comes cannot; the server
   that took the token from its holder has looked.
4. The holder goes on in the chain where it stands. Anybody else is put in front of it, and what is behind is copied
   as it is. Who is in it already, or is the subject, does not come again: nobody acts through others for itself.
5. The chain has at most so many actors as is configured, and its text at most 8 KiB. It is refused, never cut.
6. The new token has no scope that the old one lacks, ends with it at the latest, and is bound where it was. What
   narrows the old one further, ``authorization_details`` and ``txn``, narrows it too.

Not checked here: policy, and whether an ancestor was revoked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from issuer.core.base64url import base64url
from issuer.core.errors import IssuerError, Reason
from issuer.core.instants import microseconds
from issuer.core.origin import Actor, Origin, OriginKind
from issuer.core.spiffe_id import SCHEME
from issuer.core.token_request import MAX_TTL

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.revocation import Issued

MAX_ACT_BYTES: Final = 8 * 1024
"""Of the ``act`` claim as JSON: ten actors with long SPIFFE IDs, and half of what a token may have."""
MAX_DEPTH: Final = 15
"""What ``[exchange] max_depth`` can be at most: verifiers read claims that nest 16 deep, and their object is one."""


class ExchangeRefused(IssuerError):
    """This token is not exchanged by this caller. The message says nothing that the token does not."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a subject token says, verified.

    Attributes:
        name: The ``sub`` of the token to come.
        holder: Whom it was issued to, a SPIFFE ID; empty for a person or program that only a provider knows.
        scopes: Its scopes; ``None`` where it is a token of others, whose scopes are not of our audiences.
        until: Its end, microseconds since 1970 UTC.
        actors: Its ``act`` chain, the current actor first.
        may_act: The only one who may act for it, a SPIFFE ID; ``None`` where it does not say.
        thumbprint: The certificate that it is bound to, as ``cnf`` says it; empty for none.
        ancestors: It, and the tokens above it, the nearest first; empty for a token of others.
        transaction: Its ``txn``; empty for none.
        details: Its ``authorization_details`` as JSON; empty for none.
    """

    name: str
    holder: str
    scopes: tuple[str, ...] | None
    until: int
    actors: tuple[Actor, ...] = ()
    may_act: str | None = None
    thumbprint: str = ""
    ancestors: tuple[Issued, ...] = ()
    transaction: str = ""
    details: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is a token of this issuer."""
        return self.scopes is not None


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """What this issuer sets.

    Attributes:
        issuer: Its ``iss``.
        max_depth: How many actors a chain has at most.
    """

    issuer: str
    max_depth: int


def origin_of(
    subject: Subject, caller: Caller, asked: tuple[str, ...], rules: ExchangeRules, *, serves: bool
) -> Origin:
    """Return what a token rests on that ``caller`` gets for ``subject``; the steps are those of the module's docstring.

    Args:
        subject: The subject token.
        caller: Who presents it.
        asked: The scopes that it asks for.
        rules: What this issuer sets.
        serves: Whether it is a server of the token's audience.

    Raises:
        ExchangeRefused: SUBJECT_TOKEN_NOT_YOURS, ACTOR_CHAIN_ENDS.
    """
    identity = str(caller.spiffe_id)
    check_may_exchange(subject, caller, serves=serves)  # 1, 2, 3
    actors = subject.actors
    if identity != subject.holder:
        # The namespace of its name, not who signs (draft-mcguinness-oauth-actor-profile).
        actor = Actor(identity, f"{SCHEME}{caller.spiffe_id.trust_domain}")
        actors = _with_actor(subject, actor, rules.max_depth)  # 4, 5
    return Origin(  # 6
        kind=OriginKind.EXCHANGE,
        id="",
        number=0,
        subject=subject.name,
        actors=actors,
        ancestors=subject.ancestors,
        scopes=asked if subject.scopes is None else subject.scopes,
        until=subject.until,
        bind=bool(subject.thumbprint),
        transaction=subject.transaction,
        details=subject.details,
    )


def origin_of_other(subject: str, caller: Caller, asked: tuple[str, ...], now: datetime) -> Origin:
    """Return what a token would rest on for the token of another, of this subject, which lives for long.

    For operators who try out a policy: nobody presented such a token.
    """
    rules = ExchangeRules("", MAX_DEPTH)
    until = microseconds(now + MAX_TTL)
    return origin_of(Subject(subject, "", None, until), caller, asked, rules, serves=False)


def check_may_exchange(subject: Subject, caller: Caller, *, serves: bool) -> None:
    """Apply steps 1 to 3, which need no look at the record.

    Raises:
        ExchangeRefused: SUBJECT_TOKEN_NOT_YOURS.
    """
    identity = str(caller.spiffe_id)
    if identity == subject.holder:
        if subject.thumbprint not in ("", base64url(caller.certificate_sha256)):  # 3
            raise ExchangeRefused(Reason.SUBJECT_TOKEN_NOT_YOURS, "the subject token is bound to another certificate")
    elif subject.may_act is not None:  # 1
        if subject.may_act != identity:
            raise ExchangeRefused(Reason.SUBJECT_TOKEN_NOT_YOURS, "the subject token names another who may act")
    elif subject.is_own and not serves:  # 2
        raise ExchangeRefused(Reason.SUBJECT_TOKEN_NOT_YOURS, "this caller neither holds nor serves the subject token")


def _with_actor(subject: Subject, actor: Actor, max_depth: int) -> tuple[Actor, ...]:
    if actor.subject == subject.name or any(actor.subject == each.subject for each in subject.actors):
        raise ExchangeRefused(Reason.ACTOR_CHAIN_ENDS, "this caller is in the chain of actors already")
    actors = (actor, *subject.actors)
    if len(actors) > max_depth or len(act_text(actors)) > MAX_ACT_BYTES:
        raise ExchangeRefused(Reason.ACTOR_CHAIN_ENDS, "the chain of actors would be too long")
    return actors


def act_text(actors: tuple[Actor, ...]) -> str:
    """Return the ``act`` claim of a chain as compact JSON; empty for no chain."""
    act: dict[str, object] | None = None
    for actor in reversed(actors):
        act = {"sub": actor.subject, "iss": actor.issuer, **({} if act is None else {"act": act})}
    return "" if act is None else json.dumps(act, separators=(",", ":"))
