"""A chain of APIs that call each other on behalf of who began, for tests of the exchange of tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc

from issuer.core.base64url import base64url_decoded
from issuer_api.v1 import issuer_service_pb2 as pb
from support.deployment import DEADLINE, reason_of
from support.revocations import Revocable

if TYPE_CHECKING:
    from pathlib import Path

    from issuer_testing.spire.authority import IssuedSvid

FRONT, ORDERS, STOCK, STRANGER = (f"spiffe://dev.test/ns/shop/sa/{name}" for name in ("front", "orders", "stock", "x"))
ORDERS_API, STOCK_API, PARTS_API = (f"https://{name}.dev.test" for name in ("orders", "stock", "parts"))
SCOPES = "[{name: items.read, risk: low}, {name: items.write, risk: moderate}, {name: items.audit, risk: low}]"


def audience(name: str, server: str) -> str:
    return f"  - {{name: {name!r}, application: shop, servers: [{server!r}], scopes: {SCOPES}}}\n"


def grant(rule_id: str, workload: str, to: str, scopes: str, **more: str) -> str:
    fields = {"id": rule_id, "workloads": f"[{workload!r}]", "audience": repr(to), "scopes": scopes, **more}
    return "  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}\n"


EXCHANGE = {"grant_types": "[token_exchange]"}
POLICY = (
    "version: 1\naudiences:\n"
    + audience(ORDERS_API, ORDERS)
    + audience(STOCK_API, STOCK)
    + audience(PARTS_API, STOCK)
    + "grants:\n"
    + grant("front", FRONT, ORDERS_API, "[items.read, items.write]")
    + grant("orders", ORDERS, STOCK_API, "[items.read, items.write, items.audit]", **EXCHANGE)
    + grant("stock", STOCK, PARTS_API, "[items.read]", **EXCHANGE)
    + grant("stock-back", STOCK, ORDERS_API, "[items.read]", **EXCHANGE)
    + grant("orders-back", ORDERS, PARTS_API, "[items.read]", **EXCHANGE)
    + grant("front-narrows", FRONT, STOCK_API, "[items.read]", **EXCHANGE)
    + grant("stranger", STRANGER, STOCK_API, "[items.read]", **EXCHANGE)
)


class Shop(Revocable):
    """FRONT calls ORDERS_API, whose server calls STOCK_API on its behalf, whose server calls PARTS_API."""

    def __init__(self, folder: Path, policy: str = POLICY, **options: dict[str, object]) -> None:
        super().__init__(folder, policy, **options)

    def front_token(self, *scopes: str, svid: IssuedSvid | None = None, **fields: Any) -> pb.IssueTokenResponse:
        """Return what FRONT presents to ORDERS_API."""
        request = pb.IssueTokenRequest(audience=ORDERS_API, scopes=scopes or ("items.read",), **fields)
        with self.stub(svid or self.svid(FRONT)) as stub:
            answer: pb.IssueTokenResponse = stub.IssueToken(request, timeout=DEADLINE)
            return answer

    def exchange(
        self,
        subject_token: str,
        caller: str | IssuedSvid = ORDERS,
        to: str = STOCK_API,
        *scopes: str,
        kind: pb.SubjectTokenType.ValueType = pb.SUBJECT_TOKEN_TYPE_ACCESS_TOKEN,
        **fields: Any,
    ) -> pb.ExchangeTokenResponse:
        """Exchange a token."""
        request = pb.ExchangeTokenRequest(
            subject_token=subject_token,
            subject_token_type=kind,
            request=pb.IssueTokenRequest(audience=to, scopes=scopes or ("items.read",), **fields),
        )
        with self.stub(self.svid(caller) if isinstance(caller, str) else caller) as stub:
            answer: pb.ExchangeTokenResponse = stub.ExchangeToken(request, timeout=DEADLINE)
            return answer

    def refusal(self, *arguments: Any, **named: Any) -> str:
        """Return why a token is not exchanged; empty when it is."""
        try:
            self.exchange(*arguments, **named)
        except grpc.RpcError as error:
            return reason_of(error)
        return ""

    def is_active(self, token: str, server: str = STOCK) -> bool:
        """Return whether a server of its audience finds a token good."""
        with self.stub(self.svid(server)) as stub:
            request = pb.IntrospectTokenRequest(token=token)
            return bool(stub.IntrospectToken(request, timeout=DEADLINE).active)


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token claims."""
    claims: dict[str, Any] = json.loads(base64url_decoded(token.split(".")[1]))
    return claims
