import pytest

from bench.looped_issuer import PARTS


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_that_are_timed_exist(part: str) -> None:
    owner, name = PARTS[part]
    assert callable(getattr(owner, name))
