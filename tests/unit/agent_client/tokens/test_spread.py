"""A thousand tokens that came within a second are renewed without a burst. In simulated time."""

from __future__ import annotations

import pytest
from support.renewal_simulation import Simulation, largest_second

MINUTES_10 = 600


@pytest.mark.parametrize("start", [0.0, 0.27, 0.5, 0.81, 0.999])
def test_no_second_has_more_than_three_times_its_share_of_renewals(start: float) -> None:
    simulation = Simulation(keys=1000, lifetime=300)
    simulation.cache._spread._position = start
    simulation.run(MINUTES_10)
    assert sum(simulation.begun.values()) > 10 * 1000
    assert largest_second(simulation.begun, MINUTES_10) <= 3
    assert simulation.refused == 0
    assert simulation.used > 590 * 1000
