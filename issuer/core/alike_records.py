"""Records of decisions that are alike: what they have in common is worked out once.

A remembered decision leads to one record after the other that differs from the last in nothing but ids, the time and
the token. The same objects say the same, so these are looked at, not what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.decision import Grant
from issuer.core.instants import microseconds
from issuer.core.record import DecisionRecord, record_decision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.decision import Denial
    from issuer.core.errors import Reason
    from issuer.core.facts import Fact, FactKey
    from issuer.core.record import Minted
    from issuer.core.token_request import TokenRequest

MAX_REMEMBERED: Final = 4096
"""At once, as many as there are remembered decisions; about 1 KiB each. When they are full all are forgotten."""
_FIRST: Final = DecisionRecord._fields.index("caller")
_TOKEN_ID: Final = DecisionRecord._fields.index("token_id")
_AUDIT: Final = DecisionRecord._fields.index("audit")
_STATUS: Final = DecisionRecord._fields.index("status")


class _Alike(NamedTuple):
    """The last record of a grant, and what it was made from."""

    grant: Grant
    caller: Caller
    request: TokenRequest
    peer: str
    record: DecisionRecord


class AlikeRecords:
    """Makes records like :func:`~issuer.core.record.record_decision`, from memory where that is the same."""

    def __init__(self) -> None:
        self._known: dict[int, _Alike] = {}

    def record(
        self,
        decision: Grant | Denial,
        *,
        decision_id: str,
        caller: Caller,
        peer: str,
        request: TokenRequest,
        facts: Mapping[FactKey, Fact],
        now: datetime,
        validate_only: bool = False,
        minted: Minted | None = None,
        failed: Reason | None = None,
    ) -> DecisionRecord:
        """Return what :func:`~issuer.core.record.record_decision` returns for the same arguments."""
        alone = minted is not None and isinstance(decision, Grant) and not (facts or validate_only or failed)
        if alone and minted is not None and (alike := self._recalled(decision, caller, request, peer)) is not None:
            own = bytes.fromhex(decision_id.replace("-", "")), microseconds(now)
            token = minted.token_id, minted.expires_at, minted.sha256
            return DecisionRecord._make((*own, *alike[_FIRST:_TOKEN_ID], *token, *alike[_AUDIT:_STATUS], minted.status))
        record = record_decision(
            decision,
            decision_id=decision_id,
            caller=caller,
            peer=peer,
            request=request,
            facts=facts,
            now=now,
            validate_only=validate_only,
            minted=minted,
            failed=failed,
        )
        if alone and isinstance(decision, Grant):
            self._remember(_Alike(decision, caller, request, peer, record))
        return record

    def _recalled(
        self, decision: Grant | Denial, caller: Caller, request: TokenRequest, peer: str
    ) -> DecisionRecord | None:
        known = self._known.get(id(decision))  # it is kept with its record: no other object has its id meanwhile
        if known is None or known.grant is not decision:
            return None
        is_same = known.caller is caller and known.request is request and known.peer == peer
        return known.record if is_same else None

    def _remember(self, alike: _Alike) -> None:
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[id(alike.grant)] = alike
