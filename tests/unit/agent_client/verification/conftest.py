"""An issuer's tokens and a verifier that knows its keys, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.guarded_api import Api, api

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api(tmp_path_factory.mktemp("issuer") / "signing.pem") as ready:
        yield ready
