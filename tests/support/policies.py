"""Short ways to write a policy, a caller and a request in a test, and a slow second reading of the index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from issuer.core.caller import Caller
from issuer.core.policy_parser import PolicyFile, parse_policy
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import TokenRequest

if TYPE_CHECKING:
    from issuer.core.policy import Policy

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
LEDGER = "https://ledger.example"
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"

AUDIENCES = """\
version: 1
audiences:
  - name: https://ledger.example
    application: ledger
    max_ttl: 10m
    scopes:
      - {name: read, risk: low}
      - {name: report, risk: moderate}
      - {name: write, risk: high, max_ttl: 2m}
      - {name: refund, risk: critical}
  - name: https://mail.example
    application: mail
    scopes: [{name: send, risk: low}]
"""


def policy(*sections: str, audiences: str = AUDIENCES) -> Policy:
    """Return the policy of the two audiences above and the sections."""
    return parse_policy([PolicyFile("policy.yaml", (audiences + "\n".join(sections)).encode())])


def grant(
    rule_id: str = "g", scopes: str = "[read]", workload: str = SETTLER, audience: str = LEDGER, **more: str
) -> str:
    """Return one item of ``grants``."""
    fields = {"id": rule_id, "workloads": f"[{workload!r}]", "audience": audience, "scopes": scopes, **more}
    return "  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}\n"


def grants(*items: str) -> str:
    """Return a ``grants`` section."""
    return "grants:\n" + "".join(items)


def prohibition(rule_id: str = "p", workload: str = SETTLER, audiences: str = f"[{LEDGER!r}]", **more: str) -> str:
    """Return one item of ``prohibitions``."""
    fields = {"id": rule_id, "workloads": f"[{workload!r}]", "audiences": audiences, **more}
    return "  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}\n"


def prohibitions(*items: str) -> str:
    """Return a ``prohibitions`` section."""
    return "prohibitions:\n" + "".join(items)


def caller(spiffe_id: str = SETTLER, svid_rest: timedelta = timedelta(hours=2)) -> Caller:
    """Return a verified caller whose SVID lives for ``svid_rest`` after :data:`NOW`."""
    return Caller(SpiffeId.parse(spiffe_id), bytes(32), 1, NOW + svid_rest)


def request(
    *scopes: str,
    audience: str = LEDGER,
    ttl: timedelta | None = None,
    application: str | None = None,
    bind_certificate: bool = False,
    allow_partial: bool = False,
) -> TokenRequest:
    """Return a request, for ``read`` when no scope is given."""
    return TokenRequest(audience, scopes or ("read",), ttl, application, bind_certificate, allow_partial)
