"""An issuer whose signing keys an operator changes, for tests."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import grpc

from agent_client.verification import TokenVerifier
from agent_client.verification.metadata_keys import MetadataKeys
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from support.deployment import DEADLINE, LEDGER, reason_of
from support.revocations import SERVED, SERVER, Revocable

if TYPE_CHECKING:
    from pathlib import Path

    from agent_client.verification.key_sources import FetchedKeys

NEXT, ACTIVE, RETIRED, GONE = (
    admin.KEY_STATE_NEXT,
    admin.KEY_STATE_ACTIVE,
    admin.KEY_STATE_RETIRED,
    admin.KEY_STATE_GONE,
)


def kid_of(token: str) -> str:
    header = token.partition(".")[0]
    kid: str = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    return kid


class CountedKeys(MetadataKeys):
    """Counts how often it is asked."""

    fetches = 0

    def fetch(self) -> FetchedKeys:
        """Fetch."""
        self.fetches += 1
        return super().fetch()


class Rotating(Revocable):
    """Verifiers may keep its key set for a second unless told otherwise, so that a test need not wait for long."""

    def __init__(
        self, folder: Path, policy: str = SERVED, *, max_age: str = "1s", **options: dict[str, object]
    ) -> None:
        http: dict[str, object] = {"key_set_max_age": max_age, **options.pop("http", {})}
        super().__init__(folder, policy, http=http, **options)
        self.key_file = self.settings.folder / "keys" / "signing-key.pem"

    def keys(self) -> dict[str, admin.SigningKey]:
        """Return all keys by ``kid``."""
        with self.administer() as stub:
            listed = stub.ListKeys(admin.ListKeysRequest(), timeout=DEADLINE).keys
        return {each.key_id: each for each in listed}

    def in_state(self, state: int) -> list[str]:
        """Return the ``kid`` of each key in a state."""
        return [kid for kid, each in self.keys().items() if each.state == state]

    def prepare(self) -> str:
        """Make a next key, and return its ``kid``."""
        with self.administer() as stub:
            keys = stub.PrepareKey(admin.PrepareKeyRequest(), timeout=DEADLINE).keys
        return next(str(each.key_id) for each in keys if each.state == NEXT)

    def activate(self, kid: str, *, force: bool = False) -> str:
        """Let a key sign; return ``OK`` or the reason of the refusal."""
        return self._outcome("ActivateKey", admin.ActivateKeyRequest(key_id=kid, force=force))

    def remove(self, kid: str, *, force: bool = False) -> str:
        """Publish a key no more; likewise."""
        return self._outcome("RemoveKey", admin.RemoveKeyRequest(key_id=kid, force=force))

    def _outcome(self, name: str, request: Any) -> str:
        with self.administer() as stub:
            try:
                getattr(stub, name)(request, timeout=DEADLINE)
            except grpc.RpcError as error:
                return reason_of(error)
        return "OK"

    def token(self) -> str:
        """Return the text of a new token."""
        return str(self.issued().token)

    def published(self, issuer: str = "") -> list[str]:
        """Return what is in the published key set of this issuer, or of another one."""
        with urlopen(f"{issuer or self.issuer.url}/.well-known/jwks.json", timeout=DEADLINE) as answer:  # noqa: S310 - of a test
            return [each["kid"] for each in json.load(answer)["keys"]]

    def verifier(self, keys: CountedKeys) -> TokenVerifier:
        """Return a verifier."""
        return TokenVerifier(self.issuer.url, LEDGER, insecure_dev=True, keys=keys)

    def key_source(self) -> CountedKeys:
        """Return where a verifier fetches keys, from the issuer's URL alone."""
        return CountedKeys(self.issuer.url)

    def is_active(self, token: str) -> bool:
        """Return what introspection says."""
        with self.channel(self.svid(SERVER)) as channel:
            request = pb.IntrospectTokenRequest(token=token)
            answer = pb_grpc.IssuerServiceStub(channel).IntrospectToken(request, timeout=DEADLINE)
            return bool(answer.active)
