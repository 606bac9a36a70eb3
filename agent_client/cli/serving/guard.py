"""Who may ask. Pure.

On a UNIX socket the kernel says which user is at the other end. On loopback it does not: every user of the host gets
there, as does a browser that visits a bad page, and any server that can be talked into a request (SSRF). Against these
there are the rules below, which are those of cloud metadata servers, and a secret that only a file tells.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_client.cli.serving.answers import Answer, refusal

if TYPE_CHECKING:
    from agent_client.cli.serving.request import Request

_OF_BROWSERS = ("origin", "sec-fetch-site", "sec-fetch-mode", "referer")
_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class UnixGuard:
    """The guard of a UNIX socket.

    Attributes:
        uids: The users that may ask.
    """

    uids: frozenset[int]

    def refusal(self, request: Request, uid: int | None) -> Answer | None:
        """Return what to answer to who may not ask; ``None`` to who may.

        Args:
            request: What was asked.
            uid: The user at the other end, as the kernel says; ``None`` when it does not.
        """
        if uid not in self.uids:
            return refusal(403, "access_denied", "this user may not ask here")
        return _passed_along(request)


@dataclass(frozen=True, slots=True)
class LoopbackGuard:
    """The guard of a port on loopback.

    Attributes:
        hosts: What ``Host`` may be.
        secret: What ``Authorization: Bearer`` has to bring.
    """

    hosts: frozenset[str]
    secret: str = field(repr=False)

    def refusal(self, request: Request, _uid: int | None) -> Answer | None:
        """Return what to answer to who may not ask; ``None`` to who may.

        1. ``Host`` is one of ours: a page whose own name was made to lead here (DNS rebinding) sends that name.
        2. Nothing that browsers and proxies add.
        3. ``Metadata: true``, which no form, link or redirect can send.
        4. The secret. Compared last and in constant time, so that no other fault tells anything of it.
        """
        if request.headers["host"].lower() not in self.hosts:  # 1
            return refusal(403, "access_denied", "Host is not this endpoint")
        if (answer := _passed_along(request)) is not None:  # 2
            return answer
        if request.headers.get(METADATA, "").lower() != "true":  # 3
            return refusal(403, "access_denied", "the header Metadata: true is missing")
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")  # 4
        if scheme.lower() != "bearer" or not hmac.compare_digest(secret.encode(), self.secret.encode()):
            return refusal(401, "invalid_client", "Authorization does not bring the secret of this start")
        return None


Guard = UnixGuard | LoopbackGuard


def _passed_along(request: Request) -> Answer | None:
    for names, whose in ((_OF_BROWSERS, "a browser"), (_OF_PROXIES, "a proxy")):
        if any(name in request.headers for name in names):
            return refusal(403, "access_denied", f"the request comes from {whose}")
    return None
