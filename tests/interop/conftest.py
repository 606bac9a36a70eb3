"""An issuer to verify tokens of, and tokens that nobody may accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.published import Published, published_issuer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", params=["", "/sts/eu"], ids=["root", "path"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """The issuer, once with and once without a path in its URL."""
    with published_issuer(request.param, tmp_path_factory.mktemp("issuer") / "signing.pem") as published:
        yield published


@pytest.fixture(params=["expired", "tampered", "foreign"])
def bad_token(request: pytest.FixtureRequest, published: Published, tmp_path: Path) -> str:
    """A token that no verifier may accept."""
    if request.param == "foreign":
        return published.foreign_token(tmp_path / "signing.pem")
    return published.expired_token() if request.param == "expired" else published.tampered_token()
