"""Introspection (RFC 7662) and revocation (RFC 7009) over HTTP on a real issuer, and attacks on both."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest
from support.deployment import LEDGER, READER, SETTLER
from support.eventually import eventually
from support.ledgers import rows
from support.revocations import MAIL, MAIL_SERVER, SERVED, SERVER, Revocable

from issuer.core.metadata import OAUTH_PATH
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.issuer_process import ISSUER_DNS_NAME
from issuer_testing.spire.authority import Authority, pem_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer_testing.spire.authority import IssuedSvid

INACTIVE = {"active": False}
FORM = "application/x-www-form-urlencoded"


class Endpoints:
    """What a caller sees of the listener."""

    def __init__(self, deployment: Revocable, folder: Path) -> None:
        self.deployment = deployment
        self._folder = folder
        [line] = [line for line in deployment.issuer.log() if line.get("event") == "oauth_http_listening"]
        self.port = int(line["address"].rpartition(":")[2])

    def files(self, svid: IssuedSvid) -> tuple[Path, Path, Path]:
        """Write what a caller of TLS needs: its chain, its key, whom to trust."""
        written = {
            "chain.pem": svid.chain_pem(),
            "key.pem": svid.key_pem(),
            "roots.pem": pem_bundle([self.deployment.authority.authority.root]),
        }
        for name, content in written.items():
            (self._folder / name).write_bytes(content)
        chain, key, roots = (self._folder / name for name in written)
        return chain, key, roots

    def context(self, svid: IssuedSvid | None) -> ssl.SSLContext:
        chain, key, roots = self.files(svid or self.deployment.svid())
        context = ssl.create_default_context(cafile=str(roots))
        if svid is not None:
            context.load_cert_chain(chain, key)
        return context

    def request(self, method: str, path: str, svid: IssuedSvid | str | None = SERVER, **options: Any) -> httpx.Response:
        """Send a request as somebody."""
        who = self.deployment.svid(svid) if isinstance(svid, str) else svid
        url = f"https://127.0.0.1:{self.port}{path}"
        with httpx.Client(verify=self.context(who), trust_env=False) as client:
            return client.request(method, url, extensions={"sni_hostname": ISSUER_DNS_NAME}, timeout=15, **options)

    def introspect(self, token: str, svid: IssuedSvid | str = SERVER, **more: str) -> Any:
        """Return what is told of a token."""
        answer = self.request("POST", "/introspect", svid, data={"token": token} | more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()

    def revoke(self, token: str, svid: IssuedSvid | str = SETTLER, **more: str) -> httpx.Response:
        """Revoke a token."""
        return self.request("POST", "/revoke", svid, data={"token": token} | more)


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    folder = tmp_path_factory.mktemp("issuer")
    listen: dict[str, object] = {"listen": "127.0.0.1:0", "url": f"https://{ISSUER_DNS_NAME}:8444"}
    with Revocable(folder, SERVED, oauth_http=listen) as deployment:
        yield Endpoints(deployment, tmp_path_factory.mktemp("caller"))


def test_a_server_learns_what_a_good_token_says(endpoints: Endpoints) -> None:
    issued = endpoints.deployment.issued()
    told = endpoints.introspect(issued.token, token_type_hint="access_token")
    assert told == {
        "active": True,
        "scope": "ledger.read",
        "client_id": SETTLER,
        "sub": SETTLER,
        "aud": LEDGER,
        "iss": endpoints.deployment.issuer.url,
        "exp": issued.expire_time.seconds,
        "iat": told["iat"],
        "nbf": told["iat"] - 5,
        "jti": issued.token_id,
        "token_type": "Bearer",
        "application": "payments",
    }


def test_a_bound_token_is_told_with_its_certificate(endpoints: Endpoints) -> None:
    bound = pb.IssueTokenRequest(
        audience=LEDGER, scopes=["ledger.read"], proof_binding=pb.PROOF_BINDING_TLS_CERTIFICATE
    )
    told = endpoints.introspect(endpoints.deployment.issued(request=bound).token)
    assert list(told["cnf"]) == ["x5t#S256"]
    assert len(told["cnf"]["x5t#S256"]) == 43


def test_nobody_else_learns_anything(endpoints: Endpoints) -> None:
    issued = endpoints.deployment.issued()
    for caller in (SETTLER, READER, MAIL_SERVER, f"{SERVER}/x"):
        assert endpoints.introspect(issued.token, caller) == INACTIVE


def test_what_is_not_ours_is_inactive_and_told_by_nothing_else(endpoints: Endpoints) -> None:
    issued = endpoints.deployment.issued()
    head, payload, _ = issued.token.split(".")
    for text in ("x", "a.b.c", f"{head}.{payload}.", issued.token + "x", issued.token_id):
        assert endpoints.introspect(text) == INACTIVE


def test_the_token_of_another_issuer_is_inactive(endpoints: Endpoints, tmp_path: Path) -> None:
    with Revocable(tmp_path, SERVED) as other:
        assert endpoints.introspect(other.issued().token) == INACTIVE


def test_a_holder_revokes_its_own_token_and_its_server_learns_that(endpoints: Endpoints) -> None:
    issued = endpoints.deployment.issued()
    for _ in range(2):
        answer = endpoints.revoke(issued.token)
        assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (200, b"", "no-store")
    assert endpoints.introspect(issued.token) == INACTIVE


def test_revoking_what_is_unknown_or_another_holders_is_no_error_and_does_nothing(
    endpoints: Endpoints,
) -> None:
    issued = endpoints.deployment.issued()
    ledger = endpoints.deployment.settings.folder / "ledger" / "ledger.sqlite3"
    before = rows(ledger, "SELECT id FROM revocation")
    answers = [
        endpoints.revoke(issued.token, READER),
        endpoints.revoke(issued.token, SERVER),
        endpoints.revoke("unknown"),
        endpoints.revoke("x.y.z", token_type_hint="refresh_token"),
    ]
    told = {(answer.status_code, answer.content, *sorted(answer.headers.keys())) for answer in answers}
    assert len(told) == 1, "they cannot be told apart"
    assert endpoints.introspect(issued.token)["active"]
    assert rows(ledger, "SELECT id FROM revocation") == before


def test_without_a_certificate_there_is_no_connection(endpoints: Endpoints) -> None:
    with pytest.raises((httpx.HTTPError, ssl.SSLError)):
        endpoints.request("POST", "/introspect", None, data={"token": "x"})


def test_a_certificate_of_an_unknown_authority_is_no_connection(endpoints: Endpoints) -> None:
    stranger = Authority("dev.test").issue(SERVER)
    with pytest.raises((httpx.HTTPError, ssl.SSLError)):
        endpoints.request("POST", "/introspect", stranger, data={"token": "x"})


def test_a_certificate_of_our_root_that_names_a_foreign_trust_domain_is_refused(endpoints: Endpoints) -> None:
    """TLS alone lets it through: the root is good, and the name is another's."""
    foreign = endpoints.deployment.svid("spiffe://other.test/ns/ledger/sa/api")
    answer = endpoints.request("POST", "/introspect", foreign, data={"token": "x"})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert endpoints.deployment.issued().token not in answer.text


