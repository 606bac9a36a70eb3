"""An issuer whose status lists a test writes by hand, over real HTTP."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent_client.clock import utc_now
from support.forging import Forge, as_json, claims_at, encoded, fixed_forge, without_omitted
from support.key_server import KeyServer, key_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

PATH = "/status-lists/7"


class ListServer:
    """An issuer's HTTP side with one status list.

    Attributes:
        http: What serves; tests let it fail.
        forge: The issuer's key.
        media_type: How lists are called in answers.
    """

    def __init__(self, http: KeyServer) -> None:
        self.http = http
        self.forge = fixed_forge()
        self.media_type = "application/statuslist+jwt"
        http.serve(self.forge.jwks)

    @property
    def issuer(self) -> str:
        """The ``iss``."""
        return self.http.issuer

    @property
    def uri(self) -> str:
        """The list's address."""
        return self.issuer + PATH

    @property
    def fetches(self) -> int:
        """How often the list was asked for."""
        return self.http.requests.count(PATH)

    def token(self, **changes: object) -> str:
        """Return a good token that is entry 5 of the list, changed."""
        now = int(utc_now().timestamp())
        status = {"status_list": {"idx": 5, "uri": self.uri}}
        return self.forge.sign(payload=as_json(claims_at(now, **{"iss": self.issuer, "status": status, **changes})))

    def listed(self, *revoked: int, forge: Forge | None = None, typ: str = "statuslist+jwt", **changes: object) -> str:
        """Return a signed list of 16 entries, of which some are revoked, changed."""
        now = int(utc_now().timestamp())
        entries = sum(1 << index for index in revoked).to_bytes(2, "little")
        good = {
            "iss": self.issuer,
            "sub": self.uri,
            "iat": now,
            "exp": now + 600,
            "ttl": 60,
            "status_list": {"bits": 1, "lst": encoded(zlib.compress(entries))},
        }
        signer = forge or self.forge
        return signer.sign(signer.header(typ=typ), payload=as_json(without_omitted({**good, **changes})))

    def show(self, text: str) -> None:
        """Serve this list from now on."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", self.media_type)
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text.encode())

        self.http.answers[PATH] = answer


@contextmanager
def list_server(*revoked: int, **changes: Any) -> Iterator[ListServer]:
    """Run an issuer that serves this list."""
    with key_server() as http:
        running = ListServer(http)
        running.show(running.listed(*revoked, **changes))
        yield running
