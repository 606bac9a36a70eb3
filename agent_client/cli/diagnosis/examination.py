"""The steps, in order: what each needs of the ones before, and what is left out without it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from agent_client.cli.diagnosis.finding import Finding, fault, ok, skipped, warning
from agent_client.cli.diagnosis.identity import bundle_finding, svid_findings
from agent_client.cli.diagnosis.naming import dns_name_finding
from agent_client.cli.diagnosis.publishing import clock_finding, date_of, key_findings, key_ids
from agent_client.cli.diagnosis.reaching import reach, resolve
from agent_client.cli.failure import failure_of
from agent_client.clock import utc_now
from agent_client.credentials import pick_svid
from agent_client.endpoint import IssuerEndpoint, issuer_endpoint
from agent_client.errors import ClientNotConfigured
from agent_client.workload_api import WorkloadApiWatcher
from agent_client.workload_api_errors import WorkloadApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from agent_client import Access, SyncIssuerClient
    from agent_client.cli.options import ConnectionOptions
    from agent_client.x509_context import X509Context

Value = TypeVar("Value")
_MANY = 5


@dataclass
class Examination:
    """One walk through everything that a token needs.

    Attributes:
        connection: Where everything is.
        audience: An API to get a token for, to see whether that works; ``None``: none is got.
        scopes: What for.
        issuer_url: The issuer's ``iss``, to look at what it publishes; ``None``: that is not looked at.
    """

    connection: ConnectionOptions
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    issuer_url: str | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield what is found, as it is found. Goes on past what does not work.

        1. The socket of the Workload API, and what comes from it.
        2. The SVID, its chain, and the authorities of the issuer's trust domain.
        3. The issuer's DNS name.
        4. Its addresses, and mutual TLS with each.
        5. What policy lets this workload ask for.
        6. With an audience: a token, and its time.
        7. With the issuer's URL: what it publishes, and its clock.
        """
        context = yield from self._workload_api()  # 1
        endpoint = yield from self._endpoint()
        if context is not None:
            yield from self._identity(context, endpoint)  # 2
        if endpoint is not None:
            yield dns_name_finding(endpoint.dns_name)  # 3
        accesses = None
        if endpoint is not None and context is not None:
            accesses = yield from self._reach(endpoint)  # 4
        yield self._policy(accesses)  # 5
        if self.audience is not None:
            yield from self._token(self.audience, reached=accesses is not None)  # 6
        yield from self._published(reached=accesses is not None)  # 7

    def _workload_api(self) -> Generator[Finding, None, X509Context | None]:
        began = time.monotonic()
        try:
            with WorkloadApiWatcher(self.connection.socket) as watcher:
                context = watcher.wait_for_first(self.connection.seconds)
        except WorkloadApiError as error:
            yield fault("Workload API", str(error), "Mend what is named; everything else needs it.")
            return None
        yield ok("Workload API", f"{watcher.socket} answers in {(time.monotonic() - began) * 1000:.0f} ms")
        return context

    def _endpoint(self) -> Generator[Finding, None, IssuerEndpoint | None]:
        options = self.connection
        try:
            endpoint = issuer_endpoint(options.issuer, options.issuer_name, options.issuer_trust_domain)
        except ClientNotConfigured as error:
            yield fault("issuer", str(error), "Set it; it is in the description of the issuer's deployment.")
            return None
        yield ok("issuer", endpoint.address)
        return endpoint

    def _identity(self, context: X509Context, endpoint: IssuerEndpoint | None) -> Iterator[Finding]:
        now = utc_now()
        try:
            svid = pick_svid(context, self.connection.spiffe_id)
        except WorkloadApiError as error:
            yield fault("SVID", str(error), "Name one of those, or leave --spiffe-id out.")
            return
        yield from svid_findings(svid, context, now)
        trust_domain = endpoint.trust_domain if endpoint is not None else None
        yield bundle_finding(context, trust_domain or svid.trust_domain, now)

    def _reach(self, endpoint: IssuerEndpoint) -> Generator[Finding, None, list[Access] | None]:
        addresses, nowhere = resolve(endpoint.address)
        if nowhere is not None:
            yield nowhere
        accesses = None
        for address in addresses:
            finding, found = reach(address, endpoint.dns_name, self._client_of, self.connection.seconds)
            yield finding
            accesses = found if accesses is None else accesses
        return accesses

    def _policy(self, accesses: list[Access] | None) -> Finding:
        if accesses is None:
            return skipped("policy", "the issuer was not reached")
        granted = [
            f"{access.audience} ({' '.join(scope.name for scope in access.scopes)})"
            for access in accesses
            if access.scopes
        ]
        if not granted:
            return warning(
                "policy", "it grants this workload nothing", "Ask the policy's owner for a grant for this SPIFFE ID."
            )
        more = f", and {len(granted) - _MANY} more" if len(granted) > _MANY else ""
        return ok("policy", f"grants {', '.join(granted[:_MANY])}{more}")

    def _token(self, audience: str, *, reached: bool) -> Iterator[Finding]:
        if not reached:
            yield skipped("token", "the issuer was not reached")
            return
        try:
            with self.connection.client() as client:
                issued = client.issue_token(audience, self.scopes, allow_partial=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what there is to tell
            failure = failure_of(error)
            told = dict(failure.details)
            named = " ".join(f"{name} {told[name]}" for name in ("reason", "decision") if told.get(name))
            remedy = told.get("remedy") or "Mend what is named."
            yield fault("token", f"{failure.message} ({named})" if named else failure.message, remedy)
            return
        yield ok("token", f"one for {audience} was issued, decision {issued.decision_id}")
        yield clock_finding(utc_now(), issued.issued_at, "the issuer, by the token's iat")

    def _published(self, *, reached: bool) -> Iterator[Finding]:
        if self.issuer_url is None:
            return
        keys = None
        if reached:
            with self.connection.client() as client:
                keys = _or_none(lambda: key_ids(client.get_key_set().jwks))
        yield from key_findings(self.issuer_url, keys)
        yield clock_finding(utc_now(), date_of(self.issuer_url), "the issuer, by HTTP")

    def _client_of(self, address: str) -> SyncIssuerClient:
        return replace(self.connection, issuer=address).client()


def _or_none(ask: Callable[[], Value]) -> Value | None:
    try:
        return ask()
    except Exception:  # noqa: BLE001 - the steps before have told why
        return None
