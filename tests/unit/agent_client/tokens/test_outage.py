"""An outage of four fifths of a token's lifetime fails no request, wherever it begins. In simulated time."""

from __future__ import annotations

import pytest
from support.renewal_simulation import Outage, Simulation, starts

LIFETIME = 300
OUTAGE = 0.8 * LIFETIME


def simulated(position: float, outage: Outage | None, keys: int = 1) -> Simulation:
    simulation = Simulation(keys, LIFETIME, outage, use_every=0.25)
    simulation.cache._spread._position = position
    return simulation


@pytest.mark.parametrize("hangs", [False, True], ids=["unreachable", "hangs"])
def test_no_request_fails_wherever_in_its_spread_a_token_is(*, hangs: bool) -> None:
    """The outage begins the moment before the token would have been renewed: there is no worse one."""
    for position in starts(50):
        undisturbed = simulated(position, None)
        undisturbed.run(0.5)
        begins = undisturbed.cache.next_due()
        simulation = simulated(position, Outage(begins, begins + OUTAGE, hangs))
        simulation.run(begins + OUTAGE + 60)
        assert simulation.refused == 0
        assert simulation.used > 4 * OUTAGE


@pytest.mark.parametrize("hangs", [False, True], ids=["unreachable", "hangs"])
@pytest.mark.parametrize("begins", [1.5, 29.9, 30.1, 40.0, 53.9])
def test_no_request_of_hundreds_of_keys_fails(begins: float, *, hangs: bool) -> None:
    """All of them want to be renewed at the outage's end, and few may be at once."""
    simulation = simulated(0.3, Outage(begins, begins + OUTAGE, hangs), keys=500)
    simulation.run(begins + OUTAGE + 30)
    assert simulation.refused == 0


def test_a_longer_outage_is_noticed() -> None:
    """The simulation can fail."""
    simulation = simulated(0.3, Outage(20.0, 320.0, hangs=False))
    simulation.run(330)
    assert simulation.refused > 0
