"""A token file over time, and with clocks that disagree."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.kept_tokens import ISSUED_AT, token

from agent_client.cli.kept_file import RETRY_SECONDS, KeptFile
from agent_client.cli.token_file import TokenFile
from agent_client.cli.token_forms import FileForm

if TYPE_CHECKING:
    from pathlib import Path

LIFE = timedelta(seconds=300)
BEHIND = [timedelta(0), timedelta(hours=1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "token"


@pytest.fixture
def kept(path: Path) -> KeptFile:
    return KeptFile(TokenFile(path), FileForm.RAW)


@pytest.mark.parametrize("behind", BEHIND, ids=str)
def test_a_token_is_taken_away_at_its_end_however_far_this_clock_is_behind(
    kept: KeptFile, path: Path, behind: timedelta
) -> None:
    now = ISSUED_AT - behind
    kept.put(token(lifetime=300), now)
    kept.tend(now + LIFE - timedelta(seconds=1))
    assert path.exists()
    kept.tend(now + LIFE)
    assert not path.exists()
    assert kept.held is None


@pytest.mark.parametrize("behind", BEHIND, ids=str)
def test_a_token_that_could_not_be_written_is_written_later_until_its_end(
    kept: KeptFile, path: Path, behind: timedelta
) -> None:
    now = ISSUED_AT - behind
    shutil.rmtree(path.parent)
    assert not kept.renew(token(lifetime=300), now)
    assert kept.tend(now + LIFE / 2) == RETRY_SECONDS
    path.parent.mkdir()
    kept.tend(now + LIFE / 2)
    assert path.exists()
    kept.tend(now + LIFE)
    assert not path.exists()
    shutil.rmtree(path.parent)
    assert not kept.renew(token(lifetime=300), now)
    path.parent.mkdir()
    kept.tend(now + LIFE)
    assert not path.exists()


def test_an_expired_token_stays_where_that_is_wanted(path: Path) -> None:
    kept = KeptFile(TokenFile(path), FileForm.RAW, keep_expired=True)
    kept.put(token(lifetime=300), ISSUED_AT)
    kept.tend(ISSUED_AT + 2 * LIFE)
    assert path.exists()
