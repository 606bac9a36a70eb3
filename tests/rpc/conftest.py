"""A real issuer as a child process, on the embedded authority; called with plain grpc, with nothing of ours between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One issuer for the module's tests that change nothing about it."""
    with Deployment(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture
def own_deployment(tmp_path: Path) -> Iterator[Deployment]:
    """An issuer of the test's own, to be broken."""
    with Deployment(tmp_path) as running:
        yield running
