"""The only thing to say: which policy the issuer runs with."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def issuer_policy():
    return Path(__file__).with_name("policy.yaml")
