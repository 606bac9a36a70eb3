import pytest

from issuer.core.renewal import renew_at


@pytest.mark.parametrize(
    ("lifetime", "after"),
    [(3600, 720), (300, 60), (299, 149), (60, 30), (10, 5)],
)
def test_long_lived_tokens_survive_most_of_their_life_without_the_issuer(lifetime: int, after: int) -> None:
    assert renew_at(1000, 1000 + lifetime) == 1000 + after
