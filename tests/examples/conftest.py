"""What the examples' README starts first, and what it exports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.examples import PATH, commands, serving

from issuer_testing.development import Development, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer_testing.issuer_process import Identity

Environment = dict[str, str]


@pytest.fixture(scope="session")
def development() -> Iterator[Development]:
    """What `issuer dev up --source embedded` starts."""
    with Development(Source.EMBEDDED, say=lambda _: None) as running:
        yield running


def environment_of(development: Development, workload: Identity) -> Environment:
    return {
        "HOME": os.environ["HOME"],
        "PATH": PATH,
        "SPIFFE_ENDPOINT_SOCKET": workload.socket,
        "SPIFFE_ISSUER_ADDRESS": development.issuer.address,
        "ISSUER": development.issuer.url,
        "INSECURE_DEV": "1",
    }


@pytest.fixture
def settler(development: Development) -> Environment:
    """A terminal of the workload that may use the ledger."""
    return environment_of(development, development.settler)


@pytest.fixture
def reader(development: Development) -> Environment:
    """A terminal of a workload that may not."""
    return environment_of(development, development.reader)


@pytest.fixture
def ledger(settler: Environment, tmp_path: Path) -> Iterator[str]:
    """The FastAPI resource server's address."""
    with serving(commands()["ledger_fastapi.py"], settler, tmp_path / "ledger.log") as address:
        yield address
