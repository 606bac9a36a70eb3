"""What the issuer publishes for resource servers, and its clock, as seen from here."""

from __future__ import annotations

import ssl
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from agent_client.cli.diagnosis.finding import Finding, fault, ok, skipped, warning
from agent_client.cli.telling_times import told_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

TOLERATED_SECONDS = 5.0
"""What verifiers allow by default."""
_FETCH_SECONDS = 5.0
_CLOCK = "Set this host's clock, and see that NTP runs here and at the issuer."


def key_findings(issuer_url: str, signing_keys: set[str] | None) -> Iterator[Finding]:
    """Yield whether verifiers that know only the issuer's URL get its keys.

    Args:
        issuer_url: Its ``iss``.
        signing_keys: The ids of the keys that it tells by gRPC; ``None`` when it could not be asked.
    """
    from agent_client.verification.bounded_http import FetchFault  # noqa: PLC0415 - only with --issuer-url
    from agent_client.verification.metadata_keys import MetadataKeys  # noqa: PLC0415

    remedy = "See that the issuer's public HTTP listener is reached under exactly this URL, and compare `issuer.url`."
    try:
        fetched = MetadataKeys(issuer_url).fetch()
    except (FetchFault, ValueError) as error:
        yield fault("metadata", str(error), remedy)
        return
    published = key_ids(fetched.jwks)
    yield ok("metadata", f"{issuer_url} names its keys")
    if signing_keys is None:
        yield ok("keys", f"{len(published)} published")
    elif signing_keys <= published:
        yield ok("keys", f"{len(published)} published, the same as by gRPC")
    else:
        yield fault("keys", "the published keys lack some that the issuer signs with", "Restart the issuer's listener.")


def clock_finding(now: datetime, theirs: datetime | None, whose: str) -> Finding:
    """Return how far this host's clock is from another."""
    if theirs is None:
        return skipped("clock", f"{whose} tells no time")
    ahead = (now - theirs).total_seconds()
    if abs(ahead) <= TOLERATED_SECONDS:
        return ok("clock", f"within {TOLERATED_SECONDS:g} s of {whose}")
    told = f"{told_duration(ahead)} {'ahead of' if ahead > 0 else 'behind'} {whose}"
    return (warning if abs(ahead) < 2 * TOLERATED_SECONDS else fault)("clock", f"this host is {told}", _CLOCK)


def date_of(issuer_url: str) -> datetime | None:
    """Return the time that the issuer's HTTP listener tells with its metadata (RFC 9110 section 6.6.1)."""
    from agent_client.verification.bounded_http import FetchFault, checked_url, fetch_object  # noqa: PLC0415 - as above
    from agent_client.verification.metadata_keys import metadata_urls  # noqa: PLC0415

    try:
        where, _ = metadata_urls(checked_url(issuer_url))
        date = fetch_object(where, ssl.create_default_context(), time.monotonic() + _FETCH_SECONDS).date
        return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
    except (FetchFault, ValueError, OverflowError):
        return None


def key_ids(jwks: Mapping[str, Any]) -> set[str]:
    """Return the ids of the keys of a JWK Set."""
    keys = jwks.get("keys")
    return {str(key["kid"]) for key in keys or () if isinstance(key, dict) and "kid" in key}
