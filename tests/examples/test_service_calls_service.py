"""settlement.py calls ledger_fastapi.py, each in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from support.deployment import LEDGER as DEV_LEDGER
from support.deployment import POLICY, SETTLER, Deployment
from support.examples import commands, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer_testing.development import Development

Environment = dict[str, str]
LEDGER = "https://ledger.prod.example"


def test_the_caller_gets_what_the_called_has(settler: Environment, ledger: str, tmp_path: Path) -> None:
    environment = settler | {"LEDGER_URL": f"http://{ledger}"}
    with serving(commands()["settlement.py"], environment, tmp_path / "settlement.log") as settlement:
        answers = [httpx.get(f"http://{settlement}/balance") for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"balance": "19.75"})] * 2


def test_a_caller_that_policy_refuses_is_told_why_and_its_own_caller_is_not(
    reader: Environment, ledger: str, tmp_path: Path
) -> None:
    log = tmp_path / "settlement.log"
    with serving(commands()["settlement.py"], reader | {"LEDGER_URL": f"http://{ledger}"}, log) as settlement:
        answer = httpx.get(f"http://{settlement}/balance")
        assert (answer.status_code, answer.json()) == (503, {"error": "the ledger cannot be asked now"})
    assert "no token for the ledger: " in log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def two_scopes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Another issuer, whose policy knows two scopes of little risk: for more, tokens are bound to certificates."""
    policy = (
        POLICY.replace(DEV_LEDGER, LEDGER)
        .replace("ledger.write", "ledger.list")
        .replace("risk: high, max_ttl: 2m", "risk: low")
    )
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=policy) as running:
        yield running


def token_for(deployment: Deployment, scope: str) -> str:
    with deployment.issuer.client(deployment.authority.workload(SETTLER)) as client:
        return client.issue_token(LEDGER, [scope]).token.reveal()


def show(ledger: str, token: str) -> httpx.Response:
    return httpx.get(f"http://{ledger}/entries", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(params=["ledger_fastapi.py", "ledger_api.py"])
def called(request: pytest.FixtureRequest) -> str:
    """The resource servers, which answer alike."""
    return {
        "ledger_fastapi.py": commands()["ledger_fastapi.py"],
        "ledger_api.py": commands()["ledger_api.py"],
    }[request.param]


def test_the_called_wants_a_token_and_says_so(called: str, settler: Environment, tmp_path: Path) -> None:
    with serving(called, settler | {"AUDIENCE": LEDGER}, tmp_path / "log") as ledger:
        answer = httpx.get(f"http://{ledger}/entries")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_called_takes_a_token_only_for_the_scope_that_it_has(
    called: str, settler: Environment, two_scopes: Deployment, tmp_path: Path
) -> None:
    environment = settler | {"AUDIENCE": LEDGER, "ISSUER": two_scopes.issuer.url}
    reads, lists = (token_for(two_scopes, scope) for scope in ("ledger.read", "ledger.list"))
    with serving(called, environment, tmp_path / "log") as ledger:
        assert show(ledger, reads).status_code == 200
        refused = show(ledger, lists)
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="ledger.read"' in refused.headers["www-authenticate"]


def test_the_called_takes_no_token_of_another_issuer(
    called: str, settler: Environment, two_scopes: Deployment, tmp_path: Path
) -> None:
    with serving(called, settler | {"AUDIENCE": LEDGER}, tmp_path / "log") as ledger:
        assert show(ledger, token_for(two_scopes, "ledger.read")).status_code == 401


def test_the_called_takes_no_token_of_a_development_authority_unless_told(
    called: str, settler: Environment, development: Development, tmp_path: Path
) -> None:
    environment = settler | {"AUDIENCE": LEDGER}
    del environment["INSECURE_DEV"]
    with (
        development.issuer.client(development.settler) as client,
        serving(called, environment, tmp_path / "log") as ledger,
    ):
        token = client.issue_token(LEDGER, ["ledger.read"]).token.reveal()
        assert show(ledger, token).status_code == 401


def test_the_called_knows_who_was_proven(ledger: str, development: Development) -> None:
    with development.issuer.client(development.settler) as client:
        token = client.issue_token(LEDGER, ["ledger.read"]).token.reveal()
    answer = httpx.get(f"http://{ledger}/caller", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == development.settler.spiffe_id
