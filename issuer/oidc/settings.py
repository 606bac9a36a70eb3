"""What is known of an OIDC issuer before anything is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class OidcIssuerSettings:
    """One issuer whose tokens count.

    Attributes:
        name: What the rest of the configuration calls it.
        url: Its ``iss``, exactly.
        audience: The ``aud`` of its tokens for us.
        algorithms: The ``alg`` that it may sign with.
        jwks_uri: Where its keys are; ``None`` to ask its metadata.
        ca_file: PEM of the authorities that its certificate may come from; the system's when ``None``.
        timeout: How long one fetch of its keys may take in all.
        max_key_age: So long after they were fetched its keys count while it is away.
    """

    name: str
    url: str
    audience: str
    algorithms: frozenset[str]
    jwks_uri: str | None
    ca_file: Path | None
    timeout: timedelta
    max_key_age: timedelta
