"""The workload's side: its SVID, and whom its bundles trust. Pure, over one answer of the Workload API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature

from agent_client.cli.diagnosis.finding import Finding, fault, ok, warning
from agent_client.cli.telling_times import told_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cryptography.x509 import Certificate

    from agent_client.x509_context import X509Context, X509Svid

LATE = 1 / 3
"""SPIRE rotates at half of an SVID's life; with less than this left, it was due a while ago."""
_ROTATION = "Look at the SPIRE agent's log: it should have rotated this SVID at half of its life."
_CLOCK = "Set this host's clock, and see that NTP runs here and on the SPIRE server."


def svid_findings(svid: X509Svid, context: X509Context, now: datetime) -> Iterator[Finding]:
    """Yield what is to be said of an SVID."""
    others = len(context.svids) - 1
    ending = f"{svid.not_after:%Y-%m-%d %H:%M:%SZ}"
    begins = max(certificate.not_valid_before_utc for certificate in svid.certificates)
    left, life = (svid.not_after - now).total_seconds(), (svid.not_after - begins).total_seconds()
    if left <= 0:
        yield fault("SVID", f"{svid.spiffe_id} expired at {ending}", _ROTATION)
    elif begins > now:
        yield fault("SVID", f"{svid.spiffe_id} is valid only from {begins:%Y-%m-%d %H:%M:%SZ}", _CLOCK)
    elif left < life * LATE:
        told = f"{told_duration(left)} of {told_duration(life)} left"
        yield warning("SVID", f"{svid.spiffe_id} has {told}", _ROTATION)
    else:
        more = f"; {others} more {'identity' if others == 1 else 'identities'}" if others else ""
        yield ok("SVID", f"{svid.spiffe_id}, good for {told_duration(left)}{more}")
    yield _chain_finding(svid, context.bundles.get(svid.trust_domain, ()))


def bundle_finding(context: X509Context, trust_domain: str, now: datetime) -> Finding:
    """Return what is to be said of the authorities of the issuer's trust domain."""
    authorities = context.bundles.get(trust_domain, ())
    if not authorities:
        return fault(
            "bundle",
            f"there are no authorities of {trust_domain}, the issuer's trust domain",
            "See that its bundle is not empty and, if it is another domain than this workload's, that the workload's "
            "entry federates with it; or name the right one with --issuer-trust-domain.",
        )
    valid = [one for one in authorities if one.not_valid_before_utc <= now < one.not_valid_after_utc]
    if not valid:
        return fault("bundle", f"every authority of {trust_domain} is outside its dates", _CLOCK)
    last = max(one.not_valid_after_utc for one in valid)
    return ok("bundle", f"{len(valid)} of {len(authorities)} of {trust_domain} good, the last until {last:%Y-%m-%d}")


def _chain_finding(svid: X509Svid, authorities: tuple[Certificate, ...]) -> Finding:
    """Follow the signatures from the leaf to an authority. What else a chain has to fulfil the issuer tells, at TLS."""
    for below, above in zip(svid.certificates, svid.certificates[1:], strict=False):
        if not _signed_by(below, above):
            return fault("chain", "a certificate of the SVID is not signed by the next one", _ROTATION)
    top = svid.certificates[-1]
    if not any(_signed_by(top, authority) for authority in authorities):
        return fault(
            "chain",
            f"no authority of {svid.trust_domain} has signed the SVID",
            "Restart the SPIRE agent; if it stays so, the server's CA was changed without its bundle.",
        )
    return ok("chain", f"{len(svid.certificates)} {'certificate' if len(svid.certificates) == 1 else 'certificates'}")


def _signed_by(below: Certificate, above: Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
