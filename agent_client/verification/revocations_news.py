"""What the issuer tells of revocations, as values. Pure; a message that contradicts itself is refused whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from agent_client.errors import AnswerRejected
from agent_client.exchanges import Exchange
from issuer_api.v1 import issuer_service_pb2 as pb

_METHOD: Final = f"/{pb.DESCRIPTOR.services_by_name['IssuerService'].full_name}/WatchRevocations"


class Position(NamedTuple):
    """Up to which change of which ledger all was told."""

    version: int
    ledger: str


@dataclass(frozen=True, slots=True)
class WatchBeginning:
    """What a stream is about.

    Attributes:
        issuer: The ``iss`` of the tokens that it tells of.
        ledger: Where its positions are from.
        audiences: Those that it covers; of tokens of others it says nothing.
        resumed: It goes on after the position that was asked for. Otherwise all is told anew.
    """

    issuer: str
    ledger: str
    audiences: frozenset[str]
    resumed: bool


@dataclass(frozen=True, slots=True)
class DeadIds:
    """Single tokens that are dead: each ``jti``, and its ``exp`` in Unix seconds."""

    token_ids: tuple[str, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeadKind:
    """Tokens that are dead by what they say: those for which all that is set is so. Times are Unix seconds.

    Attributes:
        revocation_id: Which revocation. A later one of the same id and audience takes its place.
        workload: ``client_id``, exactly or as a pattern; empty for any. So are the next three.
        application: ``application``.
        audience: ``aud``.
        key_id: The ``kid``.
        issued_from: ``iat`` is not below.
        issued_until: ``iat`` is not above; ``None`` for whatever it says.
        forget_at: From then on there is no such token; ``None`` while there may be.
    """

    revocation_id: str
    workload: str = ""
    application: str = ""
    audience: str = ""
    key_id: str = ""
    issued_from: int | None = None
    issued_until: int | None = None
    forget_at: int | None = None


@dataclass(frozen=True, slots=True)
class RevocationNews:
    """One message of the stream.

    Attributes:
        beginning: What the stream is about, in its first message.
        ids: Single tokens.
        kinds: Kinds of token.
        version: Up to which change all was told; ``None`` while more of the same follows, or the issuer itself does
            not know.
    """

    beginning: WatchBeginning | None = None
    ids: tuple[DeadIds, ...] = ()
    kinds: tuple[DeadKind, ...] = ()
    version: int | None = None


def watch_revocations(after: Position | None) -> Exchange[RevocationNews]:
    """Return the exchange for what is revoked: all, or what changed after a position."""
    request = pb.WatchRevocationsRequest()
    if after is not None:
        request.after, request.ledger = after
    return Exchange(_METHOD, request, pb.WatchRevocationsResponse.FromString, lambda answer, _: revocation_news(answer))


def revocation_news(message: pb.WatchRevocationsResponse) -> RevocationNews:
    """Return what a message of the stream says.

    Raises:
        AnswerRejected: It contradicts itself.
    """
    return RevocationNews(
        _beginning(message.beginning) if message.HasField("beginning") else None,
        tuple(_ids(dead) for dead in message.dead if dead.token_ids),
        tuple(_kind(dead) for dead in message.dead if not dead.token_ids),
        message.position if message.HasField("position") else None,
    )


def _beginning(message: pb.WatchBeginning) -> WatchBeginning:
    if not message.issuer or not message.ledger:
        raise AnswerRejected("the stream of revocations does not say which issuer and ledger it is about")
    return WatchBeginning(message.issuer, message.ledger, frozenset(message.audiences), message.resumed)


def _ids(dead: pb.DeadTokens) -> DeadIds:
    if len(dead.token_ids) != len(dead.token_expire_seconds):
        raise AnswerRejected("the stream of revocations does not say of every token when it expires")
    return DeadIds(tuple(dead.token_ids), tuple(dead.token_expire_seconds))


def _kind(dead: pb.DeadTokens) -> DeadKind:
    # A kind for which nothing is set is every token. That is meant only where the issuer names the revocation.
    if not dead.revocation_id:
        raise AnswerRejected("the stream of revocations names neither tokens nor a revocation")
    return DeadKind(
        dead.revocation_id,
        dead.workload,
        dead.application,
        dead.audience,
        dead.key_id,
        dead.issued_from.seconds if dead.HasField("issued_from") else None,
        dead.issued_until.seconds if dead.HasField("issued_until") else None,
        dead.forget_time.seconds if dead.HasField("forget_time") else None,
    )
