"""The issuer's DNS name: who else could get a certificate with it. Pure."""

from __future__ import annotations

from agent_client.cli.diagnosis.finding import Finding, fault, ok, warning

_STEP = "DNS name"
_REMEDY = (
    "Give the issuer's entry a DNS name that no Service can have, as spiffe-issuer.workload.internal, and tell it to "
    "every caller."
)
_SERVICE, _SERVICE_LABELS = "svc", 3
"""``NAME.NAMESPACE.svc`` and what follows it (Kubernetes, DNS for Services)."""


def dns_name_finding(name: str) -> Finding:
    """Return whether a Kubernetes Service could have the issuer's name.

    The name authenticates the issuer. Where SPIRE fills in the DNS names of Services (``autoPopulateDNSNames``), who
    may create a Service gets a certificate with its names: ``NAME``, ``NAME.NAMESPACE``, ``NAME.NAMESPACE.svc`` and
    ``NAME.NAMESPACE.svc.CLUSTER-DOMAIN``.
    """
    labels = name.lower().rstrip(".").split(".")
    if len(labels) >= _SERVICE_LABELS and labels[2] == _SERVICE:
        return fault(_STEP, f"{name} is a Kubernetes Service: who may create one can pose as the issuer", _REMEDY)
    if len(labels) < _SERVICE_LABELS:
        return warning(_STEP, f"{name} could be the name of a Kubernetes Service", _REMEDY)
    return ok(_STEP, f"{name} is none that a Kubernetes Service can have")