ODD_REQUESTS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "GET": ("GET", {}, 405, "invalid_request"),
    "GET with a token in the URL": ("GET", {"params": {"token": "x"}}, 405, "invalid_request"),
    "token in the URL": ("POST", {"params": {"token": "x"}, "data": {"token": "x"}}, 400, "invalid_request"),
    "JSON": ("POST", {"json": {"token": "x"}}, 415, "invalid_request"),
    "no content type": ("POST", {"content": b"token=x"}, 415, "invalid_request"),
    "parameter twice": (
        "POST",
        {"content": b"token=x&token=x", "headers": {"content-type": FORM}},
        400,
        "invalid_request",
    ),
    "hint twice": (
        "POST",
        {"content": b"token=x&token_type_hint=a&token_type_hint=a", "headers": {"content-type": FORM}},
        400,
        "invalid_request",
    ),
    "no token": ("POST", {"data": {"token_type_hint": "access_token"}}, 400, "invalid_request"),
    "empty token": ("POST", {"data": {"token": ""}}, 400, "invalid_request"),
    "token too long": ("POST", {"data": {"token": "x" * 17_000}}, 400, "invalid_request"),
    "body too large": ("POST", {"data": {"token": "x" * 40_000}}, 413, "invalid_request"),
    "many fields": ("POST", {"data": {f"f{n}": "x" for n in range(20)}}, 400, "invalid_request"),
    "no form": ("POST", {"content": b"\xff\xfe", "headers": {"content-type": FORM}}, 400, "invalid_request"),
    "a secret": ("POST", {"data": {"token": "x", "client_secret": "y"}}, 401, "invalid_client"),
    "basic authentication": ("POST", {"data": {"token": "x"}, "auth": ("a", "b")}, 401, "invalid_client"),
    "another client": ("POST", {"data": {"token": "x", "client_id": SETTLER}}, 400, "invalid_request"),
}


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
@pytest.mark.parametrize("odd", ODD_REQUESTS.values(), ids=ODD_REQUESTS)
def test_odd_requests_are_refused_alike_on_both(
    endpoints: Endpoints, path: str, odd: tuple[str, dict[str, Any], int, str]
) -> None:
    method, options, status, error = odd
    answer = endpoints.request(method, path, **options)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"
    assert "x" * 20 not in answer.text


