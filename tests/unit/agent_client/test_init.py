from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import agent_client
from agent_client import errors


@pytest.mark.parametrize("name", agent_client.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(agent_client, name)
    assert name in dir(agent_client)
    if inspect.isclass(value):
        assert value.__doc__


def test_every_error_is_public() -> None:
    kinds = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert kinds <= set(agent_client.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="IssuerClinet"):
        agent_client.IssuerClinet  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "kept_out"),
    [
        ("import agent_client", {"grpc", "spiffe", "cryptography", "typer", "google.protobuf"}),
        ("from agent_client import IssuerRequestError", {"grpc", "spiffe", "cryptography", "typer"}),
        ("import agent_client.cli.main", {"grpc", "spiffe", "cryptography"}),
        ("from agent_client import SyncIssuerClient, IssuerClient", {"typer", "rich", "issuer", "pydantic", "yaml"}),
    ],
)
def test_an_import_costs_only_what_it_is_for(statement: str, kept_out: set[str]) -> None:
    program = f"{statement}\nimport sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not kept_out & set(loaded)
