"""What to do about each reason, in one sentence for the person who runs the workload.

``docs/ERRORS.md`` is made from this table and the comments of ``error_reason.proto``.
"""

from __future__ import annotations

_ENTRY = "Mend what issues this SVID: SPIRE makes no such certificate, so it comes from another CA or from a proxy."
_ROTATE = "Ask again with the SVID that the Workload API has now; if it has no newer one, look at the SPIRE agent."
_CHAIN = "Present the chain exactly as the Workload API gives it; if that is done, look at the SPIRE server's CA."
_BUNDLE = "Have the issuer's operator compare `spire-server bundle list` with the trust domains the issuer lets call."
_POLICY = "Ask for what ListAccess shows, or give the policy's owner the decision id and ask for a grant."
_WAIT = "Ask again in a moment; if it stays, the issuer's operator finds the cause under the request id."

REMEDIES: dict[str, str] = {
    "REQUEST_INVALID": "Mend the fields that are named.",
    "RPC_NOT_ALLOWED": "Call with an identity that the issuer's configuration lets use this method.",
    "SVID_MISSING": "Connect with the workload's SVID as the client certificate; a proxy that ends TLS loses it.",
    "SVID_MALFORMED": _ENTRY,
    "SVID_URI_SAN_MISSING": "Connect with an X.509-SVID from the Workload API, not with an ordinary certificate.",
    "SVID_URI_SAN_MULTIPLE": _ENTRY,
    "SVID_URI_SAN_NOT_CRITICAL": _ENTRY,
    "SPIFFE_ID_NOT_CANONICAL": "Register the workload anew: trust domain in lower case, plain path, nothing encoded.",
    "SPIFFE_ID_TOO_LONG": "Register the workload with a SPIFFE ID of at most 2,048 bytes.",
    "SPIFFE_ID_WITHOUT_PATH": "Register the workload with a path: the ID of a trust domain alone is nobody's.",
    "SVID_IS_CA": "Connect with the workload's own certificate, not with that of an authority.",
    "SVID_KEY_USAGE_MISSING": _ENTRY,
    "SVID_KEY_USAGE_NOT_CRITICAL": _ENTRY,
    "SVID_KEY_USAGE_NO_DIGITAL_SIGNATURE": _ENTRY,
    "SVID_KEY_USAGE_CERT_SIGN": _ENTRY,
    "SVID_KEY_USAGE_CRL_SIGN": _ENTRY,
    "SVID_EXTENDED_KEY_USAGE": _ENTRY,
    "SVID_EXPIRED": _ROTATE,
    "SVID_NOT_YET_VALID": "Compare the clocks of the SPIRE server, of this host and of the issuer.",
    "SVID_EXPIRES_SOON": "Ask again after the SVID was rotated; if it is often so, give its entry a longer X.509 TTL.",
    "CALLER_IS_ISSUER": "Give the workload a registration entry of its own: the issuer's is for the issuer alone.",
    "CHAIN_TOO_LONG": "Shorten the chain of upstream authorities; the issuer follows only a few intermediates.",
    "CHAIN_INCOMPLETE": _CHAIN,
    "CHAIN_INVALID": _CHAIN,
    "CHAIN_INTERMEDIATE_EXPIRED": _ROTATE,
    "CHAIN_INTERMEDIATE_FOREIGN": _CHAIN,
    "CHAIN_NAME_CONSTRAINTS": "Have the CA's name constraints widened, or register the workload inside them.",
    "CHAIN_AUTHORITY_REMOVED": "Ask again with a fresh SVID: the authority behind this one was withdrawn on purpose.",
    "TRUST_DOMAIN_MISMATCH": "Have the host's SPIRE looked at: another trust domain's authority signed this SVID.",
    "TRUST_DOMAIN_NOT_ALLOWED": "Have the issuer's operator add the trust domain to `federated_trust_domains`.",
    "TRUST_BUNDLE_MISSING": _BUNDLE,
    "TRUST_BUNDLE_EMPTY": _BUNDLE,
    "AUDIENCE_NOT_ALLOWED": _POLICY,
    "SCOPE_NOT_ALLOWED": _POLICY,
    "APPLICATION_NOT_ALLOWED": _POLICY,
    "APPLICATION_REQUIRED": "Name the application; ListAccess shows which ones there are.",
    "GRANT_EXPIRED": "Give the policy's owner the decision id and ask whether the grant should be renewed.",
    "GRANT_TYPE_NOT_ALLOWED": _POLICY,
    "FACT_MISSING": "See what ListAccess names as missing: a part of the request, or a fact that somebody has to feed.",
    "CONDITION_NOT_MET": "Try again when the condition that ListAccess names is met; the decision id finds the rest.",
    "APPROVAL_REQUIRED": "Have somebody approve it, with `issuer approvals`; ask for that with `request_approval`.",
    "ORIGIN_EXPIRES_SOON": "Get a new subject token, or have the intent or the window of access made anew.",
    "REVOKED": "Give the issuer's operator the decision id, and ask why; `issuer revocations list` shows it.",
    "POLICY_INVALID": "Mend the policy's files; `issuer policy check` shows the same faults.",
    "POLICY_UNKNOWN": "Choose a digest that `issuer policy status` lists.",
    "TOO_MANY_FACTS": "Tell fewer facts, or let those that are not needed end earlier.",
    "TOO_MANY_WATCHES": "End a stream that is not read any more, or let one process watch for several.",
    "TOO_MANY_REVOCATIONS": "Lift what need not be stopped any more, or revoke by a pattern rather than one by one.",
    "REVOCATION_UNKNOWN": "Choose an id that `issuer revocations list` shows.",
    "REVOCATION_FINAL": "Let it be: the tokens that it killed stay dead, and a revoked key is never used again.",
    "APPROVAL_UNKNOWN": "Choose a request that `issuer approvals list` shows.",
    "APPROVAL_NOT_OPEN": "See what became of it with `issuer approvals show`; who still needs a token asks anew.",
    "APPROVER_NOT_ALLOWED": "Let somebody else approve it: another person, whom the policy names as an approver.",
    "TOO_MANY_APPROVALS": "Have the open requests answered, or cancel those that are not needed.",
    "IDENTITY_UNAVAILABLE": _WAIT,
    "POLICY_NOT_LOADED": _WAIT,
    "SIGNER_UNAVAILABLE": _WAIT,
    "LEDGER_UNAVAILABLE": _WAIT,
    "RATE_LIMITED": "Ask again when the issuer says, and keep each token until it is due: do not ask for every use.",
    "INTERNAL": "Give the issuer's operator the request id.",
}
"""By reason: a value of ``ErrorReason`` without its prefix. Total over the enum; a test holds it to that."""