def test_a_huge_body_is_refused_before_it_is_read(endpoints: Endpoints) -> None:
    answer = endpoints.request(
        "POST", "/introspect", content=b"token=" + b"x" * 5_000_000, headers={"content-type": FORM}
    )
    assert answer.status_code == 413


def test_other_paths_are_none(endpoints: Endpoints) -> None:
    for path in ("/", "/token", "/introspect/", "/issuer_api.v1.IssuerService/IssueToken"):
        assert endpoints.request("POST", path, data={"token": "x"}).status_code == 404


def test_a_body_that_never_ends_holds_nobody_else(endpoints: Endpoints) -> None:
    context = endpoints.context(endpoints.deployment.svid(SERVER))
    raw = socket.create_connection(("127.0.0.1", endpoints.port))
    with context.wrap_socket(raw, server_hostname=ISSUER_DNS_NAME) as dripping:
        dripping.sendall(
            f"POST /introspect HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\ncontent-length: 99\r\n\r\ntoken=".encode()
        )
        assert endpoints.introspect("x") == INACTIVE
        dripping.settimeout(20)
        assert b" 408 " in dripping.recv(4096)


def test_curl_speaks_to_it(endpoints: Endpoints) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl here")
    issued = endpoints.deployment.issued()
    chain, key, roots = endpoints.files(endpoints.deployment.svid(SERVER))
    command: list[str | Path] = [curl, "--silent", "--http1.1", "--cert", chain, "--key", key, "--cacert", roots]
    command += ["--resolve", f"{ISSUER_DNS_NAME}:{endpoints.port}:127.0.0.1", "--data-urlencode", "token@-"]
    url = f"https://{ISSUER_DNS_NAME}:{endpoints.port}/introspect"
    answer = subprocess.run([*command, url], input=issued.token.encode(), capture_output=True, check=True, timeout=20)
    assert json.loads(answer.stdout)["jti"] == issued.token_id


def test_the_metadata_names_both_and_how_to_prove_oneself(endpoints: Endpoints) -> None:
    metadata = httpx.get(endpoints.deployment.issuer.url + OAUTH_PATH, trust_env=False).json()
    base = f"https://{ISSUER_DNS_NAME}:8444"
    assert {name: value for name, value in metadata.items() if name.startswith(("introspection", "revocation"))} == {
        "introspection_endpoint": f"{base}/introspect",
        "introspection_endpoint_auth_methods_supported": ["tls_client_auth"],
        "revocation_endpoint": f"{base}/revoke",
        "revocation_endpoint_auth_methods_supported": ["tls_client_auth"],
    }


def test_each_request_is_one_line_of_the_log_without_the_token(endpoints: Endpoints) -> None:
    issued = endpoints.deployment.issued()
    endpoints.introspect(issued.token)
    [line] = eventually(
        lambda: [
            line
            for line in endpoints.deployment.issuer.log()
            if line.get("transport") == "http" and line.get("token_id") == issued.token_id
        ]
    )
    assert line["method"].endswith("IntrospectToken")
    assert (line["caller"], line["code"], line["active"]) == (SERVER, "OK", True)
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    written = str(endpoints.deployment.issuer.log())
    assert issued.token not in written
    assert issued.token.split(".")[2] not in written


def test_the_issuers_own_rotation_is_survived(endpoints: Endpoints) -> None:
    endpoints.deployment.authority.rotate(endpoints.deployment.identity)
    eventually(
        lambda: [line for line in endpoints.deployment.issuer.log() if line.get("event") == "tls_changed"], within=20
    )
    assert endpoints.introspect("x") == INACTIVE


def test_what_urlencoded_means_is_read(endpoints: Endpoints) -> None:
    issued = endpoints.deployment.issued()
    body = urlencode({"token": issued.token}).replace(".", "%2E").encode()
    answer = endpoints.request("POST", "/introspect", content=body, headers={"content-type": f"{FORM}; charset=UTF-8"})
    assert answer.json()["jti"] == issued.token_id


def test_the_mail_server_is_told_of_its_own_audience(endpoints: Endpoints) -> None:
    mail = endpoints.deployment.issued(request=pb.IssueTokenRequest(audience=MAIL, scopes=["mail.send"]))
    assert endpoints.introspect(mail.token, MAIL_SERVER)["aud"] == MAIL
    assert endpoints.introspect(mail.token, SERVER) == INACTIVE
