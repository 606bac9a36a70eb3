from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent_client.remedies import REMEDIES
from issuer_api.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[3]


def test_every_reason_of_the_contract_has_a_remedy_and_no_other() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 - an enum's names
    assert set(REMEDIES) == names - {"UNSPECIFIED"}


def test_a_remedy_is_one_sentence() -> None:
    for reason, remedy in REMEDIES.items():
        assert remedy[0].isupper(), reason
        assert remedy.endswith("."), reason
        assert ". " not in remedy, reason


def test_the_page_about_errors_is_what_its_sources_say() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/generate-errors-doc", "--check"], check=False, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr
