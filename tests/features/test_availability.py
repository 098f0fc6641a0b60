"""What was not yet known is hidden, however many seats and years one call is about."""

from dataclasses import fields

import numpy as np

from features.availability import hide_unavailable
from features.history import DAY, Events


def events_of(seat: int, at: int, available: int) -> Events:
    columns = {field.name: np.zeros(1, np.int64) for field in fields(Events)}
    return Events(**{**columns, "seat": np.array([seat]), "at": np.array([at]), "available": np.array([available])})


def test_one_call_may_be_about_more_seats_and_years_than_their_product_has_bits() -> None:
    """Half a million seats, each looked at in 1990 and 2026; one's event of 2000 was told of after that."""
    seats, early, late = 500_000, 7_300 * DAY, 20_500 * DAY
    seat = np.repeat(np.arange(seats), 2)
    as_of = np.tile(np.array([early, late]), seats)
    known_late = events_of(seats - 7, 11_000 * DAY, late + DAY)

    _, moved = hide_unavailable(known_late, seat=seat, end=as_of, as_of=as_of)

    assert np.flatnonzero(moved != seat).tolist() == [2 * (seats - 7) + 1]
