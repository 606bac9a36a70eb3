"""Requests for approval as a card that a person can decide by, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.cli.revocation_output import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_api.v1 import approval_service_pb2 as pb

INTENT = ("operation", "resource", "workflow", "ticket", "transaction")
"""What an intent may say, in the order in which it is shown."""
SHOWN = 5


def state_of(request: pb.ApprovalRequest) -> str:
    """Return where a request stands, in a word."""
    name: str = type(request).State.Name(request.state)
    return name.removeprefix("STATE_").lower()


def row_of(request: pb.ApprovalRequest) -> dict[str, object]:
    """Return a request as a row of a list; JSON has all that the row has."""
    return {
        "name": request.name,
        "state": state_of(request),
        "caller": request.caller,
        "audience": request.audience,
        "scopes": [need.scope for need in request.needs],
        "risk": sorted({need.risk for need in request.needs}),
        "reason": request.reason,
        "expire_time": moment_text(request.expire_time),
    }


def document_of(request: pb.ApprovalRequest) -> dict[str, object]:
    """Return a request for programs; what is absent is null or empty."""
    return row_of(request) | {
        "digest": request.digest,
        "grant_type": request.grant_type,
        "evidence_nonce": request.evidence_nonce,
        "application": request.application or None,
        "scopes_asked": list(request.scopes),
        "scopes_left": list(request.scopes_left),
        "ttl_seconds": request.ttl.ToTimedelta().total_seconds() if request.HasField("ttl") else None,
        "intent": {name: value for name in INTENT if (value := getattr(request.intent, name))},
        "bind_certificate": request.bind_certificate,
        "policy": request.policy_digest,
        "decision_id": request.decision_id,
        "lifetime_seconds": request.lifetime.seconds,
        "create_time": moment_text(request.create_time),
        "needs": [
            {
                "scope": each.scope,
                "risk": each.risk,
                "approvers": list(each.approvers),
                "quorum": each.quorum,
                "human": each.human,
            }
            for each in request.needs
        ],
        "given": [
            {
                "approver": each.approver,
                "scopes": list(each.scopes),
                "ttl_seconds": each.ttl.seconds if each.HasField("ttl") else None,
                "time": moment_text(each.time),
                "reason": each.reason,
                "evidence": _evidence(each.evidence) if each.HasField("evidence") else None,
            }
            for each in request.given
        ],
        "max_ttl_seconds": request.max_ttl.seconds if request.HasField("max_ttl") else None,
        "uses_left": request.uses_left,
        "ended_by": request.ended_by or None,
        "ended_reason": request.ended_reason or None,
        "development": request.development,
    }


def _evidence(evidence: pb.ApprovalEvidence) -> dict[str, object]:
    return {
        "issuer": evidence.issuer,
        "person": evidence.person,
        "auth_time": moment_text(evidence.auth_time),
        "acr": evidence.acr or None,
        "amr": list(evidence.amr),
        "token_sha256": evidence.token_sha256,
        "gateway": evidence.gateway or None,
    }


def card(found: pb.GetApprovalRequestResponse) -> str:
    """Return what a person needs to decide, a line each: who, what, why now, impact, what else this identity holds."""
    return "\n".join(f"{label:<10}{text}" for label, text in _lines(found) if text)


def _lines(found: pb.GetApprovalRequestResponse) -> Iterator[tuple[str, str]]:
    request = found.approval_request
    yield "request", f"{request.name}: {state_of(request)}, until {moment_text(request.expire_time)}"
    yield "who", request.caller + (f" for the application {request.application}" if request.application else "")
    yield "what", f"{' '.join(request.scopes)} at {request.audience}"
    yield "to do", ", ".join(f"{name} {value}" for name in INTENT if (value := getattr(request.intent, name)))
    yield "why now", f'"{request.reason}"' if request.reason else "nothing was said"
    what = "access for" if request.grant_type == "jit" else "a token of"
    yield "impact", f"{what} at most {request.lifetime.seconds} s"
    for need in request.needs:
        dropped = ", left out" if need.scope not in request.scopes_left else ""
        have = sum(need.scope in each.scopes for each in request.given)
        of = "persons, each with an ID token" if need.human else ""
        yield "", f"{need.scope}: risk {need.risk}, approved by {have} of {need.quorum} {of}".rstrip() + dropped
    yield "holds", _held(found)
    for given in request.given:
        said = f': "{given.reason}"' if given.reason else ""
        yield "approved", f"by {given.approver} at {moment_text(given.time)}, {' '.join(given.scopes)}{said}"
        if given.HasField("evidence"):
            yield "", _proof(given.evidence)
    if request.HasField("max_ttl"):
        yield "shortened", f"to {request.max_ttl.seconds} s"
    if request.ended_by:
        yield "ended", f"by {request.ended_by}" + (f': "{request.ended_reason}"' if request.ended_reason else "")
    if request.development:
        yield "warning", "approved under the development authority, which attests nobody"
    yield "asked", f"{moment_text(request.create_time)}, decision {request.decision_id}"
    yield "digest", request.digest
    if any(need.human for need in request.needs):
        yield "nonce", f"{request.evidence_nonce} (sign in with it; approve with --id-token-file)"


def _proof(evidence: pb.ApprovalEvidence) -> str:
    said = (("acr", evidence.acr), ("amr", " ".join(evidence.amr)))
    how = "".join(f", {name} {value}" for name, value in said if value)
    by = f", brought by {evidence.gateway}" if evidence.gateway else ""
    return f"a person, says {evidence.issuer}: signed in at {moment_text(evidence.auth_time)}{how}{by}"


def _held(found: pb.GetApprovalRequestResponse) -> str:
    if not found.living_tokens:
        return "no living token"
    newest = (f"{each.audience} until {moment_text(each.expire_time)}" for each in found.newest_tokens[:SHOWN])
    return f"{found.living_tokens} living tokens; the newest: {', '.join(newest)}"
