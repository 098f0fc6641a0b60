import numpy as np
import pytest

from features.catalogue import NUMERIC
from features.interventions import SHIPPED, FailureMode, load_interventions
from features.overview import overview
from features.segments import Reading, SeatModes

CATALOGUE = load_interventions(SHIPPED)


def overview_of(p):
    n = len(p)
    nothing = np.full(n, np.nan)
    modes = SeatModes(
        np.zeros(n, bool), dict.fromkeys(FailureMode, nothing), np.full((n, len(NUMERIC)), np.nan), nothing, nothing
    )
    return overview(p, modes, interventions=CATALOGUE, sources=["hand"])  # fmt: skip


@pytest.mark.parametrize(("users", "said"), [(0, Reading.BROAD_STALL), (30, Reading.SURFACE_STALL)])
def test_a_group_that_nobody_uses_has_stalled_broadly(people, users, said):
    crowd = people.People()
    for number in range(30):
        crowd.seat(f"s{number}", session=[95] if number < users else [])
    o = overview_of(crowd.population(100))
    assert o.whole.reading is said
    assert (o.whole.metrics["depth"] is None) == (users == 0)
